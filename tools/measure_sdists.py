"""Compile real source distributions for four targets, audit them, and run each on its target; write the table of it.

    python tools/measure_sdists.py --work DIR [--rootfs TARGET=DIR]... [--only NAME]... [--twice] [--write]

Each distribution is built by `manylambda wheel --from-source`, first with nothing in the cache, then again. `--twice`
builds all with a second cache as well and compares the bytes. What was built for a target then goes into one function,
which uses every distribution and is invoked by `manylambda trial`: natively, or under qemu in the root file system that
`--rootfs` gives. What was measured is kept in DIR, so a run may be broken off. `--write` renews
docs/development/measurements/sdists.md. Asks the package index; takes about an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "development" / "measurements" / "sdists.md"
TARGETS: Final = ("python3.11-x86_64", "python3.11-arm64", "python3.13-x86_64", "python3.13-arm64")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sdist:
    """A source distribution, and a line of Python that uses what is compiled in it and is true."""

    name: str
    version: str
    kind: str
    use: str
    needs: tuple[str, ...] = ()
    """What the use needs besides, taken as wheels."""


SDISTS: Final = (
    Sdist(name="markupsafe", version="3.0.4", kind="C",
          use="__import__('markupsafe._speedups')._speedups._escape_inner('<') == '&lt;'"),
    Sdist(name="msgpack", version="1.2.4", kind="C++, Cython",
          use="__import__('msgpack._cmsgpack')._cmsgpack.unpackb(__import__('msgpack').packb([1, 'a'])) == [1, 'a']"),
    Sdist(name="psutil", version="7.2.2", kind="C, abi3", use="__import__('psutil').Process().memory_info().rss > 0"),
    Sdist(name="regex", version="2026.11.19", kind="C", use="bool(__import__('regex').match(r'(?r)\\p{Lu}+', 'ABC'))"),
    Sdist(name="ujson", version="6.1.0", kind="C++", use="__import__('ujson').loads('[1.5, null]') == [1.5, None]"),
    Sdist(name="greenlet", version="3.5.6", kind="C++, assembly",
          use="(lambda g: g.greenlet(lambda: g.getcurrent().parent.switch(7)).switch())(__import__('greenlet')) == 7"),
    Sdist(name="wrapt", version="2.5.2", kind="C",
          use="__import__('wrapt._wrappers')._wrappers.ObjectProxy([1]) == [1]"),
    Sdist(name="simplejson", version="4.3.0", kind="C",
          use="__import__('simplejson').encoder.c_make_encoder is not None"),
    Sdist(name="lz4", version="4.4.5", kind="C",
          use="(lambda b: b.decompress(b.compress(b'a' * 99)))(__import__('lz4.block').block) == b'a' * 99"),
    Sdist(name="netifaces", version="0.11.0", kind="C", use="isinstance(__import__('netifaces').interfaces(), list)"),
    Sdist(name="zstandard", version="0.25.0", kind="C",
          use="(lambda z: z.decompress(z.compress(b'a' * 99)))(__import__('zstandard')) == b'a' * 99"),
    Sdist(name="coverage", version="7.17.5", kind="C", use="__import__('coverage.tracer').tracer.CTracer is not None"),
    Sdist(name="bitarray", version="3.12.3", kind="C", use="__import__('bitarray').bitarray('1011').count() == 3"),
    Sdist(name="pycryptodome", version="4.4.0", kind="C, many modules",
          use="len(__import__('Crypto.Cipher.AES').Cipher.AES.new(b'k' * 16, 1).encrypt(b'p' * 16)) == 16"),
    Sdist(name="fastavro", version="1.13.1", kind="Cython",
          use="__import__('fastavro._schema')._schema.parse_schema('int') == 'int'"),
    Sdist(name="kiwisolver", version="1.5.1", kind="C++ (cppy)",
          use="__import__('kiwisolver').Variable('x').value() == 0"),
    Sdist(name="brotli", version="1.2.1", kind="C++",
          use="(lambda b: b.decompress(b.compress(b'a' * 99)))(__import__('brotli')) == b'a' * 99"),
    Sdist(name="contourpy", version="1.3.3", kind="meson, C++ (pybind11)",
          use="len(__import__('contourpy').contour_generator(z=[[0, 1], [1, 2]]).lines(0.5)) == 1", needs=("numpy",)),
    Sdist(name="pywavelets", version="1.9.0", kind="meson, Cython (numpy)",
          use="len(__import__('pywt').dwt([1, 2, 3, 4], 'db1')) == 2", needs=("numpy",)),
    Sdist(name="levenshtein", version="0.27.5", kind="CMake (scikit-build-core), C++, Cython",
          use="__import__('Levenshtein.levenshtein_cpp') and __import__('Levenshtein').distance('abc', 'abd') == 1",
          needs=("rapidfuzz",)),
    Sdist(name="argon2-cffi-bindings", version="26.2.0", kind="CMake, C (cffi)",
          use="__import__('_argon2_cffi_bindings').lib.ARGON2_VERSION_13 == 19", needs=("cffi",)),
    Sdist(name="uvloop", version="0.23.0", kind="autotools (libuv), Cython",
          use="__import__('uvloop').new_event_loop().run_until_complete(__import__('asyncio').sleep(0, 7)) == 7"),
)  # fmt: skip

APP: Final = """
import traceback
USES = {uses!r}

def handler(event, context):
    found = {{}}
    for name, use in USES.items():
        try:
            found[name] = bool(eval(use))
        except BaseException:
            found[name] = traceback.format_exc()[-400:]
    return found
"""


@dataclass(kw_only=True, slots=True)
class Row:
    """What became of one distribution for one target."""

    sdist: Sdist
    target: str
    file: str = ""
    path: str = ""
    sha256: str = ""
    seconds: float = 0.0
    again: float = 0.0
    findings: list[str] = field(default_factory=list)
    error: str = ""
    same: bool | None = None
    used: str = ""


def run(arguments: list[str], *, cache: Path, folder: Path) -> tuple[Any, str, float]:
    """Run manylambda; give the JSON it printed, the last line of its errors, and seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "manylambda", *arguments, "--format", "json"],
        env={**os.environ, "MANYLAMBDA_CACHE_DIR": str(cache)},
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    seconds = time.monotonic() - began
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    document = json.loads(done.stdout) if done.stdout.strip() else None
    return document, errors[-1] if errors else "", seconds


def built(one: Sdist, target: str, work: Path, *, twice: bool) -> Row:
    """Build one distribution for one target, or tell what was measured when that was done in `work` before."""
    memory = work / "rows" / f"{one.name}-{one.version}-{target}.json"
    if memory.is_file():
        return Row(sdist=one, target=target, **json.loads(memory.read_text(encoding="utf-8")))
    row = _built(one, target, work, twice=twice)
    if not row.error:
        memory.parent.mkdir(exist_ok=True)
        told = {name: getattr(row, name) for name in ("file", "path", "sha256", "seconds", "again", "findings", "same")}
        memory.write_text(json.dumps(told), encoding="utf-8")
    return row


def _built(one: Sdist, target: str, work: Path, *, twice: bool) -> Row:
    row = Row(sdist=one, target=target)
    wanted = ["wheel", f"{one.name}=={one.version}", "-t", target, "--from-source", "-o", str(work / "wheels" / target)]
    document, row.error, row.seconds = run(wanted, cache=work / "cache", folder=work)
    if document is None:
        return row
    (made,) = document["wheels"]
    row.file, row.path, row.sha256 = made["file"], made["path"] or "", made["sha256"]
    row.findings = [finding["rule"] for finding in made["findings"]]
    _, _, row.again = run(wanted, cache=work / "cache", folder=work)
    if twice:
        other, _, _ = run([*wanted[:-1], str(work / "other")], cache=work / "second", folder=work)
        row.same = other is not None and other["wheels"][0]["sha256"] == row.sha256
    return row


def invoke(target: str, rows: list[Row], work: Path, rootfs: str | None) -> str:
    """Put all wheels of a target into one function, invoke it, and say what ran it."""
    project = work / "functions" / target
    project.mkdir(parents=True, exist_ok=True)
    there = [row for row in rows if row.path]
    needs = sorted({need for row in there for need in row.sdist.needs})
    (project / "requirements.txt").write_text("".join(f"{line}\n" for line in [*(r.path for r in there), *needs]))
    (project / "app.py").write_text(APP.format(uses={row.sdist.name: row.sdist.use for row in there}))
    document, error, _ = run(["build", str(project), "-t", target], cache=work / "cache", folder=work)
    if document is None or document["artifacts"][0]["path"] is None:
        return f"the function cannot be built: {error}"
    artifact = document["artifacts"][0]
    engine = ["--rootfs", rootfs] if rootfs else ["--engine", "interpreter"]
    tried, error, _ = run(
        [*("trial", artifact["path"], "-t", target, "--handler", "app.handler", "--event", "{}", "--module", "app"),
         *("--timeout", "600"), *engine],
        cache=work / "cache", folder=work,
    )  # fmt: skip
    if tried is None or not tried.get("invocation"):
        return f"the function cannot be tried: {error}"
    answers = tried["invocation"]["result"]
    if not isinstance(answers, dict):
        return f"the function failed: {json.dumps(tried['invocation'])[:400]}"
    for row in there:
        answer = answers.get(row.sdist.name)
        row.used = "yes" if answer is True else f"no: {answer}"
    findings = ", ".join(sorted({one["rule"] for one in artifact["findings"]})) or "none"
    return f"{tried['engine']}; findings of the whole function: {findings}"


def page(rows: list[Row], ran: dict[str, str], versions: str) -> str:
    """Write the table."""
    lines = [
        "# Source distributions compiled for their target",
        "",
        "Written by `tools/measure_sdists.py`. Host: Linux x86_64, two cores. " + versions,
        "Each was built by `manylambda wheel NAME==VERSION --from-source` (seconds: first build, then again from the",
        "cache, whole processes), audited, and used in one function for each target, which `manylambda trial` invoked.",
        "`same twice`: built again with nothing in the cache, it had the same bytes; empty where that was not done.",
        "On a machine that does other work besides, seconds are upper bounds.",
        "",
    ]
    lines += [f"- {target}: {how}" for target, how in ran.items()]
    lines += [
        "",
        "| distribution | kind | target | tag by its symbols | first / again, s | audit | used there | same twice |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in rows:
        tag = "-".join(row.file.removesuffix(".whl").split("-")[-3:]) if row.file else row.error
        audit = ", ".join(row.findings) or ("clean" if row.file else "")
        same = {True: "yes", False: "NO", None: ""}[row.same]
        lines.append(
            f"| {row.sdist.name} {row.sdist.version} | {row.sdist.kind} | {row.target} | {tag} "
            f"| {row.seconds:.1f} / {row.again:.1f} | {audit} | {row.used} | {same} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure; exit 1 when anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rootfs", action="append", default=[], metavar="TARGET=DIR")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    roots = dict(one.split("=", 1) for one in options.rootfs)
    rows: list[Row] = []
    ran: dict[str, str] = {}
    for target in options.target or TARGETS:
        own = []
        for one in SDISTS:
            if options.only and one.name not in options.only:
                continue
            row = built(one, target, work, twice=options.twice)
            print(
                f"{target} {one.name}: {row.file or row.error} {row.seconds:.1f} {row.again:.1f} {row.same}", flush=True
            )
            own.append(row)
        ran[target] = invoke(target, own, work, roots.get(target))
        print(f"{target}: {ran[target]}", flush=True)
        for row in own:
            if row.used != "yes":
                print(f"  {row.sdist.name}: {row.used}", flush=True)
        rows += own
    rows.sort(key=lambda row: ([one.name for one in SDISTS].index(row.sdist.name), row.target))
    from manylambda.sdists.toolchain import ZIG

    text = page(rows, ran, f"zig {ZIG}; CPython of the host for each minor version.")
    (work / "sdists.md").write_text(text, encoding="utf-8")
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    return int(any(row.error or row.findings or row.used != "yes" or row.same is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
