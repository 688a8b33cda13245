"""Rows about how an archive was written, and what was changed after the installer."""

from __future__ import annotations

from typing import Final

from corpus.box import first_quarter
from corpus.case import (
    DEPRECATED_39,
    HANDLER,
    MARKUPSAFE,
    ORJSON,
    SO13,
    X9,
    X13,
    Case,
    added,
    backslashes,
    both,
    compressed,
    error,
    linked,
    named_otherwise,
    nothing,
    removed,
    warning,
)
from wheel_factory import BZIP2, LZMA, REGULAR

MAKING: Final = (
    Case(
        "permissions of a umask of 077",
        X13,
        (MARKUPSAFE,),
        lambda box: box.each(mode=REGULAR | 0o600),
        (error("file-mode", "markupsafe", "not readable by everybody (mode 0600)"),),
    ),
    Case(
        "one file of the project closed",
        X13,
        ("six",),
        both(added("app.py", HANDLER, 0o600), added("other.py")),
        (error("file-mode", "app.py", "is not readable by everybody (mode 0600)"),),
        handler="app.lambda_handler",
    ),
    Case(
        "program zipped on Windows",
        X13,
        ("ninja-x86_64",),
        lambda box: box.each(mode=0, create_system=0),
        (warning("file-mode", "bin/ninja", "is a program not executable"),),
    ),
    Case(
        "backslashes of Windows",
        X13,
        (MARKUPSAFE,),
        backslashes,
        (error("path-unsafe", "markupsafe\\__init__.py", "between their folders"),),
    ),
    Case(
        "path that leads out",
        X13,
        ("six",),
        named_otherwise("../../etc/cron.d/evil"),
        (error("path-unsafe", "../../etc/cron.d/evil", "leads out of the package"),),
    ),
    Case(
        "absolute path",
        X13,
        ("six",),
        named_otherwise("/etc/cron.d/evil"),
        (error("path-unsafe", "/etc/cron.d/evil", "leads out of the package"),),
    ),
    Case(
        "two files of one name",
        X13,
        ("six",),
        both(added("app.py", HANDLER), named_otherwise("app.py", "other = 1\n")),
        (warning("path-unsafe", "app.py", "more than once"),),
    ),
    Case(
        "link out of the package",
        X13,
        ("six",),
        linked("jwt.py", "../../usr/lib/python3/dist-packages/jwt.py"),
        (error("symlink", "jwt.py", "outside of the package"),),
    ),
    Case(
        "link of uv to its cache",
        X13,
        (MARKUPSAFE,),
        both(
            removed("markupsafe/_native.py"),
            linked("markupsafe/_native.py", "/home/me/.cache/uv/archive-v0/_native.py"),
        ),
        (error("symlink", "markupsafe/_native.py", "leads to `/home/me/.cache/uv"),),
    ),
    Case(
        "link to what was left out",
        X13,
        ("six",),
        linked("data", "large/data"),
        (warning("symlink", "data", "which is not in the package"),),
    ),
    Case(
        "compressed with bzip2",
        X13,
        (MARKUPSAFE,),
        compressed(BZIP2),
        (error("zip-method", None, "compressed with bzip2"),),
    ),
    Case("compressed with LZMA", X13, ("six",), compressed(LZMA), (error("zip-method", None, "compressed with LZMA"),)),
    Case(
        "zip64 without need",
        X13,
        (MARKUPSAFE,),
        lambda box: box.each(zip64=True),
        (warning("zip64", None, "files are written as zip64"),),
    ),
    Case(
        "source changed after it was built",
        X13,
        (MARKUPSAFE,),
        lambda box: box.edit("markupsafe/__init__.py", lambda data: data + b"# patched\n"),
        (warning("record-mismatch", "markupsafe/__init__.py", "was changed after its distribution was built"),),
    ),
    Case(
        "truncated module, as RECORD knows",
        X13,
        (MARKUPSAFE,),
        lambda box: box.edit(SO13, first_quarter),
        (
            error("foreign-binary", SO13, "cannot be loaded: the ELF file"),
            warning("record-mismatch", SO13, "was changed"),
        ),
    ),
    Case(
        "source emptied",
        X13,
        (MARKUPSAFE,),
        lambda box: box.edit("markupsafe/__init__.py", lambda _: b""),
        (error("record-mismatch", "markupsafe/__init__.py", "is empty, and was not when its distribution was built"),),
    ),
    Case(
        "RECORD edited by hand",
        X13,
        (MARKUPSAFE,),
        lambda box: box.edit(
            "*/RECORD", lambda data: data.replace(b"markupsafe/_native.py,sha256=", b"markupsafe/_native.py,sha256=x")
        ),
        (warning("record-mismatch", "markupsafe/_native.py", "was changed after its distribution was built"),),
    ),
    Case(
        "metadata without modules",
        X13,
        ("jinja2", MARKUPSAFE),
        lambda box: box.remove("markupsafe/*"),
        (error("module-missing", "markupsafe", "none of its"),),
    ),
    Case(
        "extension modules left out by an ignore rule",
        X13,
        ("orjson-x86_64",),
        lambda box: box.remove("*.so"),
        (error("module-missing", ORJSON, "the module `orjson.orjson` cannot be imported"),),
    ),
    Case(
        "backport of what the standard library has",
        X13,
        ("enum34",),
        nothing,
        (warning("stdlib-shadowed", "enum/__init__.py", "hides the module `enum`"),),
    ),
    Case(
        "two distributions of one module",
        X13,
        ("jwt", "pyjwt", "cryptography", "cffi", "pycparser"),
        nothing,
        (warning("path-collision", "jwt/__init__.py", "`jwt`"),),
    ),
    Case(
        "urllib3 2 beside the botocore of the runtime",
        X9,
        ("urllib3-2.5.0",),
        nothing,
        (warning("runtime-shadowed", "urllib3", "the runtime's `botocore`"), DEPRECATED_39),
    ),
    Case(
        "the project's own boto3.py",
        X13,
        ("six",),
        added("boto3.py", "client = None\n"),
        (warning("runtime-shadowed", "boto3.py", "hides the module `boto3` of the runtime"),),
    ),
)
