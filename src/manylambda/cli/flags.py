"""The settings as flags: a command names those it takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping

    from manylambda.config import Settings

_SHORT: Final = {"targets": "-t", "requirements": "-r", "output": "-o", "lock_output": "-o"}
_METAVARS: Final = {
    "output": "DIR",
    "artifact": "PATH",
    "lock_output": "FILE",
    "requirements": "FILE",
    "lock": "FILE",
    "extras": "NAME",
    "groups": "NAME",
    "exclude": "NAME",
    "layers": "ZIP",
    "allow_sdist": "NAME",
    "sdist_image": "REF",
    "sysroot": "DIR",
    "build_constraints": "REQUIREMENT",
    "config_settings": "NAME:KEY=VALUE",
    "build_environment": "NAME:KEY=VALUE",
    "image_base": "REF",
    "image_output": "PLACE",
    "image_environment": "KEY=VALUE",
    "image_labels": "KEY=VALUE",
    "handler": "MODULE.FUNCTION",
    "jobs": "N",
    "ignore": "RULE[:GLOB]",
    "files_sources": "FROM[=TO]",
    "files_include": "GLOB",
    "files_exclude": "GLOB",
    "files_executable": "GLOB",
}
_BRIEF: Final = {
    "targets": "runtime and architecture: python3.13-arm64",
    "kind": "what is made (zip)",
    "output": "the folder packages are written to (dist)",
    "lock_output": "the file that is written (pylock.toml)",
    "requirements": "requirements instead of the project's own",
    "lock": "the lock to honour",
    "extras": "an extra of the project to ship too",
    "groups": "a dependency group to ship too",
    "exclude": "a distribution to leave out",
    "exclude_provided": "leave out what the runtime has: boto3",
    "layers": "a layer that the function is used with",
    "allow_sdist": "what may be built from source; all for any",
    "handler": "what Lambda will call",
    "audit": "write even what will not load",
    "ignore": "findings that do not count",
    "trial": "import every module of what was written",
    "offline": "use only what is in the cache",
    "image_output": "oci:DIR, docker:FILE or registry:REF",
}
"""In a few words; a setting that has none here is one that few need."""
COMPILING: Final = frozenset(
    {
        "sdist_engine", "sdist_image", "sysroot", "build_constraints", "config_settings", "build_environment",
        "download_python",
    }
)  # fmt: skip
RESOLVING: Final = frozenset(
    {"targets", "requirements", "lock", "extras", "groups", "allow_sdist", "allow_linux_wheels", "offline", *COMPILING}
)


_GROUPS: Final = {
    "what goes in": (
        "requirements", "lock", "extras", "groups", "exclude", "exclude_provided", "allow_sdist",
    ),
    "where it goes": ("output", "image_output", "artifact", "lock_output", "name"),
    "checks": ("handler", "layers", "audit", "fail_on", "ignore", "trial"),
    "source distributions": tuple(sorted(COMPILING)),
    "container images": (
        "image_base", "image_environment", "image_labels", "split_layers", "image_manifest",
        "image_plain_http",
    ),
    "files of the project": ("files_sources", "files_include", "files_exclude", "files_executable"),
    "rarely needed": ("layer_layout", "scripts", "package", "engine", "allow_linux_wheels", "jobs"),
}  # fmt: skip
_GROUP_OF: Final = {attribute: title for title, attributes in _GROUPS.items() for attribute in attributes}


def settings_of(
    options: argparse.Namespace, found: Mapping[str, object] | None = None, *, needs_target: bool = True
) -> Settings:
    """Return the settings of the project that is named, with the flags that were given, and `found` where not."""
    from pathlib import Path

    from manylambda import config
    from manylambda.errors import RequestError

    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise RequestError("the working folder does not exist any more", hint="change to another one") from error
    known = {field.attribute for field in config.FIELDS}
    flags: dict[str, Any] = {**(found or {}), **{key: value for key, value in vars(options).items() if key in known}}
    return config.load(Path(options.project), os.environ, flags, needs_target=needs_target)


def configuration_options(parser: argparse.ArgumentParser) -> None:
    """Let a command that is about a package name whose configuration counts."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--project", default=".", metavar="DIR", help="whose configuration says what the flags do not (.)"
    )
    where.add_argument("--no-config", action="store_true", help="read no configuration: only the flags count")


def summary_option(parser: argparse.ArgumentParser) -> None:
    """Let a command tell its results in a second place, for a CI that shows them."""
    from manylambda.cli.arguments import Told

    told = "append the results as Markdown to FILE, such as $GITHUB_STEP_SUMMARY"
    parser.add_argument("--summary", metavar="FILE", help=Told(told, None))


def project_options(
    parser: argparse.ArgumentParser,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    rare: Collection[str] = (),
) -> None:
    """Give a command its project and the settings as flags."""
    parser.add_argument("project", nargs="?", default=".", metavar="PROJECT", help="the project's folder (.)")
    field_options(parser, only=only, without=without, rare=rare)


def field_options(
    parser: argparse.ArgumentParser,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    told: Mapping[str, str] | None = None,
    rare: Collection[str] = (),
) -> None:
    """Give a command the settings as flags; those that are not used stay out of the parsed options.

    `told` says what some do for this command, `rare` names those that its brief help has no room for.
    """
    import argparse

    from manylambda.cli.arguments import Told
    from manylambda.config import FIELDS, Shape

    titles = list(_GROUPS)
    groups: dict[str | None, argparse._ActionsContainer] = {None: parser}
    for field in sorted(
        FIELDS, key=lambda one: titles.index(_GROUP_OF[one.attribute]) if one.attribute in _GROUP_OF else -1
    ):
        if field.attribute in without or (only is not None and field.attribute not in only):
            continue
        flags = [_SHORT[field.attribute], field.flag] if field.attribute in _SHORT else [field.flag]
        more: dict[str, Any] = {}
        match field.shape:
            case Shape.SWITCH:
                more["action"] = "store_false" if field.flag.startswith("--no-") else "store_true"
            case Shape.AUTO_SWITCH:
                more["action"] = argparse.BooleanOptionalAction
            case Shape.CHOICE:
                more["choices"] = field.choices
            case _:
                more["metavar"] = _METAVARS.get(field.attribute, field.flag.lstrip("-").upper())
                if field.shape.is_list:
                    more["action"] = "append"
        summary = field.summary[0].lower() + field.summary[1:]
        if field.flag == "--no-audit":
            summary = "write the package even if it will not load"
        summary = (told or {}).get(field.attribute) or Told(
            summary, None if field.attribute in rare else _BRIEF.get(field.attribute)
        )
        title = _GROUP_OF.get(field.attribute)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(*flags, dest=field.attribute, default=argparse.SUPPRESS, help=summary, **more)
