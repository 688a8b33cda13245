from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from manylambda import elf
from manylambda.errors import FetchError, ManylambdaError, NotCached, PackagingError
from manylambda.fetch import Cache
from manylambda.host.interpreters import find_interpreter
from manylambda.host.model import Unusable
from manylambda.locks.model import LocalPackage
from manylambda.sdists import Builder, BuildSettings
from manylambda.sdists.nature import examine
from manylambda.sdists.rust import find_rust, lay_out_rust, own_crates
from manylambda.target import Target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for Rust's programs are shell scripts")

ARM = Target.parse("python3.13-arm64")
MACHINE = platform.machine() if platform.machine() in {"x86_64", "aarch64"} else "x86_64"
TRIPLE = f"{MACHINE}-unknown-linux-gnu"
FACTORY = Path(__file__).parent.parent / "wheel_factory.py"


def own_cargo() -> str | None:
    """Say why the host's own Rust cannot be used here, if it cannot."""
    try:
        find_rust("any", MACHINE, os.environ)
    except PackagingError as error:
        return error.message
    if shutil.which("cargo") is None:
        return "cargo is not on the path, and some tests give it another home"
    if sys.platform != "linux":
        return "what is built is imported here"
    return None if importlib.util.find_spec("ziglang") else "zig is not installed beside us"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def stand_in(folder: Path, *, triples: tuple[str, ...] = (TRIPLE,), cargo: str | None = "exit 1") -> dict[str, str]:
    """Put a toolchain that compiles nothing into `folder`; give the environment that finds it."""
    program(
        folder / "bin" / "rustc",
        f'case $1 in --print) echo {folder} ;; *) echo "rustc 1.0.0 (abc 2020-01-01)"; '
        f'[ $1 = -vV ] && echo "commit-hash: abcdef" && echo "host: {TRIPLE}" ;; esac; exit 0',
    )
    if cargo is not None:
        program(folder / "bin" / "cargo", cargo)
    for triple in triples:
        library = folder / "lib" / "rustlib" / triple / "lib"
        library.mkdir(parents=True)
        (library / "libstd-1.rlib").touch()
    return {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder / "home")}


def refusal(machine: str, environment: dict[str, str]) -> PackagingError:
    with pytest.raises(PackagingError) as caught:
        find_rust("orjson", machine, environment)
    return caught.value


def test_a_host_without_rust_is_told_where_it_is_to_be_had(tmp_path: Path) -> None:
    error = refusal("aarch64", {"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert error.message == "`orjson` is written in Rust, and there is no Rust toolchain on this host"
    assert error.hint == (
        "install it from https://rustup.rs, then `rustup target add aarch64-unknown-linux-gnu`; "
        "or `--sdist-engine container --image REF` builds in an image that has it"
    )


def test_a_rust_that_cannot_compile_for_the_target_is_told_what_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "toolchains" / "stable"
    environment = stand_in(folder, triples=("riscv64gc-unknown-linux-gnu",))
    error = refusal("aarch64", environment)
    assert error.message == (
        "`orjson` is written in Rust, and the Rust toolchain on this host (rustc 1.0.0 (abc 2020-01-01)) has no "
        "standard library of `aarch64-unknown-linux-gnu`"
    )
    command = "`rustup target add aarch64-unknown-linux-gnu`"
    assert error.hint == f"a toolchain of https://rustup.rs gets it by {command}"
    (tmp_path / "settings.toml").touch()  # as rustup has it beside its toolchains
    assert refusal("aarch64", environment).hint == command


def test_a_rust_without_cargo_is_told_so(tmp_path: Path) -> None:
    environment = {**stand_in(tmp_path / "rust", cargo=None), "PATH": str(tmp_path / "rust" / "bin")}
    assert refusal(MACHINE, environment).message == (
        "`orjson` is written in Rust, and the Rust toolchain on this host (rustc 1.0.0 (abc 2020-01-01)) has no `cargo`"
    )


def test_what_rustup_says_when_it_has_no_toolchain_is_told(tmp_path: Path) -> None:
    program(tmp_path / "rustc", "echo 'error: no default toolchain is configured.' >&2; exit 1")
    error = refusal(MACHINE, {"PATH": str(tmp_path)})
    assert error.message == (
        "`orjson` is written in Rust, and the Rust toolchain on this host does not work: "
        "no default toolchain is configured"
    )


def test_rust_is_found_where_rustup_puts_it(tmp_path: Path) -> None:
    environment = stand_in(tmp_path / "home" / ".cargo")
    found = find_rust("orjson", MACHINE, {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")})
    assert found.cargo == Path(environment["PATH"].partition(":")[0], "cargo")


@pytest.mark.parametrize(
    ("files", "needs"),
    [
        ({"pyproject.toml": '[build-system]\nrequires = ["maturin>=1"]\nbuild-backend = "maturin"'}, True),
        ({"pyproject.toml": '[build-system]\nrequires = ["setuptools", "setuptools-rust>=1.7"]'}, True),
        # zstandard has a part in Rust that is not built unless it is asked for.
        ({"pyproject.toml": '[build-system]\nrequires = ["cffi"]', "setup.py": "", "rust-ext/src/lib.rs": ""}, False),
    ],
)
def test_only_what_cannot_be_built_without_rust_asks_for_it(files: dict[str, str], *, needs: bool) -> None:
    nature = examine(files, files.get)
    assert nature.is_native
    assert nature.builds_rust is needs
    assert "Rust" in nature.languages


def shims(folder: Path) -> dict[str, str]:
    """Lay Rust out for a build in `folder`, and give the environment."""
    rust = find_rust("any", MACHINE, stand_in(folder / "rust"))
    (folder / "tools" / "bin").mkdir(parents=True)
    (folder / "tools" / "settings.json").write_text(json.dumps({"zig": "/zig/zig", "sysroot": "/sysroot"}))
    return lay_out_rust(rust, ARM, folder / "tools", str(folder), python="/python", is_closed=False)


def test_what_runs_here_is_linked_for_here(tmp_path: Path) -> None:
    """Build scripts and macros run during the build, though the target may be the same machine with an older glibc."""
    environment = shims(tmp_path)
    program(tmp_path / "rust" / "bin" / "rustc", 'printf "%s\\n" "$@"')
    told = [
        subprocess.run([environment["RUSTC"], *words], capture_output=True, text=True, check=True).stdout.splitlines()
        for words in (["lib.rs", "--target", TRIPLE], ["build.rs"], ["@arguments"])
    ]
    assert f"linker={tmp_path}/tools/bin/cc" in told[0]
    assert f"--remap-path-prefix={tmp_path}=build" in told[0]
    assert told[1] == ["build.rs", "-C", f"linker={tmp_path}/tools/bin/host-cc"]
    assert told[2][-1] != told[1][-1]
    settings = json.loads((tmp_path / "tools" / "host.json").read_text())
    assert settings == {"zig": "/zig/zig", "target": f"{MACHINE}-linux-gnu.2.17", "sysroot": None, "libraries": []}


def test_pyo3_is_told_of_the_target(tmp_path: Path) -> None:
    told = Path(shims(tmp_path)["PYO3_CONFIG_FILE"]).read_text().splitlines()
    assert {"implementation=CPython", "version=3.13", "suppress_build_script_link_lines=true"} <= set(told)


# --- crates

MANIFEST = """\
[package]
name = "counted"
version = "1.0.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]
"""
LOCK = """\
version = 3

[[package]]
name = "pyo3"
version = "0.22.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
"""
# A backend that is called as that of Rust is, and brings no requirement.
BACKEND = """\
import os, subprocess, sysconfig
from pathlib import Path
from wheel_factory import make_wheel

def build_wheel(folder, settings=None, metadata=None):
    subprocess.run(["cargo", "build", "--release"], check=True)
    tag, system = "cp" + sysconfig.get_config_var("py_version_nodot"), sysconfig.get_platform().replace("-", "_")
    made = Path(os.environ["CARGO_TARGET_DIR"], os.environ["CARGO_BUILD_TARGET"], "release", "libcounted.so")
    files = {"counted" + sysconfig.get_config_var("EXT_SUFFIX"): made.read_bytes()}
    return make_wheel(Path(folder), "counted", "1.0", files, tags=[f"{tag}-{tag}-{system}"]).name
"""


def tree(folder: Path, files: dict[str, str], *, requires: str = "", backend: str = "maturin_within") -> LocalPackage:
    system = f'requires = [{requires}]\nbuild-backend = "{backend}"\n'
    within = {"maturin_within.py": BACKEND, "wheel_factory.py": FACTORY.read_text(encoding="utf-8")}
    if not requires:
        system += 'backend-path = ["."]\n'
        files = {**within, **files}
    common = {"pyproject.toml": f"[build-system]\n{system}", "Cargo.toml": MANIFEST}
    for name, text in {**common, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # What it has of its own comes after what every tree has.
        path.write_text(common[name] + text if name in common and name in files else text)
    return LocalPackage(name="counted", directory=folder)


class Heard:
    """Keeps what a build tells."""

    def __init__(self) -> None:
        from manylambda.progress import SILENT

        self.lines: list[str] = []
        self.task = SILENT.task

    def info(self, message: str) -> None:
        self.lines.append(message)

    detail = warning = info


def build(
    package: LocalPackage, cache: Path, target: Target, environment: dict[str, str], *, offline: bool = True
) -> tuple[Path, list[str]]:
    heard = Heard()
    settings = BuildSettings(offline=offline, engine="zig")
    builder = Builder(settings=settings, environment=environment, cache=Cache(cache), progress=heard)
    try:
        return builder.folders([package], target)[package].path, heard.lines
    except ManylambdaError as error:
        error.add_note("\n".join(heard.lines))
        raise


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give one cache for all, so that what every build needs of zig is made once."""
    return tmp_path_factory.mktemp("cache")


def native(runtime: str = "python3.13") -> Target:
    """A target of this machine whose CPython is here."""
    target = Target.parse(f"{runtime}-" + {"x86_64": "x86_64", "aarch64": "arm64"}[MACHINE])
    python_of(target)
    return target


def python_of(target: Target) -> str:
    found = find_interpreter(target.python)
    if isinstance(found, Unusable) or not Path(found.include, "Python.h").is_file():
        pytest.skip(f"no CPython of {target} with headers on this host")
    return found.program


NO_NAME = "error: failed to sync\n\nCaused by:\n  [6] Could not resolve hostname (index.crates.io)"


@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="zig is not installed beside us")
class TestCrates:
    def test_crates_that_cannot_be_reached(self, tmp_path: Path, cache: Path) -> None:
        cargo = f"printf '{NO_NAME}' >&2; exit 101"
        environment = {**os.environ, **stand_in(tmp_path / "rust", cargo=cargo)}
        package = tree(tmp_path / "tree", {"Cargo.lock": LOCK, "src/lib.rs": ""})
        with pytest.raises(FetchError) as caught:
            build(package, cache, native(), environment, offline=False)
        assert caught.value.message == (
            "the crates of `counted` cannot be fetched: [6] Could not resolve hostname (index.crates.io)"
        )
        assert caught.value.hint == (
            "cargo takes them from crates.io, or from a mirror that your own `~/.cargo/config.toml` names; "
            "a source that has them within (`cargo vendor`) needs neither"
        )
        with pytest.raises(NotCached) as kept:
            build(package, cache, native(), environment)
        assert kept.value.message == "the crates of `counted` are not in the cache"

    def test_cargo_sees_nothing_of_a_package_that_could_run_a_program(self, tmp_path: Path, cache: Path) -> None:
        """It runs outside of the build, with the network: only the manifests are there, and no login."""
        seen = tmp_path / "seen"
        cargo = (
            'while [ "$1" != --manifest-path ]; do shift; done; cd "${2%/*}"; '
            f"export -p > {seen}.env; PATH=/usr/bin:/bin; find . -type f | sort > {seen}; cat src/lib.rs >> {seen}; "
            'echo "error: enough" >&2; exit 1'
        )
        environment = {
            **os.environ,
            **stand_in(tmp_path / "rust", cargo=cargo),
            "SSH_AUTH_SOCK": "/agent",
            "CARGO_REGISTRIES_OWN_TOKEN": "secret",
        }
        hostile = '[registry]\nglobal-credential-providers = ["/bin/evil"]\n'
        files = {"Cargo.lock": LOCK, "src/lib.rs": "evil", ".cargo/config.toml": hostile, "rust-toolchain": "nightly"}
        with pytest.raises(PackagingError) as caught:
            build(tree(tmp_path / "tree", files), cache, native(), environment, offline=False)
        assert caught.value.message == "cargo cannot tell the crates of `counted`: enough"
        assert seen.read_text().split() == ["./Cargo.lock", "./Cargo.toml", "./src/lib.rs"]
        lines = Path(f"{seen}.env").read_text().splitlines()
        told = {name: value.strip("'\"") for name, _, value in (line[7:].partition("=") for line in lines)}
        assert "SSH_AUTH_SOCK" not in told
        assert told["HOME"] != environment["HOME"]
        assert told["CARGO_REGISTRIES_OWN_TOKEN"] == "secret"
        assert told["CARGO_HOME"] == str(cache / "v1" / "tools" / "cargo")


def test_the_users_own_folder_of_crates_is_found(tmp_path: Path) -> None:
    home = tmp_path / ".cargo"
    home.mkdir()
    config = home / "config.toml"
    environment = {"HOME": str(tmp_path)}
    assert own_crates(environment) is None
    config.write_text(
        '[source.crates-io]\nreplace-with = "a"\n[source.a]\nreplace-with = "b"\n[source.b]\ndirectory = "d"'
    )
    assert own_crates(environment) == tmp_path / "d"
    config.write_text('[source.crates-io]\nreplace-with = "a"\n[source.a]\nregistry = "https://mirror.test/"')
    assert own_crates(environment) is None
    config.write_text('[source.crates-io]\nreplace-with = "a"\n[source.a]\nreplace-with = "crates-io"')
    assert own_crates(environment) is None


# --- with the host's own Rust

OWN = own_cargo()


needs_cargo = pytest.mark.skipif(OWN is not None, reason=f"{OWN}")


# A module by hand: the few functions of CPython's API that it calls are declared here, so it needs no crate.
LIBRARY = """
use std::ffi::{c_char, c_int, c_long, c_void};
type Object = *mut c_void;
#[repr(C)]
struct Method {
    name: *const c_char, call: Option<unsafe extern "C" fn(Object, Object) -> Object>, flags: c_int, doc: *const c_char,
}
#[repr(C)]
struct Module {
    count: isize, kind: Object, init: Object, index: isize, copy: Object, name: *const c_char, doc: *const c_char,
    size: isize, methods: *mut Method, slots: Object, traverse: Object, clear: Object, free: Object,
}
extern "C" {
    fn PyModule_Create2(module: *mut Module, version: c_int) -> Object;
    fn PyLong_FromLong(value: c_long) -> Object;
    fn PyLong_AsLong(object: Object) -> c_long;
}
// A thread, and a panic that is caught: what needs libpthread and an unwinder.
unsafe extern "C" fn twice(_: Object, number: Object) -> Object {
    let number = PyLong_AsLong(number);
    let made = std::thread::spawn(move || number.checked_mul(2).expect(env!("SAID"))).join();
    PyLong_FromLong(made.unwrap_or(-1))
}
#[no_mangle]
pub unsafe extern "C" fn PyInit_counted() -> Object {
    let none = std::ptr::null_mut();
    let methods = Box::leak(Box::new([
        Method { name: b"twice\\0".as_ptr().cast(), call: Some(twice), flags: 8, doc: std::ptr::null() },
        Method { name: std::ptr::null(), call: None, flags: 0, doc: std::ptr::null() },
    ]));
    let module = Module {
        count: 1, kind: none, init: none, index: 0, copy: none, name: b"counted\\0".as_ptr().cast(),
        doc: std::ptr::null(), size: -1, methods: methods.as_mut_ptr(), slots: none, traverse: none, clear: none,
        free: none,
    };
    PyModule_Create2(Box::leak(Box::new(module)), 1013)
}
"""
SOURCES = {
    "src/lib.rs": LIBRARY,
    "build.rs": 'fn main() { println!("cargo:rustc-env=SAID=too many {}", cfg!(of_the_target)); }\n',
    # Flags of a package's own stay: those of the environment would take their place.
    ".cargo/config.toml": '[build]\nrustflags = ["--cfg", "of_the_target"]\nrustc-wrapper = "sccache"\n'
    f'[target.{TRIPLE}]\nlinker = "nowhere"\nrustflags = ["-C", "link-arg=-fuse-ld=mold", "--cfg", "of_the_target"]\n',
}


def imported(wheel: Path, folder: Path, target: Target) -> str:
    """Import the module of a wheel with the target's Python; give what two calls return."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    asked = "import counted; print(counted.twice(21), counted.twice(2 ** 62))"
    command = [python_of(target), "-c", asked]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@needs_cargo
@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["python3.13", "python3.11"])
def test_rust_is_compiled_for_the_runtimes_glibc(tmp_path: Path, cache: Path, runtime: str) -> None:
    target = native(runtime)
    package = tree(tmp_path / "tree", SOURCES)
    wheel, _ = build(package, cache, target, dict(os.environ))
    assert imported(wheel, tmp_path / "out", target) == "42 -1"
    (module,) = (tmp_path / "out").glob("*.so")
    read = elf.read(module)
    assert isinstance(read, elf.ElfFile)
    assert read.machine == MACHINE
    needed = {version for needs in read.version_needs.values() for version in needs}
    assert max(int(one.split(".")[1]) for one in needed if one.startswith("GLIBC_2.")) <= target.glibc.minor
    # Its unwinder is within, and CPython's library is not asked for.
    assert not [name for name in read.needed if name.startswith(("libgcc_s", "libunwind", "libpython"))]
    text = module.read_bytes()
    for place in (str(tmp_path), str(Path.home()), "/build/", "rustup/toolchains"):
        assert place.encode() not in text


@needs_cargo
@pytest.mark.slow
def test_another_place_gives_the_same_bytes(tmp_path: Path, cache: Path) -> None:
    target = native()
    wheel, _ = build(tree(tmp_path / "tree", SOURCES), cache, target, dict(os.environ))
    (tmp_path / "other" / "v1").mkdir(parents=True)
    (tmp_path / "other" / "v1" / "tools").symlink_to(cache / "v1" / "tools")
    again = tree(tmp_path / "elsewhere" / "tree", SOURCES)
    second, _ = build(again, tmp_path / "other", target, dict(os.environ))
    assert second.name == wheel.name
    assert second.read_bytes() == wheel.read_bytes()


@needs_cargo
@pytest.mark.slow
def test_another_rust_compiles_anew(tmp_path: Path, cache: Path) -> None:
    package, target = tree(tmp_path / "tree", SOURCES), native()
    own = dict(os.environ)
    wheel, _ = build(package, cache, target, own)
    assert "`counted` is unchanged since it was built" in build(package, cache, target, own)[1]
    other = {**own, **stand_in(tmp_path / "rust", triples=())}
    with pytest.raises(PackagingError, match="has no standard library of"):
        build(package, cache, target, other)
    # Where there is none at all, what was compiled is still what it was.
    none = {**own, "PATH": "/nowhere", "HOME": str(tmp_path), "CARGO_HOME": str(tmp_path)}
    assert build(package, cache, target, none)[0] == wheel


CRATE = {
    "Cargo.toml": '[package]\nname = "told"\nversion = "1.0.0"\nedition = "2021"\n',
    "src/lib.rs": "pub const TOLD: &str = file!();\n",
    ".cargo-checksum.json": '{"files": {}}',
}


def uses_crate(folder: Path, files: dict[str, str]) -> LocalPackage:
    library = LIBRARY.replace('env!("SAID")', "told::TOLD")
    return tree(folder, {"Cargo.toml": '[dependencies]\ntold = "1"\n', "src/lib.rs": library, **files})


@needs_cargo
@pytest.mark.slow
def test_crates_within_the_source_need_no_network(tmp_path: Path, cache: Path) -> None:
    config = '[source.crates-io]\nreplace-with = "own"\n[source.own]\ndirectory = "vendor"\n'
    files = {".cargo/config.toml": config, **{f"vendor/told/{name}": text for name, text in CRATE.items()}}
    target = native()
    wheel, _ = build(uses_crate(tmp_path / "tree", files), cache, target, dict(os.environ))
    assert imported(wheel, tmp_path / "out", target) == "42 -1"


@needs_cargo
@pytest.mark.slow
def test_a_folder_of_crates_of_the_users_is_used_and_left_as_it_is(tmp_path: Path, cache: Path) -> None:
    """`cargo vendor` would delete what it takes from there, up to Rust 1.86."""
    target, home = native(), tmp_path / "home"
    for name, text in CRATE.items():
        path = home / "crates" / "told" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (home / "cargo").mkdir()
    config = f'[source.crates-io]\nreplace-with = "own"\n[source.own]\ndirectory = "{home}/crates"\n'
    (home / "cargo" / "config.toml").write_text(config)
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    environment = {**os.environ, "CARGO_HOME": str(home / "cargo"), "RUSTUP_HOME": rustup}
    wheel, _ = build(uses_crate(tmp_path / "tree", {}), cache, target, environment)
    assert imported(wheel, tmp_path / "out", target) == "42 -1"
    assert (home / "crates" / "told" / "src" / "lib.rs").is_file()
    (module,) = (tmp_path / "out").glob("*.so")
    assert b"crates/told/src/lib.rs" in module.read_bytes()
    assert str(home).encode() not in module.read_bytes()


@needs_cargo
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to make a repository with")
def test_crates_are_fetched_before_the_build(tmp_path: Path, cache: Path) -> None:
    """From a repository of this machine, which the build itself does not see; the lock is of an earlier version."""
    for name in ("Cargo.toml", "src/lib.rs"):
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CRATE[name])
    git = ("git", "-C", str(tmp_path / "repository"), "-c", "user.name=a", "-c", "user.email=a@b.test")
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "one")):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    lock = (
        'version = 3\n\n[[package]]\nname = "counted"\nversion = "0.9.0"\ndependencies = ["told"]\n\n'
        f'[[package]]\nname = "told"\nversion = "1.0.0"\nsource = "git+file://{tmp_path}/repository#{commit}"\n'
    )
    wanted = f'[dependencies]\ntold = {{ git = "file://{tmp_path}/repository" }}\n'
    package = uses_crate(tmp_path / "tree", {"Cargo.toml": wanted, "Cargo.lock": lock})
    target = native()
    wheel, told = build(package, cache, target, dict(os.environ), offline=False)
    assert "the `Cargo.lock` of `counted` does not fit its `Cargo.toml`: cargo adapted it" in told
    assert imported(wheel, tmp_path / "out", target) == "42 -1"
    (module,) = (tmp_path / "out").glob("*.so")
    assert b"crates/told" in module.read_bytes()
    assert str(tmp_path).encode() not in module.read_bytes()


@needs_cargo
@pytest.mark.slow
def test_what_cargo_said_is_the_cause(tmp_path: Path, cache: Path) -> None:
    package = tree(tmp_path / "tree", {"src/lib.rs": "pub fn f() { nothing(); }\n"})
    with pytest.raises(PackagingError) as caught:
        build(package, cache, native(), dict(os.environ))
    assert caught.value.message == (
        f"`counted` cannot be built for `{native()}`: cannot find function `nothing` in this scope"
    )


@needs_cargo
@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("backend", ["setuptools-rust", "maturin"])
def test_the_backends_of_rust(tmp_path: Path, cache: Path, backend: str) -> None:
    target = native()
    if backend == "maturin":
        about = '[tool.maturin]\nbindings = "bin"\n'
        files = {"Cargo.toml": '\n[[bin]]\nname = "counts"\npath = "src/main.rs"\n', "src/main.rs": "fn main() {}\n"}
        requires, name = '"maturin>=1,<2"', "maturin"
    else:
        about = (
            '[[tool.setuptools-rust.ext-modules]]\ntarget = "counted"\npath = "Cargo.toml"\nbinding = "NoBinding"\n'
            "[tool.setuptools]\npackages = []\n"
        )
        files, requires, name = {}, '"setuptools", "setuptools-rust"', "setuptools.build_meta"
    about += '[project]\nname = "counted"\nversion = "1.0"\n'
    folder = tmp_path / "counted-1.0"
    tree(folder, {**SOURCES, **files}, requires=requires, backend=name)
    with (folder / "pyproject.toml").open("a") as file:
        file.write(about)
    with tarfile.open(tmp_path / "counted-1.0.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    builder = Builder(environment=dict(os.environ), cache=Cache(cache))
    sha256 = hashlib.sha256((tmp_path / "counted-1.0.tar.gz").read_bytes()).hexdigest()
    wheel = builder.archive("counted", tmp_path / "counted-1.0.tar.gz", sha256, target).path
    if backend == "maturin":
        with zipfile.ZipFile(wheel) as opened:
            assert "counted-1.0.data/scripts/counts" in opened.namelist()
        assert wheel.name.startswith("counted-1.0-py3-none-manylinux_2_")
    else:
        assert imported(wheel, tmp_path / "out", target) == "42 -1"
    assert shutil.which("cargo") is not None
