"""The map in formats that other programs read, and that nothing in a name can break."""

import json
import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree

import polars as pl
import pytest
from peers.debian import installed
from test_service_map import LATERAL, baseline, contacts

from sidelong.alerts.incident import Target
from sidelong.map_formats import FORMATS, dot, graphml, json_text, mermaid
from sidelong.map_layout import layout
from sidelong.map_tree import tree
from sidelong.service_map import Graph

HOSTILE: Final = (
    "q\"uote's/\\N\\",
    "<script>alert(1)</script>",
    "line\nbreak/\r\x1b[2J",
    'x"] --> y["z/`md`',
    "end/subgraph ]] %% }} #quot; &lt;",
    "\u202eesrever/\u200b",
    "--></svg><img src=x>",
    "a/]]>",
    "]]>/\ud800",
)
NAMESPACE: Final = {"g": "http://graphml.graphdrawing.org/xmlns"}


def hostile() -> Graph:
    rows = [
        contacts("a/x a/y 80", src=name, dst=other)
        for name, other in zip(HOSTILE[:-1], HOSTILE[1:-1] + HOSTILE[:1], strict=True)
    ]
    return Graph.of(pl.concat(rows))


def shop() -> Graph:
    seen = contacts("shop/web data/db 5432", "shop/web shop/api 80", "shop/api shop/web 81")
    return Graph.of(seen, baseline("shop/web shop/api 80"), [LATERAL])


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_graph_is_the_same_text(form: str) -> None:
    assert FORMATS[form](shop()) == FORMATS[form](shop())


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_graph_can_be_written(form: str) -> None:
    assert FORMATS[form](Graph.of()).endswith("\n")


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "json"])
def test_no_name_reaches_the_text_with_what_does_not_show(form: str) -> None:
    text = FORMATS[form](hostile())
    assert all(line.isprintable() for line in text.split("\n"))


def test_dot_is_what_graphviz_reads_and_no_name_ends_its_label() -> None:
    installed({"dot": "graphviz"})
    ran = subprocess.run(
        ["dot", "-Tjson0"],
        input=dot(hostile()),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    drawn = json.loads(ran.stdout)
    assert len(drawn["objects"]) == hostile().nodes.height
    assert len(drawn["edges"]) == hostile().edges.height


def test_graphml_is_xml_with_every_column_and_port() -> None:
    root = ElementTree.fromstring(graphml(shop()))
    keys = {key.get("id"): key.get("attr.name") for key in root.findall("g:key", NAMESPACE)}
    edges = [
        {keys[part.get("key")]: part.text for part in edge}
        for edge in root.iter()
        if "edge" in edge.tag
    ]
    strange = [edge for edge in edges if edge["strange"] == "true"]
    assert len(edges) == 3
    assert [(edge["port"], edge["incident"], edge["state"]) for edge in strange] == [
        ("5432", "aa11", "strange")
    ]


def test_graphml_gives_back_names_that_would_be_markup() -> None:
    root = ElementTree.fromstring(graphml(hostile()))
    names = {part.text for part in root.iter() if part.get("key") == "node-name"}
    assert {"<script>alert(1)</script>", "--></svg><img src=x>", "a/]]>"} <= names


def test_json_is_node_link_data_with_the_names_as_they_are() -> None:
    whole = json.loads(json_text(hostile()))
    assert {node["id"] for node in whole["nodes"]} == set(hostile().nodes["name"])
    ends = {edge[end] for edge in whole["edges"] for end in ("source", "target")}
    assert ends == set(hostile().nodes["name"])


def test_mermaid_labels_hold_nothing_that_mermaid_reads() -> None:
    for line in mermaid(hostile()).splitlines()[1:]:
        found = re.fullmatch(
            r'  n\d+(\["([^"]*)"\]| -->\|"([^"]*)"\| n\d+)|  linkStyle [\d,]+ [-#\w:,]+', line
        )
        assert found, line
        label = re.sub(r"#\d+;", "", found[2] or found[3] or "")
        assert re.fullmatch(r"[ /\-_.,0-9A-Za-z]*", label)


def test_mermaid_says_strange_and_new_in_words() -> None:
    assert '-->|"strange 5432"|' in mermaid(shop())
    assert '-->|"new 81"|' in mermaid(shop())


def test_the_tree_around_a_workload_tells_both_ways_strangest_first() -> None:
    assert tree(shop().around("shop/web")).splitlines()[:7] == [
        "shop/web  HIGH",
        "├─ calls",
        "│  ├─ !! data/db  5432  10 events  incident aa11",
        "│  └─    shop/api  80  10 events",
        "└─ is called by",
        "   └─ +  shop/api  81  10 events",
        "",
    ]


def test_a_drawing_is_xml_and_tells_in_words_what_it_shows() -> None:
    root = ElementTree.fromstring(shop().svg())
    assert "Strange: shop/web to data/db (5432)." in (root.findtext("{*}desc") or "")
    ElementTree.fromstring(hostile().svg())


def test_a_drawing_needs_nothing_from_elsewhere() -> None:
    text = shop().svg() + shop()._repr_html_()
    addresses = set(re.findall(r"""https?://[^"'\s)]+""", text))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_no_box_lies_on_another() -> None:
    arrows = [(n % 23, (n * 7 + 3) % 29) for n in range(120)]
    placed = layout(30, arrows)
    for x in set(placed.boxes[:, 0]):
        column = sorted(y for left, y in placed.boxes if left == x)
        assert all(low - high >= 42 for high, low in pairwise(column))


def test_a_caller_stands_left_of_whom_it_calls() -> None:
    placed = layout(4, [(0, 1), (1, 2), (0, 2), (2, 3)])
    assert list(placed.boxes[:, 0]) == sorted(placed.boxes[:, 0])
    assert all(points[0][0] < points[-1][0] for points in placed.arrows)


def test_a_circle_of_calls_can_be_drawn() -> None:
    placed = layout(3, [(0, 1), (1, 2), (2, 0), (1, 1)])
    assert [bool(points) for points in placed.arrows] == [True, True, True, False]


def test_a_port_that_no_incident_tells_is_not_strange() -> None:
    told = [replace(LATERAL, objects=(Target("data/db", port=99),))]
    graph = Graph.of(contacts("shop/web data/db 5432"), baseline("a/x a/y 1"), told)
    assert graph.edges.filter(pl.col("dst") == "data/db")["state"].to_list() == ["new"]
