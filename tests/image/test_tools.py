"""What real tools write and rewrite is read as those tools mean it: skopeo's formats, buildah's layers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from image.saved import layer, layout
from manylambda.errors import RequestError
from manylambda.image import FileSystem, Image, Scratch, choose, open_store, read_images

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tools are those of Linux")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def needs(*tools: str) -> None:
    """Skip where a tool is missing; on the CI that is an error."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        if os.environ.get("CI"):
            pytest.fail(f"{missing[0]} is not installed")
        pytest.skip(f"needs {missing[0]}")


@pytest.fixture
def skopeo() -> Callable[..., str]:
    needs("skopeo")
    return lambda *words: run("skopeo", "copy", "--quiet", *words)


def read(path: Path, *wanted: str) -> tuple[Image, FileSystem]:
    store = open_store(path, scratch := Scratch())
    image = choose(read_images(store), None, path.name)
    return image, FileSystem(store, image.layers, scratch, wanted or ("/var/task",))


def contents(path: Path) -> dict[str, bytes]:
    _, made = read(path, "/")
    return {name: node.file.read_bytes() for name, node in made if node.file is not None}


LOWER = layer({"var/task/app.py": b"x = 1\n", "var/task/old.py": b"", "usr/lib/x": b"x"})
UPPER = layer({"var/task/app.py": b"x = 2\n", "var/task/.wh.old.py": b""})
CONFIG = {"Cmd": ["app.handler"], "Env": ["A=1"]}


@pytest.mark.parametrize(
    ("transport", "is_docker_save"), [("oci:", False), ("oci-archive:", False), ("docker-archive:", True)]
)
def test_every_format_of_skopeo_is_read(
    tmp_path: Path, skopeo: Callable[..., str], transport: str, is_docker_save: bool
) -> None:
    layout(LOWER, UPPER, config=CONFIG, architecture="arm64").folder(tmp_path / "made")
    saved = tmp_path / "saved"
    skopeo(f"oci:{tmp_path / 'made'}", f"{transport}{saved}:localhost/api:1")
    image, _ = read(saved)
    assert image.is_docker_save is is_docker_save
    assert image.name is not None
    assert image.name.endswith("api:1")
    assert (image.config.architecture, image.config.command) == ("arm64", ("app.handler",))
    assert contents(saved) == {"/usr/lib/x": b"x", "/var/task/app.py": b"x = 2\n"}


def test_layers_of_zstd_are_refused_with_the_way_out(tmp_path: Path, skopeo: Callable[..., str]) -> None:
    layout(LOWER, packed=[LOWER], media_type="application/vnd.oci.image.layer.v1.tar").folder(tmp_path / "made")
    saved = tmp_path / "zstd.tar"
    skopeo("--dest-compress-format", "zstd", f"oci:{tmp_path / 'made'}", f"oci-archive:{saved}")
    with pytest.raises(RequestError) as raised:
        read(saved)
    assert raised.value.message.endswith("is compressed by zstd, and nothing shows that Lambda takes such layers")
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("write them by gzip: `skopeo copy --dest-compress-format gzip")


@pytest.fixture
def buildah(tmp_path: Path) -> Callable[..., str]:
    needs("buildah")
    if os.geteuid() != 0:
        pytest.skip("only root may mount what buildah makes")
    storage = ("--storage-driver", "vfs", "--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"))
    return lambda *words: run("buildah", *storage, *words)


def test_what_a_build_removes_replaces_and_links_is_as_in_the_container(
    tmp_path: Path, buildah: Callable[..., str]
) -> None:
    def committed(base: str, name: str, change: Callable[[Path], None]) -> Path:
        container = buildah("from", base)
        root = Path(buildah("mount", container))
        change(root)
        buildah("config", "--arch", "arm64", "--cmd", '["app.handler"]', container)
        buildah("commit", "--quiet", container, name)
        return root

    def first(root: Path) -> None:
        task = root / "var" / "task"
        (task / "gone").mkdir(parents=True)
        for name in ("app.py", "removed.py", "gone/a.py", "file"):
            (task / name).write_text(name)
        (task / "folder").mkdir()
        (task / "folder" / "inside.py").write_text("inside")
        (root / "usr" / "lib").mkdir(parents=True)
        (root / "usr" / "lib" / "libx.so.1.2").write_bytes(b"x" * 5000)
        (root / "lib").symlink_to("usr/lib")

    def second(root: Path) -> None:
        task = root / "var" / "task"
        (task / "removed.py").unlink()
        shutil.rmtree(task / "gone")
        shutil.rmtree(task / "folder")
        (task / "folder").write_text("now a file")
        (task / "file").unlink()
        (task / "file").mkdir()
        (task / "file" / "below.py").write_text("below")
        (task / "app.py").write_text("changed")
        (task / "twin.py").hardlink_to(task / "app.py")
        (task / "libx.so.1").symlink_to("/lib/libx.so.1.2")
        os.mkfifo(task / "pipe")
        (task / "n\u00e4me").write_text("unicode")

    committed("scratch", "one", first)
    root = committed("one", "two", second)
    there = {
        f"/{path.relative_to(root)}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    for transport, name in (("oci-archive:", "oci.tar"), ("docker-archive:", "docker.tar")):
        buildah("push", "--quiet", "two", f"{transport}{tmp_path / name}:two:1")
        image, made = read(tmp_path / name)
        assert len(image.layers) == 2
        assert contents(tmp_path / name) == there
        kinds = {path: node.kind for path, node in made}
        assert kinds["/var/task/pipe"] == "other"
        assert kinds["/lib"] == "symlink"
        assert kinds["/var/task/folder"] == "file"
        linked = made.find("/var/task/libx.so.1")
        assert linked is not None
        assert (linked[0], linked[1].size) == ("/usr/lib/libx.so.1.2", 5000)
        twins = [made.find(f"/var/task/{name}.py") for name in ("app", "twin")]
        assert twins[0] is not None
        assert twins[1] is not None
        assert twins[0][1] is twins[1][1]
