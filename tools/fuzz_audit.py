"""Look for bytes that make the audit fail instead of answer, with `atheris` (libFuzzer).

    pip install atheris
    python tools/fuzz_audit.py elf|zip|metadata|linkage|image [--seconds 200] [--corpus FOLDER]

An input is a failure when anything but a finding, or an error of ours, comes of it: another exception, more than
ten seconds, more than 1 GiB of memory, or text with control characters. The input is written beside the
corpus, once for each place that fails; make it small and put it into `tests/fuzz/`, where pytest runs it ever after.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[1]
ELF: Final = ROOT / "tests" / "elf" / "data"
INSTRUMENTED: Final = (
    "elftools.elf.elffile", "elftools.elf.gnuversions", "elftools.elf.notes", "manylambda.pipeline.audit",
    "manylambda.wheels.inventory", "manylambda.wheels.layout", "manylambda.image", "manylambda.audits.images",
    "manylambda.render.html", "manylambda.render.sarif", "manylambda.render.text", "tarfile",
)  # fmt: skip
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What could make more than one line of a message, or do something to the terminal of whoever reads it."""
_SCRATCH: Final = Path(tempfile.mkdtemp(prefix="manylambda-fuzz-"))


def one_elf(data: bytes) -> None:
    """Read a native file, keep and recall its facts, and list its symbols."""
    from manylambda import elf

    native = elf.read(io.BytesIO(data))
    if native is not None:
        assert elf.from_json(json.loads(json.dumps(elf.to_json(native)))) == native
    for number, _ in enumerate(elf.symbol_table(io.BytesIO(data)) or ()):
        if number > 10_000:
            break


def one_zip(data: bytes) -> None:
    """Open an archive as the audit does and apply every rule to it."""
    path = _SCRATCH / "package.zip"
    path.write_bytes(data)
    audited(path)
    path.replace(_SCRATCH / "demo-1.0-py3-none-any.whl")
    audited(_SCRATCH / "demo-1.0-py3-none-any.whl")


def one_metadata(data: bytes) -> None:
    """Audit a package with these metadata files, then read a wheel with them as a build does."""
    import zipfile

    parts = data.split(b"\xff\xfe", 4)
    parts += [b""] * (5 - len(parts))
    path = _SCRATCH / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo.py", "x = 1\n")
        archive.writestr("_demo.cpython-313-x86_64-linux-gnu.so", (ELF / "plain.so").read_bytes())
        for name, text in zip(("METADATA", "WHEEL", "entry_points.txt", "RECORD", "top_level.txt"), parts, strict=True):
            archive.writestr(f"demo-1.0.dist-info/{name}", text)
    audited(path)
    inspected(path)
    package = _SCRATCH / "package.zip"
    path.replace(package)
    audited(package)


def one_linkage(data: bytes) -> None:
    """Play the loader over files that need, define and look for what the bytes say."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    from manylambda.audits import check
    from manylambda.audits.subject import Subject
    from manylambda.pipeline.audit import Examination
    from manylambda.rules import ALL
    from manylambda.target import Target
    from manylambda.tree import MODE_FILE, Bytes, Entry, PackageTree

    choose = atheris.FuzzedDataProvider(data)
    names = [
        "liba.so.1",
        "libb.so",
        "libc.so.6",
        "libz.so.1",
        "/opt/lib/liba.so.1",
        "../x/libb.so",
        "",
        "libc.musl-x.so",
    ]
    folders = [
        "$ORIGIN",
        "${ORIGIN}/..",
        "$ORIGIN/../x.libs",
        "/lib64",
        "/opt/lib",
        "$LIB",
        "${PLATFORM}/x",
        "..",
        "$O",
    ]
    versions = ["GLIBC_2.2.5", "GLIBC_2.99", "GLIBC_ABI_DT_RELR", "GLIBCXX_3.4.99", "V_", "A_1", "", "GLIBC_PRIVATE"]
    paths = ["a.so", "liba.so.1", "lib/libb.so", "x/liba.so.1", "x.libs/libb.so", "m.cpython-313-x86_64-linux-gnu.so",
             "x/n.abi3.so", "x/y/libz.so.1", "bin/program"]  # fmt: skip
    facts = {path: _facts(choose, names, folders, versions) for path in paths if choose.ConsumeBool()}
    tree = PackageTree(Entry(path, MODE_FILE, Bytes(b"\x7fELF"), "demo") for path in facts)
    subject = Subject(tree, Target.parse("python3.13-x86_64"), facts=facts, distributions=())
    told(Examination(subject, check(subject, ALL)))


def _facts(choose: Any, names: list[str], folders: list[str], versions: list[str]) -> Any:
    from manylambda.elf import ElfFile, ForeignFile, Malformed

    def some(items: list[str]) -> tuple[str, ...]:
        return tuple(choose.PickValueInList(items) for _ in range(choose.ConsumeIntInRange(0, 4)))

    kind = choose.ConsumeIntInRange(0, 12)
    if kind == 0:
        return Malformed(reason="the file is empty")
    if kind == 1:
        return ForeignFile(format="PE", machines=())
    needed = some(names)
    return ElfFile(
        machine=choose.PickValueInList(["x86_64", "x86_64", "x86_64", "aarch64", "cuda"]),
        version_needs={name: {one: choose.ConsumeBool() for one in some(versions)} for name in (*needed, *some(names))},
        bits=choose.PickValueInList([64, 64, 32]),
        kind=choose.PickValueInList(["shared", "shared", "executable", "relocatable"]),
        interpreter=choose.PickValueInList([None, None, "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"]),
        soname=choose.PickValueInList([None, *names]),
        needed=needed,
        rpath=some(folders),
        runpath=some(folders),
        version_definitions=some(versions),
        isa_level=choose.ConsumeIntInRange(0, 4),
        executable_stack=choose.ConsumeBool(),
        text_relocations=choose.ConsumeBool(),
    )


def one_image(data: bytes) -> None:
    """Open a saved image and apply every rule to what is in it."""
    path = _SCRATCH / "image.tar"
    path.write_bytes(data)
    audited(path)


def audited(path: Path) -> None:
    """Audit a package for a target; an error of ours is an answer too."""
    from manylambda.errors import ManylambdaError
    from manylambda.pipeline.audit import examine
    from manylambda.target import Target

    try:
        told(examine(path, Target.parse("python3.13-x86_64"), handler="demo.handler", offline=True))
    except ManylambdaError as error:
        assert error.code != "internal-error", error
        assert not CONTROL.search(error.message), error.message


def inspected(path: Path) -> None:
    """Read a wheel as a build does."""
    from manylambda.errors import ManylambdaError
    from manylambda.wheels.inventory import inspect
    from manylambda.wheels.layout import package_tree

    try:
        package_tree(inspect(path), interpreter="/var/lang/bin/python3.13", scripts=True)
    except ManylambdaError as error:
        assert error.code != "internal-error", error


def told(examination: Any) -> None:
    """Write the report in every form: none may fail, and the text holds nothing that a terminal would obey."""
    from manylambda.render import html, sarif, text
    from manylambda.render.findings import Look

    report = examination.report
    json.dumps(report.to_json("package.zip"), ensure_ascii=False).encode("utf-8")
    json.dumps(sarif.audit(report, Path("package.zip"))).encode("utf-8")
    html.audit(examination, path="package.zip").encode("utf-8")
    shown = text.audit(report, Look(verbose=True))
    shown.encode("utf-8")
    assert not CONTROL.search(shown.replace("\n", "")), shown


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "elf": one_elf,
    "zip": one_zip,
    "metadata": one_metadata,
    "linkage": one_linkage,
    "image": one_image,
}


def recorded(check: Callable[[bytes], None], prefix: str) -> Callable[[bytes], None]:
    """Write what fails to a file, once for each place that it fails at, and go on: the next fault hides behind one."""
    seen: set[str] = set()

    def run(data: bytes) -> None:
        try:
            check(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            trace = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in trace if "manylambda" in frame.filename.replace(str(ROOT), "")] or trace
            what = error.args[0][0] if isinstance(error, AssertionError) and isinstance(error.args[0], tuple) else ""
            place = f"{type(error).__name__}-{Path(own[-1].filename).stem}-{own[-1].name}{what and '-'}{what}"
            if place not in seen:
                seen.add(place)
                Path(f"{prefix}{place}").write_bytes(data)
                print(f"FAILURE {place}: {error}", file=sys.stderr, flush=True)

    return run


def seeds(target: str, folder: Path) -> None:
    """Write small real files for the fuzzer to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / "tests"))
    from wheel_factory import BZIP2, LZMA, STORED, SYMLINK, Part, raw_zip, wheel_parts

    natives = {file.name: file.read_bytes() for file in sorted(ELF.iterdir())}
    if target == "elf":
        macho = bytes.fromhex("cffaedfe0c000001000000000600000001000000") + bytes(64)
        pe = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0\x64\x86" + bytes(64)
        made = {**natives, "macho": macho, "fat": b"\xca\xfe\xba\xbe\0\0\0\2" + bytes(60), "pe": pe}
    elif target == "zip":
        module = "demo/_x.cpython-313-x86_64-linux-gnu.so"
        files: dict[str, str | bytes] = {"demo/__init__.py": "def handler(event, context): ...\n", "random.py": ""}
        requires = ["numpy>=2; python_version < '4'", "x[y]~=1.0"]
        plain = wheel_parts("demo", "1.0", files, tags=["cp313-cp313-manylinux2014_x86_64"], requires=requires)
        made = {
            "plain": raw_zip(plain),
            "native": raw_zip([*plain, Part(name=module.encode(), data=natives["needs_used_runpath.so"])]),
            "stored": raw_zip([Part(name=b"demo.py", data=b"x = 1\n", method=STORED)]),
            "bzip2": raw_zip([Part(name=b"demo.py", data=b"x = 1\n", method=BZIP2)]),
            "lzma": raw_zip([Part(name=b"demo.py", data=b"x = 1\n", method=LZMA)]),
            "zip64": raw_zip([Part(name=b"demo.py", data=b"x = 1\n", zip64=True)]),
            "descriptor": raw_zip([Part(name=b"demo.py", data=b"x = 1\n", descriptor=True)]),
            "link": raw_zip([Part(name=b"a", data=b"b", mode=SYMLINK | 0o777), Part(name=b"b", data=b"x")]),
            "bytecode": raw_zip([Part(name=b"demo.pyc", data=b"\xa7\r\r\n" + bytes(12))]),
            "layer": raw_zip([Part(name=b"python/demo.py", data=b"x = 1\n")]),
        }
    elif target == "metadata":
        metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Python: >=3.9,!=3.10.*\n"
        metadata += b'Requires-Dist: numpy[x] >=2 ; python_version < "4" and extra == "y"\n\nText\n'
        wheel = b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp313-cp313-manylinux2014_x86_64\n"
        record = b'demo.py,sha256=abc,6\n"demo,1.py",,\n../bin/x,md5=1,2\ndemo-1.0.dist-info/RECORD,,\n'
        made = {
            "all": b"\xff\xfe".join([metadata, wheel, b"[console_scripts]\nx = demo:main [y]\n", record, b"demo\n"])
        }
    elif target == "image":
        made = _images()
    else:
        made = {str(number): bytes((number * 37 + step * 11) % 256 for step in range(600)) for number in range(8)}
    for name, data in made.items():
        (folder / name).write_bytes(data)


def _images() -> dict[str, bytes]:
    """Return saved images as `docker save` writes them, old layout and OCI."""
    import gzip
    import hashlib
    import tarfile

    def tar(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    layer = tar(
        {"var/task/demo.py": b"x = 1\n", "var/task/old.py": b"", "opt/lib/libz.so.1": (ELF / "libz.so.1").read_bytes()}
    )
    whiteout = tar({"var/task/.wh.old.py": b"", "opt/lib/.wh..wh..opq": b""})
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["demo.handler"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}", f"sha256:{digest(whiteout)}"]},
    }).encode()  # fmt: skip
    listed = [{"Config": "config.json", "RepoTags": ["demo:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]
    saved = tar({
        "manifest.json": json.dumps(listed).encode(), "config.json": config,
        "one/layer.tar": layer, "two/layer.tar": whiteout,
    })  # fmt: skip
    packed = [gzip.compress(one, mtime=0) for one in (layer, whiteout)]
    kind = "application/vnd.oci.image."
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": f"{kind}manifest.v1+json",
        "config": {"mediaType": f"{kind}config.v1+json", "digest": f"sha256:{digest(config)}", "size": len(config)},
        "layers": [
            {"mediaType": f"{kind}layer.v1.tar+gzip", "digest": f"sha256:{digest(one)}", "size": len(one)}
            for one in packed
        ],
    }).encode()  # fmt: skip
    index = json.dumps({"schemaVersion": 2, "manifests": [{
        "mediaType": f"{kind}manifest.v1+json", "digest": f"sha256:{digest(manifest)}", "size": len(manifest),
    }]}).encode()  # fmt: skip
    oci = tar({
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index,
        f"blobs/sha256/{digest(manifest)}": manifest, f"blobs/sha256/{digest(config)}": config,
        **{f"blobs/sha256/{digest(one)}": one for one in packed},
    })  # fmt: skip
    return {"saved": saved, "oci": oci}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=200)
    parser.add_argument("--corpus", type=Path)
    words = parser.parse_args()

    import atheris

    with atheris.instrument_imports(include=["manylambda", "elftools", "zipfile", "tarfile"]):
        for module in INSTRUMENTED:
            import_module(module)
    corpus = words.corpus or _SCRATCH / "corpus"
    seeds(words.target, corpus)
    prefix = f"{corpus.parent}/{words.target}-"
    options = [f"-max_total_time={words.seconds}", "-rss_limit_mb=1024", "-timeout=10", "-max_len=16384"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={prefix}", str(corpus)], recorded(TARGETS[words.target], prefix)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
