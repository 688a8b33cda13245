"""Packages whose reports are looked at: of real ELF files, and of names that mean harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda import rules
from manylambda.audits import Ignore, Subject, check
from manylambda.pipeline.audit import Examination
from manylambda.target import Target
from manylambda.tree import PackageTree
from rules.packages import distribution, elf, files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.tree import Entry

MODULE: Final = "cpython-313-x86_64-linux-gnu.so"
HOSTILE: Final = "</script><img src=x onerror=\"document.title='owned'\">"
BIDI: Final = "\u202egpj.pem"
SCRIPT: Final = "<script>document.title='owned'</script>"


def examined(*groups: Sequence[Entry], target: str = "python3.13-x86_64", ignore: Sequence[Ignore] = ()) -> Examination:
    tree = PackageTree(entry for group in groups for entry in group)
    subject = Subject(tree, Target.parse(target), zipped_size=None)
    return Examination(subject, check(subject, rules.ALL, ignore=ignore))


def good() -> Examination:
    return examined(
        distribution("fine", "2.1", {"fine/__init__.py": "", f"fine/_native.{MODULE}": elf("plain.so")}),
        files({"app.py": "def handler(event, context): return 1\n"}),
    )


def broken() -> Examination:
    """Return a package with several errors, a warning, an ignored finding and an innocent distribution."""
    return examined(
        distribution(
            "used",
            "1.4",
            {
                **{f"used/_copy{number}.{MODULE}": elf("needs_used_runpath.so") for number in range(9)},
                f"used/_unreaching.{MODULE}": elf("needs_used.so"),
                f"used/_lacking.{MODULE}": elf("needs_versioned.so"),
                "used.libs/libused.so.1": elf("needs_z_runpath.so"),
                "used.libs/libz.so.1": elf("libz.so.1"),
                "used/data/table.bin": b"\1" * 40_000,
                "used/__init__.py": "import this\n" * 900,
            },
        ),
        distribution("alien", "3.0", {f"alien/_{n}.{MODULE}": elf("aarch64.so") for n in range(30)}),
        distribution("lonely", "0.9", {"lonely/__init__.py": ""}, requires=["absent>=2"]),
        files({"app.py": "def handler(event, context): return 1\n", ".env": "A=1\n", "prod.pem": "PRIVATE KEY-----"}),
        ignore=[Ignore("secret-file", ".env", 'it holds "no" <secret>')],
    )


def hostile() -> Examination:
    """Return a package whose every name wants to become markup."""
    return examined(
        distribution(
            f'evil"{SCRIPT}',
            f"1.0{HOSTILE}",
            {
                f"x{HOSTILE}/_{SCRIPT}.{MODULE}": elf("aarch64.so"),
                f"x{HOSTILE}/{SCRIPT}.so.1": elf("needs_used.so"),
                f"x{HOSTILE}/big.bin": b"\1" * 70_000,
                f"x{HOSTILE}/{BIDI}": "PRIVATE KEY-----",
            },
            requires=[f"absent{HOSTILE}", "gone; python_version > '3'"],
        ),
        files({f"{HOSTILE}.pem": "PRIVATE KEY-----", "`**[a](javascript:alert(1))**`.pem": "PRIVATE KEY-----"}),
        ignore=[Ignore("secret-file", "`*", HOSTILE)],
    )
