"""The page of each rule: what it finds, the log line a user sees, why it fails on Lambda, and how to mend it.

The pages are the files `data/rules/<rule>.md`; `docs/reference/rules.md` is made of them by `tools/generate_rules.py`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

_PAGE: Final = re.compile(
    r"# `(?P<name>[a-z0-9-]+)`\n\n"
    r"(?:(?!\*\*)(?P<summary>[^\n]+)\n\n)?"
    r"\*\*What\.\*\* (?P<what>.+?)\n\n"
    r"\*\*In the log\.\*\* (?P<log>.+?)\n\n"
    r"\*\*Why\.\*\* (?P<why>.+?)\n\n"
    r"\*\*Mend\.\*\* (?P<mend>.+?)\n",
    re.DOTALL,
)


class Page(NamedTuple):
    """A rule's page; every part is Markdown, its lines wrapped as in the file."""

    name: str
    summary: str
    """One sentence on one line, with its full stop."""
    what: str
    log: str
    why: str
    mend: str
    text: str
    """The whole file, heading included."""


@cache
def page(rule: str) -> Page:
    """Return the page of a rule; `KeyError` when there is no such rule, `ValueError` when its page lacks a part."""
    file = files("manylambda").joinpath("data", "rules", f"{rule}.md")
    if not re.fullmatch(r"[a-z0-9-]+", rule) or not file.is_file():  # no path gets past the pattern
        raise KeyError(rule)
    text = file.read_text(encoding="utf-8")
    found = _PAGE.fullmatch(text)
    if found is None or found["name"] != rule:
        raise ValueError(f"the page of `{rule}` is not as pages are: heading, summary, What, In the log, Why, Mend")
    parts = found.groupdict()
    return Page(**{**parts, "summary": parts["summary"] or _first_sentence(parts["what"]), "text": text})


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]
