"""Each rule about a package as a whole: a bad one with its finding, and a good one without."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import manylambda
from manylambda.audits import Severity
from manylambda.tree import DEFLATED, MODE_FILE, Collision, DiskFile, Entry, PackageTree, Span
from rules.packages import distribution, elf, files, findings, told

if TYPE_CHECKING:
    from collections.abc import Sequence

X86, AL2 = "python3.13-x86_64", "python3.11-x86_64"
MIB = 1 << 20
PYTHON = json.loads((Path(manylambda.__file__).parent / "data" / "python.json").read_text("utf-8"))


def sparse(tmp_path: Path, size: int, path: str = "data.bin", origin: str = "project") -> list[Entry]:
    file = tmp_path / path.replace("/", "_")
    with file.open("wb") as stream:
        stream.truncate(size)
    return [Entry(path, MODE_FILE, DiskFile(file, size), origin)]


def test_zip_too_large() -> None:
    (finding,) = findings(X86, files({"app.py": ""}), zipped_size=50 * MIB + 1)
    assert (finding.rule, finding.severity) == ("zip-too-large", Severity.WARNING)
    assert finding.message == "the archive has 50.0 MiB zipped; a direct upload takes 50.0 MiB"
    assert findings(X86, files({"app.py": ""}), zipped_size=50 * MIB) == ()
    assert findings(X86, files({"app.py": ""}), zipped_size=60 * MIB, kind="dir") == ()


def test_zip_too_large_is_known_before_the_archive_is_written(tmp_path: Path) -> None:
    file = tmp_path / "x.whl"
    file.write_bytes(bytes(64))
    span = Span(file, 0, 60 * MIB, DEFLATED, 0, 100 * MIB)
    (finding,) = findings(X86, [Entry("big.bin", MODE_FILE, span, "demo")])
    assert finding.message == "the archive has about 60.0 MiB zipped; a direct upload takes 50.0 MiB"


def test_unzipped_too_large(tmp_path: Path) -> None:
    size = 262_144_000 - 300
    big = sparse(tmp_path, size, "demo/data.bin", "demo")
    entries = [*big, *files({"app.py": "x" * 200}), *files({"boto3/x.py": "y" * 101}, "boto3")]
    found = [one for one in findings(X86, entries) if one.rule == "unzipped-too-large"]
    assert [one.severity for one in found] == [Severity.ERROR]
    assert found[0].message == (
        "the package has 262,144,001 bytes unzipped, the limit is 262,144,000; "
        "largest: `demo` 250.0 MiB, the project 0.0 MiB, `boto3` 0.0 MiB"
    )
    assert found[0].hint == (
        "layers count as well: use a container image (up to 10 GB) or split the function; "
        "leave out `boto3`, which the runtime has"
    )
    assert "unzipped-too-large" not in {rule for rule, _, _ in told(X86, entries[:-1])}
    assert "unzipped-too-large" not in {rule for rule, _, _ in told(X86, entries, kind="image")}


def hint_of_large(tmp_path: Path, *names: str, entries: Sequence[Entry] = ()) -> str:
    """Return the hint about a package of 60 MiB of each of some distributions, and more."""
    big = [*entries, *sparse(tmp_path, 262_144_000, "data.bin", "project")]
    for name in names:
        big += sparse(tmp_path, 60 * MIB, f"{name}/data.bin", name)
    (finding,) = [one for one in findings(X86, big) if one.rule == "unzipped-too-large"]
    hint, _, rest = str(finding.hint).rpartition("; ")
    assert (rest or hint) == "layers count as well: use a container image (up to 10 GB) or split the function"
    return hint if rest else ""


def test_distributions_of_no_use_in_a_function_are_named_with_their_flag(tmp_path: Path) -> None:
    assert hint_of_large(tmp_path, "demo") == ""
    assert hint_of_large(tmp_path, "xgboost", "nvidia-nccl-cu13") == (
        "leave out `nvidia-nccl-cu13` (Lambda has no GPU): `--exclude nvidia-nccl-cu13`"
    )
    assert hint_of_large(tmp_path, "pyspark", "triton", "cuda-bindings") == (
        "leave out `cuda-bindings`, `triton` (Lambda has no GPU): `--exclude cuda-bindings --exclude triton`; "
        "leave out `pyspark` (Lambda has no Java): `--exclude pyspark`"
    )


def test_torch_with_cuda_is_told_of_the_index_of_builds_for_the_cpu(tmp_path: Path) -> None:
    names = ("torch", "triton", *(f"nvidia-{part}-cu12" for part in ("cublas", "cudnn", "cufft", "nccl")))
    assert hint_of_large(tmp_path, *names) == (
        "take the build of `torch` for the CPU, from the index https://download.pytorch.org/whl/cpu, which needs none "
        "of `nvidia-cublas-cu12`, `nvidia-cudnn-cu12`, `nvidia-cufft-cu12` and 1 more"
    )


def test_what_a_module_is_linked_against_is_not_to_be_left_out(tmp_path: Path) -> None:
    linked = [
        *files({"demo/_ext.so": elf("needs_used_runpath.so")}, "demo"),
        *files({"used.libs/libused.so.1": elf("libused.so.1")}, "nvidia-used"),
    ]
    assert hint_of_large(tmp_path, "nvidia-other", entries=linked) == (
        "leave out `nvidia-other` (Lambda has no GPU): `--exclude nvidia-other`"
    )


def test_layers_count(tmp_path: Path) -> None:
    layer = PackageTree(sparse(tmp_path, 262_144_000))
    found = findings(X86, files({"app.py": "x"}), layers=[layer])
    assert found[0].message.startswith("the package with its layers has 262,144,001 bytes unzipped")


def test_too_many_layers() -> None:
    layers = [PackageTree()] * 6
    (finding,) = findings(X86, files({"app.py": ""}), layers=layers)
    assert (finding.rule, finding.message) == ("too-many-layers", "the function has 6 layers, the limit is 5")
    assert findings(X86, files({"app.py": ""}), layers=layers[1:]) == ()


def test_path_collision() -> None:
    collision = Collision(path="tests/__init__.py", kept="one", dropped="project")
    (finding,) = findings(X86, files({"tests/__init__.py": ""}, "one"), collisions=[collision])
    assert (finding.rule, finding.severity, finding.distribution) == ("path-collision", Severity.WARNING, "one")
    assert finding.message == (
        "`one` and the project bring different files for this path: the one of `one` is in the package"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [("random.py", "random"), ("asyncio/__init__.py", "asyncio"), ("tomllib.py", "tomllib")],
)
def test_stdlib_shadowed(path: str, name: str) -> None:
    (finding,) = findings(X86, files({path: ""}))
    assert (finding.rule, finding.severity, finding.path) == ("stdlib-shadowed", Severity.WARNING, path)
    assert finding.message == f"hides the module `{name}` of the standard library from everything in the function"


def test_what_hides_nothing_is_not_told() -> None:
    assert findings(X86, files({"app/random.py": "", "asyncio/notes.txt": "", "distutils/__init__.py": ""})) == ()
    assert told(AL2, files({"distutils/__init__.py": ""})) == [("stdlib-shadowed", "warning", "distutils/__init__.py")]
    layer = files({"python/random.py": "", "random.py": ""})
    assert told(X86, layer, kind="layer") == [("stdlib-shadowed", "warning", "python/random.py")]


def test_the_table_of_thestandard_library_is_that_of_this_interpreter() -> None:
    from manylambda.rules.python_facts import standard_library

    names = standard_library(sys.version_info[:2])
    public = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    elsewhere = {"idlelib", "turtledemo", "msilib", "winreg", "winsound", "msvcrt", "nt", "ntpath", "nturl2path"}
    assert names <= sys.stdlib_module_names
    assert public - names - elsewhere <= {
        "sys",
        "builtins",
        "marshal",
        "posix",
        "xxlimited",
        "xxlimited_35",
        "xxsubtype",
    }


def test_the_table_of_bytecode_has_this_interpreter_and_no_overlap() -> None:
    import importlib.util

    ranges: Sequence[tuple[str, list[int]]] = sorted(PYTHON["bytecode"].items(), key=lambda item: item[1][0])
    ranges = [item for item in ranges if item[0] != "2.7"]
    for (_, (_, last)), (_, (first, _)) in itertools.pairwise(ranges):
        assert last < first
    first, last = PYTHON["bytecode"]["{}.{}".format(*sys.version_info[:2])]
    assert first <= int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little") <= last


def pyc(number: int) -> bytes:
    return number.to_bytes(2, "little") + b"\r\n" + bytes(12)


def test_bytecode_stale_is_told_once_a_distribution() -> None:
    contents = {f"demo/__pycache__/{name}.cpython-311.pyc": pyc(3495) for name in "abc"}
    (finding,) = findings(X86, files(contents, "demo"))
    assert (finding.rule, finding.severity, finding.distribution) == ("bytecode-stale", Severity.WARNING, "demo")
    assert finding.message == "3 files of bytecode of Python 3.11 (48 bytes) are never used on 3.13"


def test_bytecode_stale_of_several_distributions_is_one_finding() -> None:
    name = "__pycache__/a.cpython-311.pyc"
    one, other = (files({f"{top}/{name}": pyc(3495)}, top) for top in ("one", "other"))
    (finding,) = findings(X86, one, other)
    assert (finding.distribution, finding.path) == (None, f"one/{name}")
    assert finding.message == "2 files of bytecode of Python 3.11 (32 bytes) in 2 distributions are never used on 3.13"
    (finding,) = findings(X86, one, files({name: pyc(3495)}))
    assert finding.message == (
        "2 files of bytecode of Python 3.11 (32 bytes) of the project and of `one` are never used on 3.13"
    )


def test_bytecode_with_a_name_of_the_target_and_magic_of_another_is_stale() -> None:
    path = "demo/__pycache__/a.cpython-313.pyc"
    assert told(X86, files({path: pyc(3531)})) == [("bytecode-stale", "warning", path)]
    assert findings(X86, files({path: pyc(3571)})) == ()


def test_bytecode_without_a_source_must_be_of_the_target() -> None:
    (finding,) = findings(X86, files({"demo/a.pyc": pyc(3413)}))
    assert (finding.rule, finding.severity) == ("bytecode-stale", Severity.ERROR)
    assert finding.message == ("is bytecode of Python 3.8 without a source, the runtime is 3.13: it cannot be imported")
    assert findings(X86, files({"demo/a.pyc": pyc(3571)})) == ()
    assert told(X86, files({"demo/a.pyc": b"none", "demo/a.py": ""})) == [("bytecode-stale", "warning", "demo/a.pyc")]


KEY = "-----BEGIN RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "path", [".env", ".env.production", "keys/id_rsa", ".aws/credentials", "x/service-account-1.json"]
)
def test_secret_file(path: str) -> None:
    (finding,) = findings(X86, files({path: "x"}))
    assert (finding.rule, finding.severity, finding.path) == ("secret-file", Severity.WARNING, path)


def test_only_keys_among_certificates_are_secrets() -> None:
    contents = {"key.pem": KEY, "ca.pem": "-----BEGIN CERTIFICATE-----", ".env.example": "", "docs/credentials": ""}
    assert told(X86, files(contents)) == [("secret-file", "warning", "key.pem")]
    assert findings(X86, distribution("demo", contents={"demo/test_key.pem": KEY})) == ()


def test_runtime_deprecated() -> None:
    (finding,) = findings("python3.9-arm64", files({"app.py": ""}))
    assert (finding.rule, finding.severity) == ("runtime-deprecated", Severity.WARNING)
    assert finding.message.startswith("python3.9 is deprecated since 2025-12-15")


def test_runtime_preview() -> None:
    (finding,) = findings("python3.15-arm64", files({"app.py": ""}))
    assert (finding.rule, finding.severity) == ("runtime-preview", Severity.NOTE)
    assert finding.message == "python3.15 is a preview: AWS may change it, not for production"
