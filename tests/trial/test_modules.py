"""Which modules of a package are there to be imported."""

from __future__ import annotations

import pytest

from manylambda.tree import MODE_FILE, Bytes, Entry
from manylambda.trial.model import Module
from manylambda.trial.modules import modules


def found(files: dict[str, str], folders: tuple[str, ...] = ("",)) -> dict[str, str]:
    """Module -> who brought it (`*` when compiled), of files and who brought them."""
    entries = [Entry(path, MODE_FILE, Bytes(b""), origin) for path, origin in files.items()]
    return {one.name: f"{one.distribution}{'*' * one.is_native}" for one in modules(entries, folders)}


def test_packages_modules_and_extension_modules_are_found() -> None:
    files = {
        "six.py": "six",
        "numpy/__init__.py": "numpy",
        "numpy/linalg/__init__.py": "numpy",
        "_cffi_backend.cpython-313-aarch64-linux-gnu.so": "cffi",
        "cffi/__init__.py": "cffi",
        "_quick.abi3.so": "quick",
        "plain.so": "plain",
        "compiled/__init__.cpython-313-aarch64-linux-gnu.so": "compiled",
        "sourceless.pyc": "old",
        "app.py": "project",
        "orders/__init__.py": "project",
    }
    assert found(files) == {
        "_cffi_backend": "cffi*",
        "cffi": "cffi*",
        "compiled": "compiled*",
        "numpy": "numpy",
        "sourceless": "old",
        "plain": "plain*",
        "_quick": "quick*",
        "six": "six",
        "app": "None",
        "orders": "None",
    }


def test_the_order_is_that_of_distributions_and_the_project_comes_last() -> None:
    entries = [
        Entry(path, MODE_FILE, Bytes(b""), origin)
        for path, origin in [("a.py", "project"), ("z.py", "beta"), ("b.py", "beta"), ("y.py", "alpha")]
    ]
    assert [one.name for one in modules(entries)] == ["y", "b", "z", "a"]
    assert modules(entries)[-1] == Module("a", None, is_native=False)


@pytest.mark.parametrize(
    "path",
    [
        "numpy-2.0.dist-info/METADATA",
        "numpy.libs/libgfortran-040039e1.so.5.0.0",
        "libhelper.so",
        "__pycache__/app.cpython-313.pyc",
        "_distutils_hack/__init__.py",
        "distutils-precedence.pth",
        "__editable___app_finder.py",
        "__main__.py",
        "setup.py",
        "conftest.py",
        "my-script.py",
        "class.py",
        "bin/tool.py",
        "tests/__init__.py",
        "test/test_one.py",
        "examples/one.py",
        "docs/conf.py",
        "benchmarks/__init__.py",
        "share/man/man1/tool.1",
        "templates/index.html",
        "app.pyi",
        "boto3-stubs/__init__.pyi",
        "typed/__init__.pyi",
        "3d/__init__.py",
        "lib/libssl.so",
    ],
)
def test_what_nobody_imports_is_left_out(path: str) -> None:
    assert found({path: "one"}) == {}


def test_of_a_namespace_the_first_packages_count() -> None:
    files = {
        "google/cloud/storage/__init__.py": "google-cloud-storage",
        "google/cloud/storage/bucket/__init__.py": "google-cloud-storage",
        "google/cloud/_http/__init__.py": "google-cloud-core",
        "google/protobuf/__init__.py": "protobuf",
        "google/_upb/_message.abi3.so": "protobuf",
        "google/cloud/version.txt": "google-cloud-core",
        "handlers/orders.py": "project",
        "google/cloud/tests/__init__.py": "google-cloud-core",
    }
    assert found(files) == {
        "google.cloud._http": "google-cloud-core",
        "google.cloud.storage": "google-cloud-storage",
        "google._upb._message": "protobuf*",
        "google.protobuf": "protobuf*",
        "handlers.orders": "None",
    }


def test_what_lies_in_the_package_of_another_is_found() -> None:
    files = {
        "azure/__init__.py": "azure-nspkg",
        "azure/core/__init__.py": "azure-core",
        "azure/core/rest/__init__.py": "azure-core",
        "azure/identity.py": "azure-identity",
        "azure/own/__init__.py": "azure-nspkg",
    }
    assert found(files) == {
        "azure.core": "azure-core",
        "azure.identity": "azure-identity",
        "azure": "azure-nspkg",
    }


def test_folders_are_looked_through_in_their_order() -> None:
    deep, flat = "python/lib/python3.13/site-packages/", "python/"
    files = {
        f"{deep}one.py": "deep",
        f"{flat}one.py": "flat",
        f"{flat}two/__init__.py": "flat",
        f"{flat}lib/tool/__init__.py": "flat",
        "elsewhere.py": "project",
    }
    assert found(files, (deep, flat)) == {"one": "deep", "lib.tool": "flat", "two": "flat"}


def test_native_is_what_is_anywhere_in_the_distribution_but_for_the_project_the_module_alone() -> None:
    files = {
        "lib_a/__init__.py": "liba",
        "_lib_a.py": "liba",
        "liba.libs/libm-1.so.6": "liba",
        "app.py": "project",
        "app_data/__init__.py": "project",
        "vendored/__init__.py": "project",
        "vendored/_fast.cpython-313-x86_64-linux-gnu.so": "project",
    }
    assert found(files) == {
        "_lib_a": "liba*",
        "lib_a": "liba*",
        "app": "None",
        "app_data": "None",
        "vendored": "None*",
    }


def test_a_deep_tree_is_bounded() -> None:
    assert found({"/".join(["deep"] * 500) + "/x.py": "project"}) == {}
