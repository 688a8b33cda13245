"""The pictures of the page, before they are drawn: what is folded, what is left out, where things lie."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from browser import subjects
from manylambda.audits import Subject
from manylambda.audits.anatomy import End, Need, anatomy
from manylambda.audits.making import UNKNOWN
from manylambda.render import linkage_graph
from manylambda.render.treemap import Box, squarified
from manylambda.target import Target
from manylambda.tree import PackageTree
from rules.packages import distribution, elf, files


def need(needer: str, soname: str, end: End = "bundled", *, is_module: bool = False) -> Need:
    provider = soname if end in {"bundled", "unreached", "shadowed"} else None
    return Need(needer, is_module, soname, end, provider, (needer,))


def drawn(*needs: Need) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    graph = linkage_graph.graph(needs)
    labels = [node.label for node in graph.nodes]
    return (
        {node.label: node.kind for node in graph.nodes},
        {(labels[edge.source], labels[edge.target], edge.end) for edge in graph.edges},
    )


def test_modules_with_the_same_needs_are_one_node() -> None:
    nodes, edges = drawn(
        *(need(f"p/_m{number}.so", "liba.so", is_module=True) for number in range(40)),
        need("p/_other.so", "libb.so", is_module=True),
        need("liba.so", "libc.so.6", "provided"),
        need("libb.so", "libc.so.6", "provided"),
    )
    assert nodes == {
        "_m0 +39": "module",
        "_other": "module",
        "liba.so": "bundled",
        "libb.so": "bundled",
        "libc.so.6": "runtime",
    }
    assert ("_m0 +39", "liba.so", "bundled") in edges


def test_many_libraries_of_the_runtime_are_one_node() -> None:
    nodes, _ = drawn(*(need("_m.so", f"lib{number}.so.6", "provided", is_module=True) for number in range(9)))
    assert nodes == {"_m": "module", "runtime: 9 libraries": "runtime"}


def test_what_is_right_is_one_node_where_something_is_missing() -> None:
    nodes, edges = drawn(
        need("_m.so", "libbad.so", is_module=True),
        *(need("_m.so", f"libgood{number}.so", is_module=True) for number in range(12)),
        *(need(f"libgood{number}.so", f"libgood{number + 1}.so") for number in range(11)),
        need("libbad.so", "libGL.so.1", "missing"),
    )
    assert nodes == {"_m": "module", "libbad.so": "bundled", "libGL.so.1": "missing", "libgood0.so +11": "bundled"}
    assert ("libbad.so", "libGL.so.1", "missing") in edges


def test_each_way_to_end_has_its_kind() -> None:
    nodes, _ = drawn(
        need("_m.so", "gone.so", "missing", is_module=True),
        need("_m.so", "aside.so", "unreached", is_module=True),
        need("_m.so", "hidden.so", "shadowed", is_module=True),
        need("_m.so", "there.so", is_module=True),
        need("_m.so", "libc.so.6", "provided", is_module=True),
    )
    assert sorted(nodes.values()) == ["bundled", "missing", "module", "runtime", "shadowed", "unreached"]


def test_libraries_that_need_each_other_are_drawn() -> None:
    graph = linkage_graph.graph([need("_m.so", "a.so", is_module=True), need("a.so", "b.so"), need("b.so", "a.so")])
    assert len(graph.nodes) == 3
    assert linkage_graph.svg(graph, "x").count('class="edge bundled"') == 3


ENDS = st.sampled_from(["provided", "bundled", "bundled", "bundled", "unreached", "missing", "shadowed"])
NEEDS = st.lists(
    st.builds(
        lambda needer, soname, end: need(f"f{needer}.so", f"f{soname}.so", end, is_module=needer % 7 == 0),
        st.integers(0, 200),
        st.integers(0, 200),
        ENDS,
    ),
    min_size=1,
    max_size=400,
)


@given(NEEDS)
def test_no_graph_is_too_large_and_no_name_is_lost(needs: list[Need]) -> None:
    graph = linkage_graph.graph(needs)
    assert len(graph.nodes) <= 60 + 30 + 3
    names = [name for node in graph.nodes for name in node.names]
    assert {each.needer for each in needs} <= set(names)
    assert {each.soname for each in needs if each.end == "missing"} <= set(names)
    picture = linkage_graph.svg(graph, "x")
    assert picture.count("<g class=") == len(graph.nodes)
    assert picture.count('<path class="edge') == len(graph.edges)
    assert "nan" not in picture


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=120), st.floats(20, 1000), st.floats(20, 1000))
def test_areas_are_as_sizes_and_boxes_lie_inside(sizes: list[int], width: float, height: float) -> None:
    sizes.sort(reverse=True)
    boxes = squarified(sizes, Box(0, 0, width, height))
    assert len(boxes) == len(sizes)
    scale = width * height / sum(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height == approx(size * scale, rel=1e-3, abs=1e-3)
        assert -1e-6 <= box.x <= box.x + box.width <= width + 1e-6
        assert -1e-6 <= box.y <= box.y + box.height <= height + 1e-6


def test_a_package_is_taken_apart() -> None:
    found = anatomy(subjects.broken().subject)
    used = next(part for part in found.parts if part.name == "used")
    assert (used.version, used.native, used.zipped_size) == ("1.4", 13, None)
    assert used.files[0].path == "used/data/table.bin"
    assert used.size == sum(file.size for file in used.files)
    assert {part.name for part in found.parts} == {"used", "alien", "lonely", "project"}
    ends = {(need.needer.rpartition("/")[2].partition(".")[0], need.soname): need.end for need in found.needs["used"]}
    assert ends["_copy0", "libused.so.1"] == "bundled"
    assert ends["_lacking", "libversioned.so.1"] == "missing"
    assert ends["_unreaching", "libused.so.1"] == "unreached"
    assert ends["libused", "libz.so.1"] == "shadowed"
    assert found.chains["used.libs/libused.so.1"] == (f"used/_copy0.{subjects.MODULE}", "used.libs/libused.so.1")


def test_layers_and_mounted_folders_count_and_links_do_not() -> None:
    layer = PackageTree(distribution("inlayer", "3.1", {"python/inlayer.py": "1\n"}, prefix="python/")[2:])
    site = PackageTree(files({"extra.so": elf("plain.so")}, "mounted"))
    subject = Subject(
        PackageTree(files({"lib/libx.so.1": elf("plain.so"), "lib/libx.so": elf("plain.so")})),
        Target.parse("python3.13-x86_64"),
        layers=[layer],
        mounts={"/var/lang/site/": site},
        making=UNKNOWN._replace(linked=frozenset({"lib/libx.so"})),
    )
    paths = {file.path: (file.size, file.substance) for part in anatomy(subject).parts for file in part.files}
    size = len(elf("plain.so"))
    assert paths == {
        "/opt/python/python/inlayer.py": (2, "python"),
        "/var/lang/site/extra.so": (size, "native"),
        "lib/libx.so.1": (size, "native"),
        "lib/libx.so": (0, "native"),
    }
