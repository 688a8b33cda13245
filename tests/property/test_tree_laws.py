"""Laws of package trees, for any tree."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tree_strategies import entries, package_trees, paths

from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.tree import PackageTree, checked_path, overlay, read_content


@given(package_trees())
def test_a_tree_is_the_same_whatever_the_order_of_its_entries(tree: PackageTree) -> None:
    assert PackageTree(reversed(tree.entries)).entries == tree.entries
    assert [entry.path for entry in tree] == sorted({entry.path for entry in tree})


@given(package_trees())
def test_every_entry_is_found_by_its_path(tree: PackageTree) -> None:
    assert all(tree.get(entry.path) is entry for entry in tree)
    assert all(tree.get(entry.path + "x") is None or entry.path + "x" in {e.path for e in tree} for entry in tree)


@given(package_trees())
def test_joining_with_itself_or_with_nothing_changes_nothing(tree: PackageTree) -> None:
    for trees in ((tree,), (tree, tree), (tree, PackageTree()), (PackageTree(), tree)):
        joined, collisions = overlay(trees)
        assert joined.entries == tree.entries
        assert collisions == ()


@given(package_trees(), package_trees(), package_trees())
def test_joining_is_associative(one: PackageTree, two: PackageTree, three: PackageTree) -> None:
    try:
        whole, _ = overlay((one, two, three))
        left, _ = overlay((overlay((one, two))[0], three))
        right, _ = overlay((one, overlay((two, three))[0]))
    except PackagingError:
        assume(False)
        raise
    assert whole.entries == left.entries == right.entries


@given(package_trees(), package_trees())
def test_no_file_is_lost_and_every_differing_loser_is_told(one: PackageTree, two: PackageTree) -> None:
    try:
        joined, collisions = overlay((one, two))
    except PackagingError:
        assume(False)
        raise
    assert {entry.path for entry in joined} == {entry.path for tree in (one, two) for entry in tree}
    differing = {
        entry.path
        for entry in two
        if (other := one.get(entry.path)) and read_content(other.content) != read_content(entry.content)
    }
    assert {collision.path for collision in collisions} == differing


@given(package_trees(), paths())
def test_moving_below_a_folder_keeps_order_sizes_and_bytes(tree: PackageTree, folder: str) -> None:
    moved = tree.under(folder)
    assert [entry.path for entry in moved] == [f"{folder}/{entry.path}" for entry in tree]
    assert [entry[1:] for entry in moved] == [entry[1:] for entry in tree]
    assert moved.size == tree.size


@given(package_trees(), st.data())
def test_what_is_left_out_and_what_stays_make_the_whole(tree: PackageTree, data: st.DataObject) -> None:
    dropped = data.draw(st.sets(st.sampled_from(tree.entries))) if tree.entries else set()
    kept = tree.without(lambda entry: entry in dropped)
    others = tree.without(lambda entry: entry not in dropped)
    assert (kept | others).entries == tree.entries


@given(st.lists(entries(), max_size=12))
def test_a_list_of_entries_is_a_tree_exactly_when_a_file_system_could_hold_it(listed: list) -> None:  # type: ignore[type-arg]
    files = [entry.path for entry in listed]
    folders = {"/".join(path.split("/")[:n]) for path in files for n in range(1, path.count("/") + 1)}
    if len(set(files)) == len(files) and not folders & set(files):
        assert len(PackageTree(listed)) == len(listed)
    else:
        with pytest.raises(PackagingError):
            PackageTree(listed)


@given(st.text(alphabet=st.sampled_from("ab./\\:\0C é\n"), max_size=12) | st.text(max_size=20))
def test_an_accepted_path_stays_below_its_root(path: str) -> None:
    try:
        checked_path(path)
    except UnsafeArchive:
        return
    assert posixpath.normpath(posixpath.join("/root", path)) == f"/root/{path}"
    import ntpath

    joined = ntpath.normpath(ntpath.join("C:\\root", path))
    assert joined.lower().startswith("c:\\root\\")
    path.encode()
