"""Rows about native files: what the loader of the target would make of them."""

from __future__ import annotations

from typing import Final

from corpus.box import elf, executable_stack, first_quarter, swap, tag, to_windows
from corpus.case import (
    A13,
    GMPY2,
    LFS,
    MARKUPSAFE,
    ORJSON,
    RETAGGED,
    SO13,
    X11,
    X12,
    X13,
    YAML,
    ZMQ,
    Case,
    added,
    both,
    edited,
    error,
    nothing,
    removed,
    renamed,
    warning,
)

LOADING: Final = (
    Case(
        "wheel of the other machine",
        A13,
        (MARKUPSAFE,),
        nothing,
        (
            error("wrong-machine", SO13, "is for x86_64, the target is aarch64"),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "wheel of ARM on x86_64",
        X13,
        ("markupsafe-cp313-aarch64",),
        nothing,
        (
            error("wrong-machine", "markupsafe/_speedups.cpython-313-aarch64-linux-gnu.so", "is for aarch64"),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "one of two wheels of the other machine",
        X13,
        ("jinja2", MARKUPSAFE, "orjson-aarch64"),
        nothing,
        (
            error("wrong-machine", "orjson/orjson.cpython-313-aarch64-linux-gnu.so", "is for aarch64"),
            warning("wheel-tag-mismatch", "orjson", RETAGGED),
        ),
    ),
    Case(
        "program of the other machine",
        X13,
        ("ninja-aarch64",),
        nothing,
        (error("wrong-machine", "bin/ninja", "is for aarch64"), warning("wheel-tag-mismatch", "ninja", RETAGGED)),
    ),
    Case(
        "wheel of 32-bit ARM",
        A13,
        ("orjson-armv7l",),
        nothing,
        (
            error("wrong-machine", "orjson/orjson.cpython-313-arm-linux-gnueabihf.so", "is for armv7l (32 bit)"),
            warning("wheel-tag-mismatch", "orjson", RETAGGED),
        ),
    ),
    Case(
        "wheel of RISC-V",
        X13,
        ("markupsafe-cp313-riscv64",),
        nothing,
        (
            error("wrong-machine", "markupsafe/_speedups.cpython-313-riscv64-linux-gnu.so", "is for riscv64"),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "library of 32-bit x86 in lib/",
        X13,
        (MARKUPSAFE,),
        added("lib/libplain.so", elf("i686.so")),
        (error("wrong-machine", "lib/libplain.so", "is for i686 (32 bit)"),),
    ),
    Case(
        "wheel of macOS",
        A13,
        ("markupsafe-cp313-macos",),
        nothing,
        (
            error("foreign-binary", "markupsafe/_speedups.cpython-313-darwin.so", "is a Mach-O file (arm64) for macOS"),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "wheel of Windows",
        X13,
        ("markupsafe-cp313-windows",),
        nothing,
        (
            error("foreign-binary", "markupsafe/_speedups.cp313-win_amd64.pyd", "is a PE file (x86_64) for Windows"),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "wheel of Alpine",
        X13,
        ("markupsafe-cp313-musl",),
        nothing,
        (
            error(
                "musl-linked", "markupsafe/_speedups.cpython-313-x86_64-linux-musl.so", "needs `libc.musl-x86_64.so.1`"
            ),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "wheel of Alpine by Rust, which needs plain libc.so",
        A13,
        ("rpds-py-musl-aarch64",),
        nothing,
        (
            error("musl-linked", "rpds/rpds.cpython-313-aarch64-linux-musl.so", "it was built for musl (Alpine)"),
            error("musl-linked", "rpds_py.libs/libgcc_s-0bf60adc.so.1", "it was built for musl (Alpine)"),
            warning("wheel-tag-mismatch", "rpds-py", RETAGGED),
        ),
    ),
    Case(
        "musl program",
        X13,
        (MARKUPSAFE,),
        added(
            "bin/tool", elf("program").replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-musl-x86_64.so.1\0\0\0"), 0o755
        ),
        (error("musl-linked", "bin/tool", "needs `/lib/ld-musl-x86_64.so.1`"),),
    ),
    Case(
        "truncated module",
        X13,
        (MARKUPSAFE,),
        edited(SO13, first_quarter),
        (error("foreign-binary", SO13, "cannot be loaded: the ELF file"),),
    ),
    Case(
        "empty module",
        X13,
        (MARKUPSAFE,),
        edited(SO13, lambda _: b""),
        (error("foreign-binary", SO13, "cannot be loaded: the file is empty"),),
    ),
    Case(
        "Git LFS pointer in place of a module",
        X13,
        (MARKUPSAFE,),
        edited(SO13, lambda _: LFS.encode()),
        (error("foreign-binary", SO13, "cannot be loaded: the file is no ELF file"),),
    ),
    Case(
        "Git LFS pointer in place of a bundled library",
        X13,
        ("pyzmq",),
        edited("pyzmq.libs/libzmq*", lambda _: LFS.encode()),
        (error("library-missing", ZMQ, "needs `libzmq-2f02442c.so.5.2.5`"),),
    ),
    Case(
        "line ends of a module changed before it was recorded",
        X13,
        (MARKUPSAFE,),
        edited(SO13, to_windows),
        (error("foreign-binary", SO13, "cannot be loaded: "),),
    ),
    Case(
        "line ends of a module changed by git",
        X13,
        (MARKUPSAFE,),
        lambda box: box.edit(SO13, to_windows),
        (
            error("foreign-binary", SO13, "cannot be loaded: "),
            warning("record-mismatch", SO13, "was changed after its distribution was built"),
        ),
    ),
    Case(
        "module of the host's compiler on AL2",
        X11,
        ("markupsafe-3.0.3-cp311-x86_64",),
        edited("markupsafe/_speedups*.so", lambda _: elf("glibc_2_34.so")),
        (
            error(
                "glibc-too-new",
                "markupsafe/_speedups.cpython-311-x86_64-linux-gnu.so",
                "needs `GLIBC_2.34` (for `dlopen`, `pthread_create`), the runtime has glibc 2.26",
            ),
        ),
    ),
    Case(
        "module of zig for glibc 2.34 on AL2",
        "python3.11-arm64",
        ("six",),
        added("fast.cpython-311-aarch64-linux-gnu.so", elf("aarch64_glibc_2_34.so")),
        (error("glibc-too-new", "fast.cpython-311-aarch64-linux-gnu.so", "needs `GLIBC_2.34`"),),
    ),
    Case(
        "relative relocations of glibc 2.36",
        X13,
        ("six",),
        added("fast.cpython-313-x86_64-linux-gnu.so", elf("relr.so")),
        (error("glibc-too-new", "fast.cpython-313-x86_64-linux-gnu.so", "needs `GLIBC_ABI_DT_RELR`"),),
    ),
    Case(
        "wheel of manylinux_2_27 on AL2",
        X11,
        ("ml-dtypes-cp311",),
        nothing,
        (
            error("glibc-too-new", "ml_dtypes/_ml_dtypes_ext.cpython-311-x86_64-linux-gnu.so", "needs `GLIBC_2.27`"),
            error("distribution-missing", "ml-dtypes", "needs `numpy"),
            warning("wheel-tag-mismatch", "ml-dtypes", "no C library that the runtime has"),
        ),
    ),
    Case(
        "newer glibc in a wheel that says otherwise",
        X13,
        ("pyyaml",),
        edited(YAML, swap(b"GLIBC_2.14", b"GLIBC_2.35")),
        (error("glibc-too-new", YAML, "needs `GLIBC_2.35`"),),
    ),
    Case(
        "libstdc++ of a compiler yet to come",
        X13,
        ("greenlet",),
        edited("greenlet/_greenlet*.so", swap(b"GLIBCXX_3.4.21", b"GLIBCXX_3.4.99")),
        (
            error(
                "symbol-version-missing",
                "greenlet/_greenlet.cpython-313-x86_64-linux-gnu.so",
                "which the runtime's does not define",
            ),
        ),
    ),
    Case(
        "libstdc++ of gcc 12",
        X13,
        ("six",),
        added("fast.so", elf("glibcxx_3_4_30.so")),
        (warning("symbol-version-missing", "fast.so", "which only newer copies of the runtime define"),),
    ),
    Case(
        "libstdc++ of gcc 12 on AL2",
        X11,
        ("six",),
        added("fast.so", elf("glibcxx_3_4_30.so")),
        (error("symbol-version-missing", "fast.so", "needs `GLIBCXX_3.4.30` of `libstdc++.so.6`"),),
    ),
    Case(
        "bundled OpenSSL replaced by another",
        X13,
        ("psycopg2-binary",),
        edited("psycopg2_binary.libs/libcrypto*", swap(b"OPENSSL_3.0.0\0", b"OPENSSL_1.1.1\0")),
        (
            error(
                "symbol-version-missing",
                "psycopg2_binary.libs/libssl-8bd944e8.so.3",
                "needs `OPENSSL_3.0.0` of `libcrypto",
            ),
            error(
                "symbol-version-missing",
                "psycopg2_binary.libs/libpq-a17e3caa.so.5.17",
                "needs `OPENSSL_3.0.0` of `libcrypto",
            ),
            error(
                "symbol-version-missing",
                "psycopg2_binary.libs/libldap-d3931cbf.so.2.0.200",
                "needs `OPENSSL_3.0.0` of `libcrypto",
            ),
        ),
    ),
    Case(
        "bundled library without its newer version",
        X13,
        ("six",),
        both(
            added("fast/_fast.abi3.so", elf("needs_versioned.so")),
            added("used.libs/libversioned.so.1", elf("libversioned_1.so.1")),
        ),
        (error("symbol-version-missing", "fast/_fast.abi3.so", "needs `USED_2.0` of `libversioned.so.1`"),),
    ),
    Case(
        "folder of libraries left out",
        X13,
        ("pyzmq",),
        removed("pyzmq.libs/*"),
        (error("library-missing", ZMQ, "needs `libzmq-2f02442c.so.5.2.5`, which neither"),),
    ),
    Case(
        "one library of a chain left out",
        X13,
        ("gmpy2",),
        removed("gmpy2.libs/libgmp*"),
        (error("library-missing", GMPY2, "needs `libgmp-a6f47472.so.10.5.0`"),),
    ),
    Case(
        "a library of a library left out",
        X13,
        ("pyzmq",),
        removed("pyzmq.libs/libsodium*"),
        (
            error(
                "library-missing",
                "pyzmq.libs/libzmq-2f02442c.so.5.2.5",
                "(loaded by zmq/backend/cython/_zmq.abi3.so -> pyzmq.libs/libzmq-2f02442c.so.5.2.5)",
            ),
        ),
    ),
    Case(
        "bundled library renamed",
        X13,
        ("gmpy2",),
        renamed("gmpy2.libs/libmpc*", "-93977c64", ""),
        (error("library-missing", GMPY2, "needs `libmpc-93977c64.so.3.4.1`"),),
    ),
    Case(
        "bundled library renamed, in a distribution with code for Windows",
        X13,
        ("pyzmq",),
        renamed("pyzmq.libs/libzmq*", "-2f02442c", ""),
        (error("library-missing", ZMQ, "lies in `pyzmq.libs/libzmq.so.5.2.5`"),),
    ),
    Case(
        "soname that a module needs renamed",
        X13,
        ("pyzmq",),
        edited(ZMQ, swap(b"libzmq-2f02442c.so.5.2.5", b"libzmq-00000000.so.5.2.5")),
        (error("library-missing", ZMQ, "needs `libzmq-00000000.so.5.2.5`, which neither"),),
    ),
    Case(
        "folder of libraries renamed",
        X13,
        ("pyzmq",),
        renamed("pyzmq.libs/*", "pyzmq.libs", "libs"),
        (error("library-missing", ZMQ, "lies in `libs/libzmq-2f02442c.so.5.2.5`"),),
    ),
    Case(
        "RPATH taken away",
        X13,
        ("gmpy2",),
        edited(GMPY2, tag(15, 21)),
        (
            warning("library-missing", GMPY2, "lies in `gmpy2.libs/libgmp-a6f47472.so.10.5.0`"),
            error("library-missing", GMPY2, "lies in `gmpy2.libs/libmpc-93977c64.so.3.4.1`"),
            warning("library-missing", GMPY2, "lies in `gmpy2.libs/libmpfr-bb88ce0c.so.6.2.2`"),
        ),
    ),
    Case(
        "RPATH taken away, in a distribution with code for Windows",
        X13,
        ("pyzmq",),
        edited(ZMQ, tag(15, 21)),
        (error("library-missing", ZMQ, "where the loader does not look"),),
    ),
    Case(
        "RPATH that leads elsewhere",
        X13,
        ("gmpy2",),
        edited(GMPY2, swap(b"$ORIGIN/../gmpy2.libs", b"$ORIGIN/../../../libs")),
        (
            warning("library-missing", GMPY2, "lies in `gmpy2.libs/libgmp-a6f47472.so.10.5.0`"),
            error("library-missing", GMPY2, "lies in `gmpy2.libs/libmpc-93977c64.so.3.4.1`"),
            warning("library-missing", GMPY2, "lies in `gmpy2.libs/libmpfr-bb88ce0c.so.6.2.2`"),
        ),
    ),
    Case(
        "library that no wheel brings",
        X13,
        ("lightgbm",),
        nothing,
        (
            error("library-missing", "lightgbm/lib/lib_lightgbm.so", "needs `libgomp.so.1`"),
            error("distribution-missing", "lightgbm", "needs `narwhals"),
            error("distribution-missing", "lightgbm", "needs `numpy"),
            error("distribution-missing", "lightgbm", "needs `scipy"),
        ),
    ),
    Case(
        "module built against the host's library",
        X13,
        ("six",),
        added("fast.cpython-313-x86_64-linux-gnu.so", elf("needs_used.so")),
        (error("library-missing", "fast.cpython-313-x86_64-linux-gnu.so", "needs `"),),
    ),
    Case(
        "the host's libc copied into lib/",
        X13,
        (MARKUPSAFE,),
        added("lib/libc.so.6", elf("plain.so"), 0o755),
        (warning("library-shadowed", "lib/libc.so.6", "the runtime's own `libc.so.6` comes first"),),
    ),
    Case(
        "zlib bundled under its own name",
        X13,
        ("psycopg2-binary",),
        added("lib/libz.so.1", elf("libz.so.1"), 0o755),
        (warning("library-shadowed", "lib/libz.so.1", "the runtime's own `libz.so.1` comes first"),),
    ),
    Case(
        "files of cp312 for 3.13",
        X13,
        ("markupsafe-cp312-x86_64",),
        nothing,
        (
            error(
                "abi-tag-mismatch",
                "markupsafe/_speedups.cpython-312-x86_64-linux-gnu.so",
                "the runtime looks for `cpython-313`: the module `markupsafe._speedups` will be missing",
            ),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "files of cp313 for 3.12",
        X12,
        ("orjson-x86_64",),
        nothing,
        (
            error("abi-tag-mismatch", ORJSON, "the module `orjson.orjson` will be missing"),
            warning("wheel-tag-mismatch", "orjson", RETAGGED),
        ),
    ),
    Case(
        "free-threaded wheel",
        X13,
        ("markupsafe-3.0.3-cp313t-x86_64",),
        nothing,
        (
            error(
                "abi-tag-mismatch",
                "markupsafe/_speedups.cpython-313t-x86_64-linux-gnu.so",
                "is built for `cpython-313t",
            ),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "module of a debug build",
        X13,
        (MARKUPSAFE,),
        renamed(SO13, "cpython-313-", "cpython-313d-"),
        (
            error(
                "abi-tag-mismatch",
                "markupsafe/_speedups.cpython-313d-x86_64-linux-gnu.so",
                "is built for `cpython-313d",
            ),
        ),
    ),
    Case(
        "wheel of PyPy",
        X13,
        ("rpds-py-pypy",),
        nothing,
        (
            error(
                "abi-tag-mismatch",
                "rpds/rpds.pypy311-pp73-x86_64-linux-gnu.so",
                "is built for `pypy311-pp73-x86_64-linux-gnu`",
            ),
            warning("wheel-tag-mismatch", "rpds-py", RETAGGED),
        ),
    ),
    Case(
        "both Pythons' modules side by side",
        X13,
        (MARKUPSAFE, "markupsafe-cp312-x86_64"),
        nothing,
        (
            warning(
                "abi-tag-mismatch", "markupsafe/_speedups.cpython-312-x86_64-linux-gnu.so", "is had from elsewhere"
            ),
            warning("wheel-tag-mismatch", "markupsafe", RETAGGED),
        ),
    ),
    Case(
        "executable stack",
        X13,
        (MARKUPSAFE,),
        edited(SO13, executable_stack),
        (warning("executable-stack", SO13, "asks for an executable stack"),),
    ),
    Case(
        "code that is not position-independent",
        X13,
        ("pyyaml",),
        edited(YAML, tag(0x6FFF_FFF9, 22)),
        (warning("text-relocations", YAML, "has relocations in its code"),),
    ),
    Case(
        "function that CPython does not have",
        X13,
        (MARKUPSAFE,),
        edited(SO13, swap(b"PyUnicode_New\0", b"PyUnicode_Old\0")),
        (error("symbol-undefined", SO13, "`PyUnicode_Old`"),),
    ),
    Case(
        "bundled library of another release, without a function",
        X13,
        ("gmpy2",),
        edited("gmpy2.libs/libmpc*", swap(b"\0mpc_sqrt\0", b"\0mpc_sqrx\0")),
        (error("symbol-undefined", GMPY2, "`mpc_sqrt`"),),
    ),
    Case(
        "module for x86-64-v4",
        X13,
        ("six",),
        added("fast.abi3.so", elf("isa_v4.so")),
        (error("cpu-level-too-high", "fast.abi3.so", "needs a processor of level x86-64-v4"),),
    ),
    Case(
        "module for x86-64-v3",
        X13,
        ("six",),
        added("fast.abi3.so", elf("isa_v3.so")),
        (warning("cpu-level-too-high", "fast.abi3.so", "needs a processor of level x86-64-v3"),),
    ),
)
