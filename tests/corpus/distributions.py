"""Rows about distributions: what is missing, or does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corpus.box import swap
from corpus.case import DEPRECATED_39, MARKUPSAFE, PYDANTIC, X9, X11, X13, ZMQ, Case, edited, error, nothing, warning

if TYPE_CHECKING:
    from corpus.box import Box

FLASK_39 = ("flask", "werkzeug", "jinja2", "click-8.1.8", "itsdangerous", "blinker", "markupsafe-3.0.3-cp39-x86_64")


def second_version(box: Box) -> None:
    """Upgrade as `pip install --target --upgrade` does not: the older `.dist-info` stays."""
    for path in list(box.parts):
        if ".dist-info/" in path and path.startswith("markupsafe-"):
            box.add(path.replace("3.0.4", "3.0.2"), box.read(path).replace(b"3.0.4", b"3.0.2"))


DISTRIBUTIONS: Final = (
    Case(
        "requirement forgotten",
        X13,
        ("jinja2",),
        nothing,
        (error("distribution-missing", "jinja2", "needs `MarkupSafe>=2.0`, which is not in the package"),),
    ),
    Case(
        "core of pydantic forgotten",
        X13,
        ("pydantic", "typing-extensions", "annotated-types", "typing-inspection"),
        nothing,
        (error("distribution-missing", "pydantic", "needs `pydantic-core=="),),
    ),
    Case(
        "markers of a host with 3.12",
        X9,
        FLASK_39,
        nothing,
        (error("distribution-missing", "flask", "needs `importlib-metadata"), DEPRECATED_39),
    ),
    Case(
        "extra without what it brings",
        X13,
        ("redis",),
        lambda box: box.add(
            "app-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: app\nVersion: 1.0\nRequires-Dist: redis[hiredis]\n",
        ),
        (error("distribution-missing", "redis", "needs `hiredis"),),
    ),
    Case(
        "requirement in a layer that has another version",
        X13,
        ("jinja2",),
        edited("jinja2-*/METADATA", swap(b"MarkupSafe>=2.0", b"MarkupSafe>=9.0")),
        (error("distribution-conflict", "jinja2", "needs `MarkupSafe>=9"),),
        layers=((MARKUPSAFE,),),
    ),
    Case(
        "layer without its python/ folder",
        X13,
        ("jinja2",),
        nothing,
        (error("distribution-missing", "jinja2", "needs `MarkupSafe>=2.0`"),),
        layers=((MARKUPSAFE,),),
        layer_change=lambda box: box.rename("python/*", "python/", "lib/"),
    ),
    Case(
        "layer for another Python's site-packages",
        X13,
        ("jinja2",),
        nothing,
        (error("distribution-missing", "jinja2", "needs `MarkupSafe>=2.0`"),),
        layers=((MARKUPSAFE,),),
        layer_change=lambda box: box.rename("python/*", "python/", "python/lib/python3.12/site-packages/"),
    ),
    Case(
        "later layer of the other machine, whose module is not looked at",
        X13,
        ("jinja2",),
        nothing,
        (
            warning(
                "wrong-machine", "/opt/python/markupsafe/_speedups.cpython-313-aarch64-linux-gnu.so", "is for aarch64"
            ),
        ),
        layers=((MARKUPSAFE,), ("markupsafe-cp313-aarch64",)),
    ),
    Case(
        "later layer of the other machine, whose module takes the place of the first",
        X13,
        ("jinja2",),
        nothing,
        (error("wrong-machine", "/opt/python/markupsafe/_speedups.so", "is for aarch64"),),
        layers=((MARKUPSAFE,), ("markupsafe-cp313-aarch64",)),
        layer_change=lambda box: box.rename(
            "*/_speedups*.so", box.named("*/_speedups*.so")[0].partition("_speedups")[2], ".so"
        ),
    ),
    Case(
        "older version in a layer that comes later",
        X13,
        ("jinja2",),
        edited("jinja2-*/METADATA", lambda data: data.replace(b"MarkupSafe>=2.0", b"MarkupSafe>=3.0.4")),
        (error("distribution-conflict", "jinja2", "the package has 3.0.3"),),
        layers=((MARKUPSAFE,), ("markupsafe-3.0.3-cp313-x86_64",)),
    ),
    Case(
        "two versions of one distribution",
        X13,
        (MARKUPSAFE,),
        second_version,
        (error("distribution-conflict", "markupsafe", "is there twice, as 3.0.2 and 3.0.4"),),
    ),
    Case(
        "core of another pydantic",
        X13,
        PYDANTIC,
        edited("pydantic_core-*/METADATA", lambda data: data.replace(b"\nVersion: 2.", b"\nVersion: 1.")),
        (error("distribution-conflict", "pydantic", "needs `pydantic-core=="),),
    ),
    Case(
        "requires a newer Python",
        X9,
        ("click",),
        nothing,
        (error("requires-python", "click", "needs Python >=3.10, the runtime has 3.9"), DEPRECATED_39),
    ),
    Case(
        "backport for an older Python",
        X13,
        ("dataclasses",),
        nothing,
        (
            error("requires-python", "dataclasses", "needs Python >=3.6, <3.7"),
            warning("stdlib-shadowed", "dataclasses.py", "hides the module `dataclasses`"),
        ),
    ),
    Case(
        "wheel of Python 2",
        X13,
        ("enum34-py2",),
        nothing,
        (
            error("wheel-tag-mismatch", "enum34", "tagged `py2-none-any`"),
            warning("stdlib-shadowed", "enum/__init__.py", "hides the module `enum`"),
        ),
    ),
    Case(
        "limited API of a newer Python",
        X11,
        ("pyzmq",),
        nothing,
        (
            error("symbol-undefined", ZMQ, "of CPython, which 3.11 does not export (first: 3.12)"),
            warning("wheel-tag-mismatch", "pyzmq", "tagged `cp312-abi3"),
        ),
    ),
    Case(
        "wheel of a linux tag, but good",
        X13,
        (MARKUPSAFE,),
        edited("*/WHEEL", lambda _: b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp313-cp313-linux_x86_64\n"),
        (warning("wheel-tag-mismatch", "markupsafe", "which promises no C library that the runtime has"),),
    ),
)
