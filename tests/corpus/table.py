"""The table of the corpus: what is put together, how it is broken, and every finding that must come of it.

A finding that counts (error or warning) and is not listed fails the case, and so does one that is listed and missing;
notes are only held where they are listed.
"""

from __future__ import annotations

from typing import Final

from corpus.case import A12, A13, MARKUPSAFE, PYDANTIC, X11, X12, X13, Case, note, nothing
from corpus.distributions import DISTRIBUTIONS
from corpus.loading import LOADING
from corpus.making import MAKING
from corpus.packages import PACKAGE

LOCKED: Final = Case(
    "pure wheel although there are compiled ones, for other machines",
    A13,
    ("charset-normalizer-pure",),
    nothing,
    (note("pure-fallback", "charset-normalizer", "is pure Python; compiled wheels of this release are for"),),
)
"""Audited as a lock: once it is packed nothing tells what else there was."""

BROKEN: Final = (*LOADING, *MAKING, *DISTRIBUTIONS, *PACKAGE)

GOOD: Final = tuple(
    Case(name, target, wheels, nothing, (), **more)
    for name, target, wheels, more in (
        ("MarkupSafe", X13, (MARKUPSAFE,), {}),
        ("Jinja on ARM", A12, ("jinja2", "markupsafe-cp312-aarch64"), {"kind": "dir"}),
        (
            "Flask",
            X12,
            ("flask", "werkzeug", "jinja2", "click", "itsdangerous", "blinker", "markupsafe-cp312-x86_64"),
            {},
        ),
        ("pydantic", X13, PYDANTIC, {}),
        ("cryptography", X13, ("cryptography", "cffi", "pycparser"), {}),
        ("requests", X13, ("requests", "urllib3", "idna", "certifi", "charset-normalizer"), {}),
        ("psycopg2-binary", X13, ("psycopg2-binary",), {}),
        ("numpy", X13, ("numpy",), {}),
        ("gmpy2 and pyzmq", X13, ("gmpy2", "pyzmq"), {"kind": "dir"}),
        ("C++: ujson, greenlet, regex", X13, ("ujson", "greenlet", "regex"), {}),
        ("limited API: bcrypt, psutil", X13, ("bcrypt", "psutil"), {}),
        ("glibc 2.25 and C++ on AL2", X11, ("six", "psutil", "bcrypt", "markupsafe-3.0.3-cp311-x86_64"), {}),
        ("redis with hiredis on ARM", A13, ("redis", "hiredis-aarch64"), {}),
        ("orjson as a layer", A13, ("orjson-aarch64",), {"kind": "layer"}),
        ("Jinja with its requirement in a layer", X13, ("jinja2",), {"layers": ((MARKUPSAFE,),)}),
        ("a wheel as it came", X13, ("orjson-x86_64",), {"kind": "wheel"}),
        ("msgpack on 3.14", "python3.14-arm64", ("msgpack-cp314-aarch64",), {}),
        ("python-dateutil, dashed and with six", "python3.14-x86_64", ("python-dateutil", "six"), {}),
    )
)
