"""Pieces of YAML text: what a person will read and change is written, comments and all, and not dumped."""

from __future__ import annotations

import json
import re


def commented(text: str, width: int = 0) -> str:
    """Return lines as comments at an indentation."""
    return "".join(f"{' ' * width}# {line}".rstrip() + "\n" for line in text.splitlines())


def indented(text: str, width: int) -> str:
    """Return lines at an indentation."""
    return "\n".join(" " * width + line for line in text.splitlines())


def scalar(text: str) -> str:
    """Return text as a scalar, quoted where it would be another one without."""
    is_plain = re.fullmatch(r"[A-Za-z][\w ./,=-]*", text, re.ASCII) and not text.endswith((" ", "."))
    is_word = text.lower() in {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    if is_plain and not is_word:
        return text
    is_readable_so = text.isascii() and text.isprintable() and '"' in text
    return (
        "'{}'".format(text.replace("'", "''"))
        if is_readable_so
        else json.dumps(text, ensure_ascii=not text.isprintable())
    )
