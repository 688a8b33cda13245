"""What CloudFormation's intrinsic functions give, as far as a template alone says: with its parameters' defaults.

`samcli.lib.intrinsic_resolver` of aws-sam-cli 1.170, which `sam build` uses, follows the same ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DEEPEST: Final = 32
"""Functions in functions, and conditions that name each other in a circle."""
_NAMED: Final = re.compile(r"\$\{(!?)([^}]*)\}")


class Intrinsics:
    """The values of a template."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Take the whole template."""
        self._defaults = {
            name: one.get("Default") for name, one in _mapping(document.get("Parameters")).items() if _mapping(one)
        }
        self._mappings = _mapping(document.get("Mappings"))
        self._conditions = _mapping(document.get("Conditions"))
        self.parameters: set[str] = set()
        """Those whose defaults were asked for."""
        self._decided: dict[str, tuple[bool | None, set[str]]] = {}
        """What a condition says, and by which of those: each is decided once, however many others name it."""

    def value(self, value: object, depth: int = 0) -> object:
        """Return what a value is: itself, or what its function gives; None for what only CloudFormation knows."""
        if depth > _DEEPEST:
            return None
        if isinstance(value, list):
            return [self.value(each, depth + 1) for each in value]
        if not isinstance(value, dict) or len(value) != 1:
            return value
        ((name, argument),) = value.items()
        known: Mapping[str, Callable[[Any, int], object]] = {
            "Ref": self._default,
            "Fn::FindInMap": self._in_map,
            "Fn::If": self._either,
            "Fn::Join": self._joined,
            "Fn::Sub": self._substituted,
        }
        if name in known:
            return known[name](argument, depth + 1)
        return None if str(name).startswith("Fn::") else value

    def _default(self, name: object, depth: int) -> object:  # noqa: ARG002 - as the others
        if not isinstance(name, str):
            return None
        self.parameters |= {name} & self._defaults.keys()
        return self._defaults.get(name)

    def _in_map(self, argument: object, depth: int) -> object:
        found: object = self._mappings
        keys = self.value(argument, depth)
        if not isinstance(keys, list) or len(keys) != 3:  # a fourth is a default, of an extension
            return None
        for key in keys:
            found = _mapping(found).get(key) if isinstance(key, str) else None
        return found

    def _either(self, argument: object, depth: int) -> object:
        if not isinstance(argument, list) or len(argument) != 3:
            return None
        decided = self._is_true({"Condition": argument[0]}, depth)
        return None if decided is None else self.value(argument[1 if decided else 2], depth)

    def _is_true(self, condition: object, depth: int) -> bool | None:
        """Return what a condition says; None for what is not known."""
        if depth > _DEEPEST or not isinstance(condition, dict) or len(condition) != 1:
            return None
        ((name, argument),) = condition.items()
        if name == "Condition":
            return self._decide(argument, depth) if isinstance(argument, str) else None
        if not isinstance(argument, list):
            return None
        if name == "Fn::Equals":
            sides = [self.value(each, depth + 1) for each in argument]
            return None if len(sides) != 2 or None in sides else str(sides[0]) == str(sides[1])
        parts = [self._is_true(each, depth + 1) for each in argument]
        match name:
            case "Fn::Not" if len(parts) == 1:
                return None if parts[0] is None else not parts[0]
            case "Fn::And":
                return False if False in parts else None if None in parts else True
            case "Fn::Or":
                return True if True in parts else None if None in parts else False
            case _:
                return None

    def _decide(self, name: str, depth: int) -> bool | None:
        if name not in self._decided:
            self._decided[name] = (None, set())  # for conditions that name each other in a circle
            asked, self.parameters = self.parameters, set()
            decided = self._is_true(self._conditions.get(name), depth + 1)
            self._decided[name] = (decided, self.parameters)
            self.parameters = asked
        decided, parameters = self._decided[name]
        self.parameters |= parameters
        return decided

    def _joined(self, argument: object, depth: int) -> str | None:
        if not isinstance(argument, list) or len(argument) != 2 or not isinstance(argument[0], str):
            return None
        parts = self.value(argument[1], depth)
        if not isinstance(parts, list) or not all(isinstance(each, str) for each in parts):
            return None
        return argument[0].join(parts)

    def _substituted(self, argument: object, depth: int) -> str | None:
        text, own = argument if isinstance(argument, list) and len(argument) == 2 else (argument, {})
        if not isinstance(text, str):
            return None
        values = _mapping(own)
        names = {
            name: self.value(values[name], depth) if name in values else self._default(name, depth)
            for kept, name in _NAMED.findall(text)
            if not kept
        }
        if not all(isinstance(one, str) for one in names.values()):
            return None
        return _NAMED.sub(lambda match: f"${{{match[2]}}}" if match[1] else str(names[match[2]]), text)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
