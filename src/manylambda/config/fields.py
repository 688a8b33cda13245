"""The table of settings: every one, in every place it can be given.

Reading, the environment, the documentation and the JSON schema derive from it (`tools/generate_configuration.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

PREFIX: Final = "MANYLAMBDA_"


class Shape(Enum):
    """What a setting looks like; the value is how the documentation says it."""

    TARGETS = "list of targets"
    NAMES = "list of names"
    PATHS = "list of paths"
    GLOBS = "list of patterns"
    SOURCES = "list of folders, or table of folders"
    IGNORES = "list of rules, each with what it is about and why"
    REQUIREMENTS = "list of requirements"
    TABLES = "table of distributions, each with a table of text"
    PAIRS = "table of text"
    IMAGE = "image"
    PATH = "path"
    TEXT = "text"
    CHOICE = "one word"
    COUNT = "number"
    SWITCH = "true or false"
    AUTO_SWITCH = '"auto", true or false'

    @property
    def is_list(self) -> bool:
        """Whether a flag of it may be given several times."""
        return self in {
            Shape.TARGETS,
            Shape.NAMES,
            Shape.PATHS,
            Shape.GLOBS,
            Shape.SOURCES,
            Shape.IGNORES,
            Shape.REQUIREMENTS,
            Shape.TABLES,
            Shape.PAIRS,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One setting, in every place it can be given."""

    key: str
    """In `[tool.manylambda]`; a `.` leads into a table."""
    attribute: str
    """In `Settings`, and in the mapping of flags."""
    flag: str
    shape: Shape
    default: str
    """As the documentation says it."""
    summary: str
    """What it does, in one sentence without a full stop."""
    example: str
    """A value as TOML."""
    choices: tuple[str, ...] = ()
    former: str | None = None
    """The key it had before, which is still read."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return _variable(self.key)

    @property
    def former_variable(self) -> str | None:
        """The environment variable it had before."""
        return _variable(self.former) if self.former else None


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "_").replace("-", "_").upper()


FIELDS: Final = (
    Field(
        key="targets", attribute="targets", flag="--target", shape=Shape.TARGETS, default="none: one must be given",
        summary="Runtime and architecture of each package to make", example='["python3.13-arm64", "python3.12-x86_64"]',
    ),
    Field(
        key="kind", attribute="kind", flag="--kind", shape=Shape.CHOICE, default='"zip"',
        choices=("zip", "layer", "dir", "image"),
        summary="A function's zip, a layer with its dependencies, a folder, or a container image",
        example='"layer"',
    ),
    Field(
        key="output", attribute="output", flag="--output", shape=Shape.PATH, default='"dist"',
        summary="The folder packages are written to; it is never part of a package", example='"build/lambda"',
    ),
    Field(
        key="artifact", attribute="artifact", flag="--artifact", shape=Shape.PATH, default="a name in the output",
        summary="The file or folder that a package is written to, in place of a name in the output; `{target}` stands "
        "for the target",
        example='"build/api-{target}.zip"',
    ),
    Field(
        key="name", attribute="name", flag="--name", shape=Shape.TEXT,
        default="the name in `pyproject.toml`, or of the folder",
        summary="The first part of the file name of a package", example='"orders-api"',
    ),
    Field(
        key="requirements", attribute="requirements", flag="--requirement", shape=Shape.PATHS,
        default="the project's own files",
        summary="Requirements files that are used instead of what the project has; `-` is standard input",
        example='["requirements/lambda.txt"]',
    ),
    Field(
        key="lock", attribute="lock", flag="--lock", shape=Shape.PATH, default="the most exact lock of the project",
        summary="The lock to honour", example='"pylock.lambda.toml"',
    ),
    Field(
        key="lock-output", attribute="lock_output", flag="--output", shape=Shape.PATH,
        default='"pylock.toml"', summary="The file `manylambda lock` writes", example='"pylock.lambda.toml"',
    ),
    Field(
        key="extras", attribute="extras", flag="--extra", shape=Shape.NAMES, default="[]",
        summary="Extras of the project whose dependencies are shipped too", example='["postgres"]',
    ),
    Field(
        key="groups", attribute="groups", flag="--group", shape=Shape.NAMES, default="[]",
        summary="Dependency groups of the project that are shipped too", example='["lambda"]',
    ),
    Field(
        key="exclude-distributions", attribute="exclude", flag="--exclude", shape=Shape.NAMES, default="[]",
        summary="Distributions that are left out, with what only they need", example='["boto3", "pandas-stubs"]',
    ),
    Field(
        key="exclude-provided", attribute="exclude_provided", flag="--exclude-provided", shape=Shape.SWITCH,
        default="false", summary="Leave out what the runtime already has, such as boto3", example="true",
    ),
    Field(
        key="layer-layout", attribute="layer_layout", flag="--layer-layout", shape=Shape.CHOICE, default='"python"',
        choices=("python", "site-packages"),
        summary="Where a layer holds its files: `python/` or `python/lib/python3.X/site-packages/`",
        example='"site-packages"',
    ),
    Field(
        key="layers", attribute="layers", flag="--layer", shape=Shape.PATHS, default="[]",
        summary="Zips of the layers the function is used with: searched by the audit and counted to the size limit",
        example='["dist/common-layer-python3.13-arm64.zip"]',
    ),
    Field(
        key="scripts", attribute="scripts", flag="--scripts", shape=Shape.SWITCH, default="false",
        summary="Ship the console scripts of distributions in `bin/`", example="true",
    ),
    Field(
        key="package", attribute="package", flag="--package", shape=Shape.AUTO_SWITCH, default='"auto"',
        summary="Whether the project itself is built into a wheel; `auto`: when it says it is a package",
        example="false",
    ),
    Field(
        key="engine", attribute="engine", flag="--engine", shape=Shape.CHOICE, default='"direct"',
        choices=("direct", "container"),
        summary="What lays distributions out: manylambda, from their wheels, or pip in a container, where source "
        "distributions are then compiled too",
        example='"container"',
    ),
    Field(
        key="allow-sdist", attribute="allow_sdist", flag="--allow-sdist", shape=Shape.NAMES, default="[]",
        summary="Distributions that may be built from source; `all` for any", example='["odd-package"]',
    ),
    Field(
        key="sdist.engine", attribute="sdist_engine", flag="--sdist-engine", shape=Shape.CHOICE, default='"auto"',
        choices=("auto", "zig", "container"),
        summary="What compiles source distributions: zig on this host, or a container; `auto` is zig where that works",
        example='"container"',
    ),
    Field(
        key="sdist.image", attribute="sdist_image", flag="--image", shape=Shape.TEXT,
        default="SAM's build image of the runtime",
        summary="The container image that source distributions are compiled in, and that pip installs in",
        example='"public.ecr.aws/sam/build-python3.13:latest"',
    ),
    Field(
        key="sdist.sysroot", attribute="sysroot", flag="--sysroot", shape=Shape.PATH, default="none",
        summary="A root file system of the target, whose headers and libraries source distributions may use; what the "
        "runtime lacks of it is shipped",
        example='"build/sysroot"',
    ),
    Field(
        key="sdist.constraints", attribute="build_constraints", flag="--build-constraint", shape=Shape.REQUIREMENTS,
        default="[]", summary="Versions that build requirements are held to", example='["setuptools<81"]',
    ),
    Field(
        key="sdist.config-settings", attribute="config_settings", flag="--config-setting", shape=Shape.TABLES,
        default="{}", summary="What build backends are told, by distribution; as a flag `NAME:KEY=VALUE`",
        example='{ pillow = { raqm = "disable" } }',
    ),
    Field(
        key="sdist.environment", attribute="build_environment", flag="--build-env", shape=Shape.TABLES, default="{}",
        summary="Environment variables of builds, by distribution; as a flag `NAME:KEY=VALUE`",
        example='{ pyyaml = { PYYAML_FORCE_LIBYAML = "1" } }',
    ),
    Field(
        key="sdist.download-python", attribute="download_python", flag="--download-python", shape=Shape.SWITCH,
        default="false", summary="Let uv download the target's CPython where compiling needs one and there is none",
        example="true",
    ),
    Field(
        key="image.base", attribute="image_base", flag="--base", shape=Shape.IMAGE,
        default="Lambda's base image of the runtime",
        summary="The image that a container image is made from: a reference, `oci:FOLDER` or `docker:FILE`",
        example='"public.ecr.aws/lambda/python:3.13-arm64"',
    ),
    Field(
        key="image.output", attribute="image_output", flag="--image-output", shape=Shape.IMAGE,
        default="`oci:`, a folder in the output",
        summary="Where a container image goes: `oci:FOLDER`, `docker:FILE.tar` or `registry:REFERENCE`; `{target}` "
        "stands for the target",
        example='"registry:123456789012.dkr.ecr.eu-central-1.amazonaws.com/orders-api:1.4"',
    ),
    Field(
        key="image.environment", attribute="image_environment", flag="--env", shape=Shape.PAIRS, default="{}",
        summary="Environment variables of a container image; as a flag `KEY=VALUE`", example='{ LOG_LEVEL = "info" }',
    ),
    Field(
        key="image.labels", attribute="image_labels", flag="--label", shape=Shape.PAIRS, default="{}",
        summary="Labels of a container image; as a flag `KEY=VALUE`",
        example='{ "org.opencontainers.image.source" = "https://github.com/me/orders-api" }',
    ),
    Field(
        key="image.split-layers", attribute="split_layers", flag="--split-layers", shape=Shape.SWITCH, default="false",
        summary="Give each large distribution an image layer of its own", example="true",
    ),
    Field(
        key="image.manifest", attribute="image_manifest", flag="--manifest", shape=Shape.CHOICE, default='"oci"',
        choices=("oci", "docker"), summary="The format of a container image: OCI's, or Docker's version 2, schema 2",
        example='"docker"',
    ),
    Field(
        key="image.plain-http", attribute="image_plain_http", flag="--plain-http", shape=Shape.SWITCH, default="false",
        summary="Use no TLS with the registry that a container image goes to, or that its base is in where it goes to "
        "none, also beyond this machine",
        example="true",
    ),
    Field(
        key="allow-linux-wheels", attribute="allow_linux_wheels", flag="--allow-linux-wheels", shape=Shape.SWITCH,
        default="false", summary="Accept wheels tagged `linux_x86_64` or `linux_aarch64`; the audit decides then",
        example="true",
    ),
    Field(
        key="handler", attribute="handler", flag="--handler", shape=Shape.TEXT, default="not checked",
        summary="What Lambda will call; the audit looks for it", example='"app.lambda_handler"',
    ),
    Field(
        key="audit", attribute="audit", flag="--no-audit", shape=Shape.SWITCH, default="true",
        summary="Check that a package will load before it is written", example="false",
    ),
    Field(
        key="audit.fail-on", attribute="fail_on", flag="--fail-on", shape=Shape.CHOICE, default='"error"',
        choices=("error", "warning"), summary="The severity of a finding that ends in exit status 1",
        example='"warning"', former="fail-on",
    ),
    Field(
        key="audit.ignore", attribute="ignore", flag="--ignore", shape=Shape.IGNORES, default="[]",
        summary="Findings that do not count: a rule, or `RULE:GLOB` for its findings about a distribution or path",
        example='["executable-stack", { rule = "library-missing", match = "lightgbm", reason = "we add libgomp" }]',
    ),
    Field(
        key="trial", attribute="trial", flag="--trial", shape=Shape.SWITCH, default="false",
        summary="Import every module of a package that was written, in an execution environment", example="true",
    ),
    Field(
        key="offline", attribute="offline", flag="--offline", shape=Shape.SWITCH, default="false",
        summary="Use only what is in the cache", example="true",
    ),
    Field(
        key="jobs", attribute="jobs", flag="--jobs", shape=Shape.COUNT, default="the number of processors",
        summary="How many packages are made at once, at most", example="4",
    ),
    Field(
        key="files.sources", attribute="files_sources", flag="--source", shape=Shape.SOURCES,
        default="the project folder, or its `src`",
        summary="Folders that become the root of the package, or a folder in it",
        example='["src", { from = "../shared/common", to = "common" }]',
    ),
    Field(
        key="files.include", attribute="files_include", flag="--include-files", shape=Shape.GLOBS, default="[]",
        summary="Files that are taken although .gitignore or a default leaves them out",
        example='["models/**", "/settings.env"]',
    ),
    Field(
        key="files.exclude", attribute="files_exclude", flag="--exclude-files", shape=Shape.GLOBS, default="[]",
        summary="Files that are left out, whatever else is said", example='["*.md", "/docs/"]',
    ),
    Field(
        key="files.executable", attribute="files_executable", flag="--executable", shape=Shape.GLOBS, default="[]",
        summary="Files with mode 0755 although they neither begin with `#!` nor are ELF files", example='["bin/*"]',
    ),
)  # fmt: skip
