"""Layers on one another make the files that a container would see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from image.saved import FOLDER, Hard, Link, layer, layout
from manylambda.errors import UnsafeArchive
from manylambda.image import FileSystem, Scratch, choose, open_store, read_images

if TYPE_CHECKING:
    from pathlib import Path


def system(tmp_path: Path, *layers: bytes, wanted: tuple[str, ...] = ("/var/task",), **limits: int) -> FileSystem:
    store = open_store(layout(*layers).tar(tmp_path / "image.tar"), scratch := Scratch())
    image = choose(read_images(store), None, store.name)
    return FileSystem(store, image.layers, scratch, wanted, **limits)


def kinds(made: FileSystem) -> dict[str, str]:
    return {path: node.kind for path, node in made}


def contents(made: FileSystem, folder: str = "/") -> dict[str, bytes]:
    files = {path: node for path, node in made.below(folder) if node.kind == "file"}
    made.spool(files.values())
    return {path: node.file.read_bytes() for path, node in files.items() if node.file is not None}


def test_later_layers_replace_files(tmp_path: Path) -> None:
    made = system(tmp_path, layer({"var/task/a": b"1", "var/task/b": b"2"}), layer({"var/task/a": b"3"}))
    assert contents(made) == {"var/task/a": b"3", "var/task/b": b"2"}


def test_only_wanted_folders_are_spooled_and_the_rest_is_known_by_name(tmp_path: Path) -> None:
    made = system(tmp_path, layer({"var/task/a": b"1", "usr/lib64/libc.so.6": b"2" * 70_000, "usr/bin/x": b""}))
    spooled = {path for path, node in made if node.file is not None}
    assert spooled == {"/var/task/a"}
    assert kinds(made)["/usr/lib64/libc.so.6"] == "file"
    found = made.find("/usr/lib64/libc.so.6")
    assert found is not None
    made.spool([found[1]])
    assert found[1].file is not None
    assert found[1].file.read_bytes() == b"2" * 70_000
    assert {path for path, node in made if node.file is not None} == {"/usr/lib64/libc.so.6", "/var/task/a"}


def test_what_a_layer_removed_is_gone(tmp_path: Path) -> None:
    made = system(
        tmp_path,
        layer({"var/task/a": b"1", "var/task/lib/b": b"2", "var/task/c": b"3"}),
        layer({"var/task/.wh.a": b"", "var/task/.wh.lib": b"", "var/task/.wh.never": b"", "nowhere/.wh.x": b""}),
    )
    assert kinds(made) == {"/var": "folder", "/var/task": "folder", "/var/task/c": "file"}


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_hides_nothing_of_its_own_layer(tmp_path: Path, order: int) -> None:
    top = {"t/.wh.lib": b"", "t/lib/new": b"new", "t/o/.wh..wh..opq": b"", "t/o/new": b"new"}
    made = system(tmp_path, layer({"t/lib/old": b"1", "t/o/old": b"1"}), layer(dict(list(top.items())[::order])))
    assert contents(made) == {"t/lib/new": b"new", "t/o/new": b"new"}


def test_an_opaque_folder_hides_all_below_it(tmp_path: Path) -> None:
    made = system(tmp_path, layer({"t/a/b/c": b"1", "t/d": b"2"}), layer({"t/a/.wh..wh..opq": b""}))
    assert kinds(made) == {"/t": "folder", "/t/a": "folder", "/t/d": "file"}
    made = system(tmp_path, layer({"t/a/b/c": b"1"}), layer({"t/a": FOLDER, "t/a/.wh..wh..opq": b""}))
    assert kinds(made) == {"/t": "folder", "/t/a": "folder"}


def test_bookkeeping_of_aufs_is_no_file(tmp_path: Path) -> None:
    assert kinds(system(tmp_path, layer({".wh..wh.plnk/1": b"", ".wh..wh.aufs": b"", "a": b""})))["/a"] == "file"
    assert "/.wh..wh.aufs" not in kinds(system(tmp_path, layer({".wh..wh.aufs": b"", "a": b""})))


def test_files_and_folders_take_each_others_place(tmp_path: Path) -> None:
    made = system(
        tmp_path,
        layer({"t/file": b"1", "t/folder/x": b"2", "t/link": Link("folder")}),
        layer({"t/file": FOLDER, "t/file/x": b"3", "t/folder": b"4", "t/link": FOLDER}),
    )
    assert contents(made) == {"t/file/x": b"3", "t/folder": b"4"}
    assert kinds(made)["/t/link"] == "folder"


def test_a_folder_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    made = system(tmp_path, layer({"t": FOLDER, "t/a": b"1"}), layer({"t": FOLDER, "./t//b": b"2", "/t/c": b"3"}))
    assert contents(made) == {"t/a": b"1", "t/b": b"2", "t/c": b"3"}


def test_hard_links_share_their_bytes_also_with_lower_layers_and_unwanted_folders(tmp_path: Path) -> None:
    made = system(
        tmp_path,
        layer({"usr/lib/x": b"bytes", "var/task/y": Hard("usr/lib/x")}),
        layer({"var/task/z": Hard("/var/task/y"), "usr/lib/.wh.x": b""}),
    )
    assert contents(made, "/var/task") == {"y": b"bytes", "z": b"bytes"}
    one, other = (made.find(f"/var/task/{name}") for name in "yz")
    assert one is not None
    assert other is not None
    assert one[1] is other[1]


def test_the_bytes_of_a_replaced_file_do_not_stay(tmp_path: Path) -> None:
    store = open_store(
        layout(layer({"t/a": b"1" * 99, "t/b": Hard("t/a")}), layer({"t/a": b"2", "t/.wh.b": b""})).tar(
            tmp_path / "i.tar"
        ),
        scratch := Scratch(),
    )
    FileSystem(store, read_images(store)[0].layers, scratch, ["/t"])
    assert [file.read_bytes() for file in scratch.folder.iterdir()] == [b"2"]


def test_links_are_followed_inside_the_image_only(tmp_path: Path) -> None:
    made = system(
        tmp_path,
        layer(
            {
                "usr/lib64/libx.so.1.2": b"x",
                "lib64": Link("usr/lib64"),
                "var/task/libx.so.1": Link("/lib64/libx.so.1.2"),
                "var/task/up": Link("../../../../../lib64/libx.so.1.2"),
                "var/task/round": Link("about"),
                "var/task/about": Link("round"),
                "var/task/nowhere": Link("none"),
            }
        ),
        layer({"lib64/liby.so": b"y"}),  # through the link, as runtimes unpack it
    )
    for path in ("/var/task/libx.so.1", "/var/task/up"):
        found = made.find(path)
        assert found is not None
        assert found[0] == "/usr/lib64/libx.so.1.2"
    assert made.find("/var/task/round") is made.find("/var/task/nowhere") is None
    assert kinds(made)["/usr/lib64/liby.so"] == "file"
    assert kinds(made)["/lib64"] == "symlink"


def test_a_link_to_a_folder_not_yet_there_makes_it(tmp_path: Path) -> None:
    made = system(tmp_path, layer({"var/run": Link("/run/now")}), layer({"var/run/a": b"1"}))
    assert contents(made) == {"run/now/a": b"1"}


def test_modes_are_those_of_the_layer(tmp_path: Path) -> None:
    made = system(tmp_path, layer({"t": FOLDER, "t/a": b""}, mode=0o4700), layer({"t": FOLDER}, mode=0o711))
    assert {path: oct(node.mode) for path, node in made} == {"/t": "0o711", "/t/a": "0o4700"}


def test_long_names_and_names_that_are_no_unicode_are_read(tmp_path: Path) -> None:
    long = "t/" + "n" * 200 + "/" + "m" * 200 + "é"
    odd = "t/\udcff"
    made = system(tmp_path, layer({long: b"1", odd: b"2", "t/l": Link(long)}))
    assert contents(made) == {long: b"1", odd: b"2"}


@pytest.mark.parametrize("path", ["../evil", "a/../../evil", "/../evil", "t/.."])
def test_names_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsafeArchive) as raised:
        system(tmp_path, layer({path: b"x"}))
    assert raised.value.message == f"unsafe path in an image layer: {path!r}"


def test_links_cannot_lead_files_out(tmp_path: Path) -> None:
    made = system(
        tmp_path,
        layer({"t": Link("/../../../../../../../tmp"), "t/evil": b"x", "u": Link(str(tmp_path)), "u/evil": b"x"}),
    )
    inside = str(tmp_path).lstrip("/")
    assert contents(made) == {"tmp/evil": b"x", f"{inside}/evil": b"x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": b"", "a/b": b""}, "an image layer has 'a/b' below a file"),
        ({"a": Link("b"), "b": Link("a"), "a/x": b""}, "links lead in a circle in an image layer: 'a/x'"),
        ({"/".join("a" * 300): b""}, "an image layer has a path of more than 200 folders"),
    ],
    ids=["below a file", "circle", "deep"],
)
def test_what_no_runtime_could_unpack_is_refused(
    tmp_path: Path, members: dict[str, bytes | Link | Hard | None], message: str
) -> None:
    with pytest.raises(UnsafeArchive) as raised:
        system(tmp_path, layer(members))
    assert raised.value.message == message


@pytest.mark.parametrize("target", ["nothing", "t", "../../etc/passwd"])
def test_a_hard_link_to_nothing_or_a_folder_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(UnsafeArchive, match=r"has a hard link to nothing: `t/a` to `"):
        system(tmp_path, layer({"t": FOLDER, "t/a": Hard(target)}))


def test_what_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    bomb = layer({"var/task/zeros": bytes(3 << 20)})
    with pytest.raises(UnsafeArchive, match=r"unpacks to more than 0\.0 GiB: Lambda takes images of 10 GiB"):
        system(tmp_path, bomb, limit=2 << 20)
    with pytest.raises(UnsafeArchive, match="unpacks to more than"):
        system(tmp_path, bomb, bomb, limit=5 << 20)
    assert system(tmp_path, bomb, limit=4 << 20).unpacked_size == len(bomb)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = layer({f"t/{number}": b"" for number in range(20)})
    with pytest.raises(UnsafeArchive, match="has too many files"):
        system(tmp_path, many, max_files=20)
    assert len(kinds(system(tmp_path, many, max_files=21))) == 21


def test_the_folder_of_spooled_files_goes_with_its_owner(tmp_path: Path) -> None:
    scratch = Scratch()
    folder = scratch.folder
    scratch.new_file().write_bytes(b"x")
    del scratch
    assert not folder.exists()
    scratch = Scratch()
    scratch.close()
    scratch.close()
    assert not scratch.folder.exists()
