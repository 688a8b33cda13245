#!/bin/sh
# Makes the ELF files of data/: one a fault, each a few KB. Made with gcc 12.2 (x86_64, glibc 2.36) and `ziglang` 0.17 for
# the other machines; the tests only need the results, which are committed.
set -eu
cd "$(dirname "$0")"
rm -rf data && mkdir -p data && cd data
ZIG="${ZIG:-python3 -m ziglang}"
SMALL="-Os -fPIC -nostdlib -Wl,-z,noseparate-code -Wl,--build-id=none -Wl,--hash-style=gnu -s -fno-asynchronous-unwind-tables"
so() { out=$1; shift; gcc -shared $SMALL -o "$out" "$@"; }

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
echo 'int module(void) { return 1; }' > "$work/plain.c"
echo 'extern int used(void); int module(void) { return used(); }' > "$work/user.c"
echo 'int used(void) { return 1; }' > "$work/used.c"

# Needs nothing.
so plain.so "$work/plain.c"

# GLIBC_2.34: what a compiler of this host makes of pthread_create and dlopen.
cat > "$work/new.c" <<X
extern int pthread_create(void *, void *, void *, void *); extern void *dlopen(const char *, int); extern int puts(const char *);
int module(void) { puts("x"); dlopen("x", 1); return pthread_create(0, 0, 0, 0); }
X
so glibc_2_34.so "$work/new.c" -Wl,--no-as-needed -lc
# Relative relocations in the short form: glibc 2.36.
cat > "$work/relr.c" <<X
extern int puts(const char *); static int a; int *p[] = {&a, &a, &a}; int module(void) { return puts("x"); }
X
so relr.so "$work/relr.c" -Wl,--no-as-needed -lc -Wl,-z,pack-relative-relocs

# A library that is nowhere, and one that lies beside, reached by RUNPATH, by RPATH, or not at all.
so libused.so.1 "$work/used.c" -Wl,-soname,libused.so.1
so needs_used.so "$work/user.c" ./libused.so.1
so needs_used_runpath.so "$work/user.c" ./libused.so.1 -Wl,--enable-new-dtags '-Wl,-rpath,$ORIGIN/../used.libs'
so needs_used_rpath.so "$work/user.c" ./libused.so.1 -Wl,--disable-new-dtags '-Wl,-rpath,${ORIGIN}/../used.libs:/usr/lib64'

# A copy of a library of the runtime, and what uses it, by RUNPATH (loses) and by RPATH (wins).
so libz.so.1 "$work/used.c" -Wl,-soname,libz.so.1
so needs_z_runpath.so "$work/user.c" ./libz.so.1 -Wl,--enable-new-dtags '-Wl,-rpath,$ORIGIN/../used.libs'
so needs_z_rpath.so "$work/user.c" ./libz.so.1 -Wl,--disable-new-dtags '-Wl,-rpath,$ORIGIN/../used.libs'

# A library with versions: the new one, what was linked against it, and the old one.
printf 'USED_1.0 { global: used; local: *; };\n' > "$work/v1.map"
printf 'USED_1.0 { local: *; }; USED_2.0 { global: used; } USED_1.0;\n' > "$work/v2.map"
so "$work/libversioned.so.1" "$work/used.c" -Wl,-soname,libversioned.so.1 -Wl,--version-script,"$work/v2.map"
so needs_versioned.so "$work/user.c" "$work/libversioned.so.1" '-Wl,-rpath,$ORIGIN/../used.libs'
cp "$work/libversioned.so.1" libversioned_2.so.1
so libversioned_1.so.1 "$work/used.c" -Wl,-soname,libversioned.so.1 -Wl,--version-script,"$work/v1.map"

# GLIBCXX_3.4.30, which the libstdc++ of gcc 12 has and that of gcc 11 has not.
printf 'GLIBCXX_3.4.30 { global: used; local: *; };\n' > "$work/cxx.map"
so "$work/libstdc++.so.6" "$work/used.c" -Wl,-soname,libstdc++.so.6 -Wl,--version-script,"$work/cxx.map"
so glibcxx_3_4_30.so "$work/user.c" "$work/libstdc++.so.6"

so "$work/libc.musl-x86_64.so.1" "$work/used.c" -Wl,-soname,libc.musl-x86_64.so.1
so musl.so "$work/user.c" "$work/libc.musl-x86_64.so.1"
so execstack.so "$work/plain.c" -Wl,-z,execstack
so isa_v3.so "$work/plain.c" -Wl,-z,x86-64-v3
so isa_v4.so "$work/plain.c" -Wl,-z,x86-64-v4
echo '.globl module; .text; module: movabs $other, %rax; ret; .data; .globl other; other: .quad 0; .section .note.GNU-stack,"",@progbits' > "$work/textrel.s"
so textrel.so "$work/textrel.s" -Wl,-z,notext

# Symbols that nothing defines: a library that lost one, CPython's API of other versions (removed, public and private but
# newer, of a debug build), C++ that was linked as C.
echo 'int other(void) { return 1; }' > "$work/other.c"
so libused_without.so.1 "$work/other.c" -Wl,-soname,libused.so.1
# A library that calls back into the module that loads it.
echo 'extern int module(void); int used(void) { return module(); }' > "$work/back.c"
so libused_back.so.1 "$work/back.c" -Wl,-soname,libused.so.1
calls() { out=$1; shift; : > "$work/calls.c"; for name in "$@"; do echo "extern int $name(void);" >> "$work/calls.c"; done
  { echo 'int module(void) { return 0'; for name in "$@"; do echo "+ $name()"; done; echo '; }'; } >> "$work/calls.c"
  so "$out" "$work/calls.c"; }
calls api_removed.so PyModule_Create2 _PyUnicode_Ready PyUnicode_AsUnicode
calls api_newer.so PyModule_Create2 PyType_GetModuleByDef
calls api_private_newer.so PyModule_Create2 _PyErr_SetLocaleString
calls api_debug.so PyModule_Create2 _Py_NegativeRefcount _Py_RefTotal
calls cxx_as_c.so __gxx_personality_v0 _Znwm
calls crc.so crc32
gcc -c -Os -o relocatable.o "$work/plain.c"
echo 'int main(void) { return 0; }' > "$work/main.c"
gcc -Os -s -Wl,-z,noseparate-code -Wl,--build-id=none -o program "$work/main.c"
# A library that can also be run, as libQt5Core and libc are.
echo 'const char interp[] __attribute__((section(".interp"))) = "/lib64/ld-linux-x86-64.so.2"; int module;' > "$work/both.c"
so libboth.so.1 "$work/both.c" -Wl,-soname,libboth.so.1

zig() { out=$1 target=$2; shift 2; $ZIG cc -target "$target" -Os -s -fno-sanitize=undefined -g0 -fPIC -shared -nostdlib -o "$out" "$@"; }
zig aarch64.so aarch64-linux-gnu.2.34 "$work/plain.c"
zig i686.so x86-linux-gnu.2.34 "$work/plain.c"
zig s390x.so s390x-linux-gnu.2.34 "$work/plain.c"   # big-endian
zig aarch64_glibc_2_34.so aarch64-linux-gnu.2.34 "$work/new.c" -lc
ls -l
