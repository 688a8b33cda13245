"""What `explain` found, as text for people and as the document of `--format json`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from manylambda import rules
from manylambda.render.findings import Look
from manylambda.rules import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.causes import Cause
    from manylambda.pipeline.explain import Explanation, Tie
    from manylambda.rules.pages import Page

_PLAIN: Final = Look()
_PLACEHOLDERS: Final = {
    "TARGET": "the function's runtime and architecture, such as `python3.13-arm64` (`-t TARGET` fills it in)",
    "ARCHITECTURE": "`x86_64` or `arm64`, as the function has it",
    "PACKAGE": "the zip, layer or folder that was deployed",
    "FUNCTION": "the function's name",
}
_ASKED_FOR: Final = (
    "no error in it is one that is known here.\n\n"
    "Look at the package itself, which shows what will not load:\n"
    "  manylambda audit PACKAGE -t TARGET\n"
    "or give it together with the text: `manylambda explain LOG --package PACKAGE -t TARGET`."
)


def text(explanation: Explanation, look: Look = _PLAIN) -> str:
    """Return a rule's page, or the causes, each with what mends it."""
    if explanation.page is not None:
        parts = [_page(explanation.page, look), *(_tie(tie, look, "") for tie in explanation.ties)]
        return "\n\n".join(parts)
    if not explanation.causes:
        read = f"{explanation.lines:,} line{'' if explanation.lines == 1 else 's'} read: "
        return look.wrapped(read + _ASKED_FOR.partition("\n")[0], "") + _ASKED_FOR[_ASKED_FOR.index("\n") :]
    blocks = []
    for number, cause in enumerate(explanation.causes, 1):
        tie = explanation.ties[number - 1] if explanation.ties else None
        count = f"{number} of {len(explanation.causes)}: " if len(explanation.causes) > 1 else ""
        blocks.append("\n".join(_cause(cause, tie, count, look)))
    return "\n\n".join([*blocks, *_legend(explanation, look)])


def rule_list(look: Look = _PLAIN) -> str:
    """Return every rule with its sentence."""
    width = max(len(rule.name) for rule in rules.ALL)
    lines = [
        look.wrapped(f"{rule.name:<{width}}  {pages.page(rule.name).summary}", " " * (width + 2)).replace(
            rule.name, look.painted(rule.name, "name"), 1
        )
        for rule in rules.ALL
    ]
    return "\n".join([*lines, "", "manylambda explain RULE    its page", "manylambda explain -       an error, pasted"])


def _page(page: Page, look: Look) -> str:
    parts = (("What", page.what), ("In the log", page.log), ("Why", page.why), ("Mend", page.mend))
    told = [f"{look.painted(page.name, 'name')}: {page.summary}"]
    for title, words in parts:
        paragraphs = words.split("\n\n")
        lines = [line for one in paragraphs for line in (*_paragraph(one, look), "")][:-1]
        told.append("\n".join([look.painted(title, "name"), *lines]))
    return "\n\n".join(told)


def _paragraph(words: str, look: Look) -> list[str]:
    """Return a paragraph, indented: wrapped anew for a terminal, as it is written for a pipe."""
    if look.width is None:
        return [f"  {line}" for line in words.split("\n")]
    return look.wrapped("  " + " ".join(words.split()), "  ").split("\n")


def _cause(cause: Cause, tie: Tie | None, count: str, look: Look) -> Iterator[str]:
    yield f"{count}{look.painted(cause.id, 'error')} (line {cause.number})"
    yield look.painted(f"  {cause.line}", "dim")
    yield ""
    yield from _paragraph(cause.meaning, look)
    yield from _paragraph(cause.why, look)
    if tie is not None:
        yield ""
        yield _tie(tie, look, "  ")
    yield ""
    for number, step in enumerate(cause.cure, 1):
        yield look.wrapped(f"  {number}. {step.say}", "     ")
        if step.run:
            yield f"       {look.painted(step.run, 'hint')}"
    found = [one.rule for one in tie.findings] if tie is not None else []
    if names := [*found, *cause.rules]:
        yield f"  more: manylambda explain {names[0]}"


def _tie(tie: Tie, look: Look, indent: str) -> str:
    about = f" ({tie.distribution} {tie.version})" if tie.distribution else ""
    lines = [look.wrapped(f"{indent}in the package: {_harmless(tie.says + about)}", indent + "  ")]
    for one in tie.findings:
        head = look.painted(f"{one.severity.value}[{one.rule}]", one.severity.value)
        where = f" {_harmless(one.path)}:" if one.path else ":"
        lines.append(look.wrapped(f"{indent}  {head}{where} {_harmless(one.message)}", indent + "    "))
        if one.hint:
            lines.append(
                look.wrapped(f"{indent}    {look.painted('hint', 'hint')}: {_harmless(one.hint)}", indent + "    ")
            )
    return "\n".join(lines)


def _legend(explanation: Explanation, look: Look) -> list[str]:
    """Say what the words in capitals of the commands stand for."""
    commands = " ".join(step.run or "" for cause in explanation.causes for step in cause.cure)
    used = [word for word in _PLACEHOLDERS if re.search(rf"\b{word}\b", commands)]
    return ["\n".join(look.wrapped(f"{word}: {_PLACEHOLDERS[word]}", "  ") for word in used)] if used else []


def _harmless(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def document(explanation: Explanation | None) -> dict[str, Any]:
    """Return the document of `manylambda explain`; without an explanation the list of rules."""
    if explanation is None:
        return _document(rules=[{"rule": rule.name, "summary": pages.page(rule.name).summary} for rule in rules.ALL])
    ties: list[Tie | None] = [*explanation.ties] or [None] * max(1, len(explanation.causes))
    return _document(
        target=explanation.target,
        package=explanation.package,
        page=_page_document(explanation.page, ties[0]) if explanation.page else None,
        causes=[_cause_document(cause, tie) for cause, tie in zip(explanation.causes, ties, strict=False)],
    )


def _document(**given: Any) -> dict[str, Any]:
    return {"version": 1, "target": None, "package": None, "rules": [], "page": None, "causes": [], **given}


def _page_document(page: Page, tie: Tie | None) -> dict[str, Any]:
    return {
        "rule": page.name,
        "summary": page.summary,
        "what": page.what,
        "log": page.log,
        "why": page.why,
        "mend": page.mend,
        "in_package": _tie_document(tie),
    }


def _cause_document(cause: Cause, tie: Tie | None) -> dict[str, Any]:
    return {
        "cause": cause.id,
        "rules": list(cause.rules),
        "line": cause.line,
        "line_number": cause.number,
        "meaning": cause.meaning,
        "why": cause.why,
        "cure": [{"say": step.say, "run": step.run} for step in cause.cure],
        "values": dict(cause.values),
        "source": cause.source,
        "in_package": _tie_document(tie),
    }


def _tie_document(tie: Tie | None) -> dict[str, Any] | None:
    if tie is None:
        return None
    return {
        "says": tie.says,
        "file": tie.file,
        "distribution": tie.distribution,
        "version": tie.version,
        "findings": [one.to_json() for one in tie.findings],
    }
