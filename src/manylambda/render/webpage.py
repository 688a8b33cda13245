"""What our HTML pages have in common: one file without requests, no clock, equal bytes for equal input.

The pages stand without their script; the script filters, sorts and highlights.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from manylambda.render.markup import message, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def document(title: str, body: str, *, styles: Sequence[str] = ("report.css",)) -> str:
    """Return the whole page; `title` is plain text, `styles` are files of `data/html`."""
    style, script = "".join(map(_data, styles)), _data("report.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<title>{plain(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{ICONS}{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def named(path: str) -> str:
    """Return what a package is called: of what the user named only the last part, which is alike on every machine."""
    name = re.split(r"[\\/]", path.rstrip("/\\"))[-1]
    return name if name not in {"", ".", ".."} else "the package"


def _data(name: str) -> str:
    return files("manylambda").joinpath("data", "html", name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def identifier(*parts: str) -> str:
    """Return an `id` for names that may hold anything; what a plain name loses is made up for by a hash."""
    name = "-".join(parts)
    kept = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
    return kept if kept == name else f"{kept}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


ICONS: Final = (
    '<svg width="0" height="0" class="icons" aria-hidden="true">'
    '<symbol id="i-error" viewBox="0 0 16 16"><path d="M5.2 1h5.6L15 5.2v5.6L10.8 15H5.2L1 10.8V5.2Z"/>'
    '<path class="in" d="M5.5 5.5l5 5m0-5l-5 5"/></symbol>'
    '<symbol id="i-warning" viewBox="0 0 16 16"><path d="M8 1.2L15.4 14.4H.6Z"/>'
    '<path class="in" d="M8 6v4m0 2v.4"/></symbol>'
    '<symbol id="i-note" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7"/>'
    '<path class="in" d="M8 7.4v4M8 4.6v.4"/></symbol>'
    '<symbol id="i-good" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7"/>'
    '<path class="in" d="M4.8 8.3l2.2 2.2 4.3-4.7"/></symbol></svg>'
)


def icon(name: str) -> str:
    """Return one of `ICONS`."""
    return f'<svg class="icon {name}" aria-hidden="true"><use href="#i-{name}"/></svg>'


def pairs(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return facts with their names; both are markup already."""
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f"<section><h2>{title}</h2><dl>{rows}</dl></section>"


def sentence(text: str) -> str:
    """Begin with a capital, but never touch a literal."""
    return text[:1].upper() + text[1:]


def hint(text: str) -> str:
    """Return what to do, in a line of its own."""
    return f'<p class="hint"><span class="unseen">What to do: </span>{message(sentence(text))}</p>'


_NUMBER: Final = ' class="number"'


def table(label: str, header: Sequence[str], rows: str, *, numbers: frozenset[int] = frozenset()) -> str:
    """Return a table of `rows` (markup) that scrolls where it is too wide; `numbers` are the columns of figures."""
    cells = "".join(
        f'<th scope="col"{_NUMBER if column in numbers else ""}>{name}</th>' for column, name in enumerate(header)
    )
    return (
        f'<section class="scroll" tabindex="0" aria-label="{plain(label)}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></section>"
    )
