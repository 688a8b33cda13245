"""Any entry, any tree: for the property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from manylambda.errors import PackagingError
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, Bytes, Entry, PackageTree

_PARTS = st.sampled_from(["a", "b", "A", "a-b", "a.py", "é", "日本", "...", "x y", "c,d", "__init__.py"])
_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:")
_ANY_PART = st.text(_CHARACTERS, min_size=1, max_size=8).filter(lambda part: part not in {".", ".."})


def paths() -> st.SearchStrategy[str]:
    """Safe paths, many of them alike."""
    return st.lists(_PARTS | _ANY_PART, min_size=1, max_size=4).map("/".join)


def entries() -> st.SearchStrategy[Entry]:
    """Entries whose bytes are in memory, often compressible."""
    data = st.binary(max_size=40) | st.builds(lambda piece, n: piece * n, st.binary(max_size=9), st.integers(0, 300))
    return st.builds(
        Entry,
        paths(),
        st.sampled_from([MODE_FILE, MODE_EXECUTABLE]),
        data.map(Bytes),
        st.sampled_from(["one", "two", "project"]),
    )


@st.composite
def package_trees(draw: st.DrawFn) -> PackageTree:
    """Trees of up to twelve files."""
    tree = PackageTree()
    for entry in draw(st.lists(entries(), max_size=12)):
        try:
            tree = PackageTree([*tree.entries, entry])
        except PackagingError:
            continue  # a second of that path, or a file where there is a folder
    return tree
