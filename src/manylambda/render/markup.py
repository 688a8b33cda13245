"""Markup: text of unknown origin made safe to stand in an HTML page, or visible at all.

Names of files and distributions come from packages that anybody may have made.
"""

from __future__ import annotations

import re
from html import escape
from typing import Final

_LONGEST: Final = 400

# What cannot be seen or turns the order of letters about: controls, marks of direction (UAX #9), zero-width and tag
# characters, and the lone surrogates that Python makes of names that are not UTF-8.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3164\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_CODE: Final = re.compile(r"``\s?(?P<double>.+?)\s?``(?!`)|`(?P<code>[^`]+)`")
_MARKDOWN: Final = re.compile(
    _CODE.pattern + r"|\*\*(?P<bold>[^*]+)\*\*" + r"|\[(?P<label>[^\]]+)\]\((?P<link>https?://[^)\s\"<>]+)\)"
)


def visible(text: str, *, longest: int = _LONGEST) -> str:
    """Return `text` on one line: what cannot be seen spelled out, cut where endless."""
    seen = _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text[: longest + 1])
    return seen if len(text) <= longest else f"{seen[:longest]}…"


def plain(text: str, *, longest: int = _LONGEST) -> str:
    """Return `text` for an attribute or an element: visible, and escaped."""
    return escape(visible(text, longest=longest))


def path(text: str) -> str:
    """Return a path or name as code, which may break after each `/`."""
    return f"<code>{plain(text).replace('/', '/<wbr>')}</code>"


def message(text: str) -> str:
    """Return one line of text whose literals stand in backticks."""
    return _inline(_CODE, text, longest=2000)


def markdown(text: str) -> str:
    """Return paragraphs of our own pages: code, bold, links. Nothing else of Markdown means anything."""
    paragraphs = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return "".join(f"<p>{_inline(_MARKDOWN, block, longest=8000)}</p>" for block in paragraphs if block)


def _inline(pattern: re.Pattern[str], text: str, *, longest: int) -> str:
    text = text if len(text) <= longest else f"{text[:longest]}…"
    parts, end = [], 0
    for match in pattern.finditer(text):
        parts += [plain(text[end : match.start()], longest=longest), _element(match, longest=longest)]
        end = match.end()
    return "".join(parts) + plain(text[end:], longest=longest)


def _element(match: re.Match[str], *, longest: int) -> str:
    groups = match.groupdict()
    if (code := groups["double"] or groups["code"]) is not None:
        return f"<code>{plain(code, longest=longest)}</code>"
    if groups["bold"] is not None:
        return f"<strong>{_inline(_CODE, groups['bold'], longest=longest)}</strong>"
    label = _inline(_CODE, groups["label"], longest=longest)
    return f'<a href="{plain(groups["link"])}" rel="noopener noreferrer">{label}</a>'
