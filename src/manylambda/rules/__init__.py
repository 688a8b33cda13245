"""The rules of the audit, one function each; `ALL` is what a build and `manylambda audit` apply.

A rule is a line here, a function in the file of its family, a section in `docs/reference/rules.md`, and a good and a
bad example in the tests.
"""

from __future__ import annotations

from typing import Final

from manylambda.audits import Rule
from manylambda.rules import distributions, handler, image, loading, making, package, records, runtime

ALL: Final[tuple[Rule, ...]] = (
    Rule("wrong-machine", loading.wrong_machine),
    Rule("foreign-binary", loading.foreign_binary),
    Rule("musl-linked", loading.musl_linked),
    Rule("glibc-too-new", loading.glibc_too_new),
    Rule("symbol-version-missing", loading.symbol_version_missing),
    Rule("symbol-undefined", loading.symbol_undefined),
    Rule("library-missing", loading.library_missing),
    Rule("library-shadowed", loading.library_shadowed),
    Rule("abi-tag-mismatch", loading.abi_tag_mismatch),
    Rule("cpu-level-too-high", loading.cpu_level_too_high),
    Rule("executable-stack", loading.executable_stack),
    Rule("text-relocations", loading.text_relocations),
    Rule("wheel-tag-mismatch", distributions.wheel_tag_mismatch),
    Rule("requires-python", distributions.requires_python),
    Rule("distribution-missing", distributions.distribution_missing),
    Rule("distribution-conflict", distributions.distribution_conflict),
    Rule("record-mismatch", records.record_mismatch),
    Rule("pure-fallback", distributions.pure_fallback),
    Rule("module-missing", records.module_missing),
    Rule("zip-too-large", package.zip_too_large),
    Rule("unzipped-too-large", package.unzipped_too_large),
    Rule("too-many-layers", package.too_many_layers),
    Rule("file-mode", making.file_mode),
    Rule("path-unsafe", making.path_unsafe),
    Rule("path-collision", package.path_collision),
    Rule("symlink", making.symlink),
    Rule("zip-method", making.zip_method),
    Rule("zip64", making.zip64),
    Rule("stdlib-shadowed", package.stdlib_shadowed),
    Rule("runtime-shadowed", runtime.runtime_shadowed),
    Rule("bytecode-stale", package.bytecode_stale),
    Rule("secret-file", package.secret_file),
    Rule("handler-missing", handler.handler_missing),
    Rule("image-manifest", image.image_manifest),
    Rule("image-entry-point", image.image_entry_point),
    Rule("runtime-deprecated", package.runtime_deprecated),
    Rule("runtime-preview", package.runtime_preview),
)
