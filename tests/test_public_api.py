"""What `import manylambda` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import manylambda


def test_all_is_sorted_and_names_each_thing_once() -> None:
    assert manylambda.__all__ == sorted(set(manylambda.__all__))


def test_dir_is_the_promise() -> None:
    assert dir(manylambda) == manylambda.__all__


def _modules_among(names: str, before: str) -> list[str]:
    """Give the promised names that are modules when asked for in a fresh interpreter, after `before`."""
    modules = f"[name for name in {names} if isinstance(getattr(manylambda, name), types.ModuleType)]"
    program = f"{before}\nimport manylambda, types\nprint(*{modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


_EVERY_MODULE = """
import importlib, pkgutil, manylambda
for module in pkgutil.walk_packages(manylambda.__path__, "manylambda."):
    if not module.name.endswith(("__main__", ".cdk")):  # the latter needs an extra
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    ("names", "before"),
    [
        ("manylambda.__all__", ""),
        ("reversed(manylambda.__all__)", ""),
        ("manylambda.__all__", _EVERY_MODULE),
    ],
    ids=["in order", "in reverse", "after every module"],
)
def test_a_promised_name_is_there_whatever_was_imported_before(names: str, before: str) -> None:
    """Importing a module sets an attribute of its package: a function of the same name would be gone."""
    assert _modules_among(names, before) == []


@pytest.mark.parametrize("name", [name for name in manylambda.__all__ if name != "__version__"])
def test_a_promised_name_has_a_docstring(name: str) -> None:
    assert (getattr(manylambda, name).__doc__ or "").strip()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match=r"^module `manylambda` has no attribute `bild`$"):
        _ = manylambda.bild


def test_the_types_are_shipped() -> None:
    from importlib.resources import files

    assert files(manylambda).joinpath("py.typed").is_file()


def test_importing_the_package_costs_next_to_nothing() -> None:
    program = "import sys; before = set(sys.modules); import manylambda; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("manylambda")}
    assert ours == {"manylambda"}
    assert not {"packaging", "urllib3", "elftools", "rich", "argparse"} & set(done.stdout.split())


def test_the_version_is_the_distribution_s() -> None:
    from importlib.metadata import version

    assert manylambda.__version__ == version("manylambda")
