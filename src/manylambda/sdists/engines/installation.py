"""Wheels installed in a container, by the pip of its image: the classic recipe, without its network.

The container sees the wheels, which this host has fetched with its own logins, and one folder that it writes to. pip
holds each against its hash once more, and against the Python, the machine and the glibc that it finds there.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import PackagingError
from manylambda.host import containers
from manylambda.sdists.engines.container import run_command
from manylambda.sdists.isolation import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manylambda.progress import Progress
    from manylambda.sdists.engines.container import Image

_SECONDS: Final = 1800.0
_OPTIONS: Final = (
    *("--isolated", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"),
    *("--no-index", "--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile"),
)


class Wheel(NamedTuple):
    """A wheel to install."""

    name: str
    version: str
    filename: str
    sha256: str
    file: Path


def install(image: Image, wheels: Iterable[Wheel], room: Path, *, scripts: bool, progress: Progress) -> Path:
    """Give a folder in `room`, which is new, with what pip makes of wheels; without `scripts` there is no `bin`.

    Raises `PackagingError` when pip refuses one, with its output told before.
    """
    given, work = room / "wheels", room / "work"
    for folder in (given, work / "packages", work / "tmp"):
        folder.mkdir(parents=True)
    lines = []
    for wheel in wheels:
        _placed(wheel.file, given / wheel.filename)
        lines.append(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    (given / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    if lines:
        _run(image, room, progress)
        for record in sorted((work / "packages").glob("*.dist-info/RECORD")):
            _mend(record, work / "packages", scripts=scripts)
    return work / "packages"


def _placed(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, place)


def _run(image: Image, room: Path, progress: Progress) -> None:
    name = f"manylambda-{secrets.token_hex(8)}"
    options = containers.mount(room / "wheels", f"{PLACE}/wheels")
    options += containers.mount(room / "work", f"{PLACE}/work", is_writable=True)
    # On the disk, and beside the result: what pip unpacks is then moved, and not held in memory.
    options += ["-e", f"TMPDIR={PLACE}/work/tmp", "-e", f"HOME={PLACE}/work/tmp", "--workdir", PLACE]
    command = run_command(image.program, image.architecture, image.user, name, options)
    command += ["--entrypoint", image.python, image.identity, "-I", "-m", "pip", "install", *_OPTIONS]
    wheels = f"{PLACE}/wheels"
    command += ["--find-links", wheels, "--target", f"{PLACE}/work/packages", "-r", f"{wheels}/requirements.txt"]
    try:
        answer = containers.run(command, seconds=_SECONDS)
    except subprocess.TimeoutExpired:
        containers.remove(image.program, name)
        raise PackagingError(f"pip in `{image.reference}` took more than {_SECONDS / 60:.0f} minutes") from None
    except BaseException:
        containers.remove(image.program, name)
        raise
    if not answer.returncode:
        return
    if answer.returncode >= 125:
        reason = containers.last_line(answer.stderr)
        raise PackagingError(f"{image.program.name} cannot run the container: {reason}")
    if "No module named pip" in answer.stderr:
        raise PackagingError(
            f"the image `{image.reference}` has no pip for its CPython {image.system.version}",
            hint="name an image that has it, such as Lambda's base image or SAM's build image",
        )
    told = (answer.stdout + answer.stderr).splitlines()
    for line in told:
        progress.info(f"  {line}")
    errors = [line.removeprefix("ERROR: ") for line in told if line.startswith("ERROR: ")]
    raise PackagingError(f"pip in `{image.reference}` cannot install: {errors[-1] if errors else told[-1]}")


def _mend(record: Path, packages: Path, *, scripts: bool) -> None:
    """Let a RECORD name files where they are: with `--target` pip moves those that lie beside the packages."""
    rows = []
    for row in csv.reader(io.StringIO(record.read_text(encoding="utf-8"))):
        if not row:
            continue
        path = row[0].removeprefix("../../")
        file = packages / path
        if path.startswith("bin/") and path != row[0] and not scripts:
            file.unlink(missing_ok=True)
        if file.is_file():
            rows.append([path, *row[1:]])
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(sorted(rows))
    record.write_text(text.getvalue(), encoding="utf-8", newline="\n")
