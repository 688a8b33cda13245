"""What of a project is left out of a package unless `include` names it: a table, and nothing else.

Each row says in one line why. A row without a reason that would hold for every project does not belong here: what
is left out wrongly fails at run time, what is kept wrongly costs a few bytes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.sources.gitignore import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable


class Default(NamedTuple):
    """Files of one kind that no function needs."""

    reason: str
    patterns: tuple[str, ...]
    """In the syntax of .gitignore, relative to the source folder."""
    only_files: bool = False
    """A folder of that name is kept: it may be a package of the user's."""
    is_closed: bool = False
    """Folders that can be huge: entered only when `include` spells out a path below them."""
    unless_certificate: bool = False
    """Kept when the text holds certificates and no private key: databases are reached with such bundles."""


DEFAULTS: Final = (
    Default(
        "version control",
        (".git", ".hg/", ".svn/", ".bzr/", ".jj/", "_darcs/", "CVS/"),
        is_closed=True,
    ),
    Default(
        "version control",
        (".gitignore", ".gitattributes", ".gitmodules", ".git-blame-ignore-revs", ".mailmap", ".hgignore", ".hgtags"),
        only_files=True,
    ),
    Default("installed JavaScript packages", ("node_modules/",), is_closed=True),
    Default(
        "cache",
        (
            "__pycache__/",
            "*.py[co]",
            ".cache/",
            ".hypothesis/",
            ".ipynb_checkpoints/",
            ".mypy_cache/",
            ".nox/",
            ".pants.d/",
            ".pyre/",
            ".pytest_cache/",
            ".pytype/",
            ".ruff_cache/",
            ".tox/",
            ".uv-cache/",
            "htmlcov/",
        ),
        is_closed=True,
    ),
    Default("cache", (".coverage", ".coverage.*", ".dmypy.json"), only_files=True),
    Default(
        "output of another tool",
        (".aws-sam/", "cdk.out/", ".serverless/", ".terraform/", ".chalice/deployments/", "*.egg-info/", ".eggs/"),
        is_closed=True,
    ),
    Default("editor settings", (".idea/", ".vscode/", ".vs/", ".zed/")),
    Default("editor settings", (".DS_Store", "Thumbs.db", "desktop.ini", "*.swp", ".editorconfig"), only_files=True),
    Default("secret", (".aws/", ".ssh/", ".gnupg/", ".kube/", ".docker/", ".gcloud/", ".azure/")),
    Default(
        "secret",
        (
            ".env",
            ".env.*",
            ".env-*",
            ".env_*",
            ".envrc",
            "*.env",
            "*.key",
            "*.p12",
            "*.pfx",
            "*.p8",
            "*.pkcs12",
            "*.jks",
            "*.keystore",
            "*.kdbx",
            "*.ppk",
            "id_rsa*",
            "id_dsa*",
            "id_ecdsa*",
            "id_ed25519*",
            "credentials",
            "client_secret*.json",
            ".git-credentials",
            ".htpasswd",
            ".netrc",
            "_netrc",
            ".npmrc",
            ".pgpass",
            ".pypirc",
            ".s3cfg",
            "*.tfstate",
            "*.tfstate.*",
            "*.tfvars",
            "*.tfvars.json",
        ),
        only_files=True,
    ),
    Default("secret", ("*.pem",), only_files=True, unless_certificate=True),
    Default("tests", ("/tests/", "/test/")),
    Default("tests", ("/conftest.py", "/pytest.ini", "/tox.ini", "/noxfile.py", "/.coveragerc"), only_files=True),
    Default("continuous integration", ("/.github/", "/.gitlab/", "/.circleci/", "/.buildkite/")),
    Default(
        "continuous integration",
        (
            "/.gitlab-ci.yml",
            "/.travis.yml",
            "/.pre-commit-config.yaml",
            "/Jenkinsfile",
            "/bitbucket-pipelines.yml",
            "/buildspec.yml",
            "/buildspec.yaml",
        ),
        only_files=True,
    ),
    Default(
        "read by the build, not by the function",
        (
            "/pyproject.toml",
            "/manylambda.toml",
            "/pylock.toml",
            "/pylock.*.toml",
            "/uv.lock",
            "/uv.toml",
            "/.python-version",
            "/poetry.lock",
            "/poetry.toml",
            "/pdm.lock",
            "/pdm.toml",
            "/.pdm-python",
            "/Pipfile",
            "/Pipfile.lock",
            "/requirements*.txt",
            "/requirements*.in",
            "/constraints*.txt",
            "/setup.py",
            "/setup.cfg",
            "/MANIFEST.in",
            "/template.yaml",
            "/template.yml",
            "/samconfig.toml",
            "/samconfig.yaml",
            "/cdk.json",
            "/cdk.context.json",
            "/serverless.yml",
            "/serverless.yaml",
            "/Makefile",
            "/pants.toml",
            "/BUILD",
            "/BUILD.bazel",
            "/MODULE.bazel",
            "/Dockerfile",
            "/.dockerignore",
            "/build-image.sh",
        ),
        only_files=True,
    ),
    Default("read by the build, not by the function", ("*.tf", "*.tf.json", ".terraform.lock.hcl"), only_files=True),
    Default("read by the build, not by the function", ("/wheels.lambda/",)),
)

# A project folder that is itself a virtual environment: its own folders are not the user's.
ENVIRONMENT_AT_ROOT: Final = Default(
    "virtual environment",
    ("/pyvenv.cfg", "/bin/", "/include/", "/lib/", "/lib64", "/share/", "/Scripts/", "/Lib/", "/Include/"),
    is_closed=True,
)


class Defaults:
    """The table, ready to be asked."""

    def __init__(self, rows: tuple[Default, ...]) -> None:
        self._for_files = _Compiled(rows)
        self._for_folders = _Compiled(row for row in rows if not row.only_files)

    def find(self, path: bytes, *, is_folder: bool) -> Default | None:
        """Return the row that leaves `path` out, if there is one."""
        compiled = self._for_folders if is_folder else self._for_files
        pattern = compiled.rules.match(path, is_folder=is_folder)
        return None if pattern is None else compiled.rows[pattern.line - 1]


@cache
def compiled_defaults(*, is_environment: bool) -> Defaults:
    """Compile the table, once a process. `is_environment`: the source folder is itself an environment."""
    return Defaults((*DEFAULTS, ENVIRONMENT_AT_ROOT) if is_environment else DEFAULTS)


class _Compiled:
    def __init__(self, rows: Iterable[Default]) -> None:
        pairs = [(row, pattern) for row in rows for pattern in row.patterns]
        self.rules = Rules.from_lines((pattern for _, pattern in pairs), "defaults")
        self.rows = tuple(row for row, _ in pairs)
