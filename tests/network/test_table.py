# SPDX-License-Identifier: Apache-2.0
"""A network is a mapping, and prints as a table."""

import html.parser

import pytest

from tests.network.reading import NAMES, network

QUICK = True  # see conftest.py


def test_it_prints_as_a_table():
    assert repr(network("perceptron")).splitlines() == [
        "parameter  shape  role    fan in  fan out  after",
        "w1         24×48  kernel      24       48  input",
        "b1         48     bias",
        "w2         48×10  kernel      48       10  relu(kernel)",
        "b2         10     bias",
    ]


def test_columns_without_entries_are_left_out_and_notes_stand_below():
    lines = repr(network("lstm_fused")).splitlines()
    wanted = ["fan", "in", "fan", "out", "parts", "after", "calls"]
    assert lines[0].split()[3:] == wanted
    lines = repr(network("scanned")).splitlines()
    assert "copies" in lines[0] and "1, 2, 3 of 3" in lines[-1]
    assert repr(network("weight_norm")).endswith(
        "w2: the output does not depend on its scale"
    )


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("gpt2", "blocks/1/w_out", "3 of 4"),
        ("llama", "blocks/w_down", "2, 4, 6 of 6"),
        ("linen-scanned", "params/ScanCheckpoint_Carried_0/Block_0/Dense_1/kernel",
         "2, 4, 6 of 6"),
    ],
)  # fmt: skip
def test_the_places_of_branches_are_counted_from_one(name, path, words):
    (line,) = (x for x in repr(network(name)).splitlines() if x.startswith(path + " "))
    assert words in line


class Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.notes: list[str] = []
        self.tag = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tag = tag
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.tag in ("td", "th"):
            self.rows[-1].append(data)
        elif self.tag == "li":
            self.notes.append(data)


def test_notebooks_get_the_same_table():
    found = network("gpt2")
    cells = Cells()
    cells.feed(found._repr_html_())
    assert len(cells.rows) == len(found) + 1
    assert [row[0] for row in cells.rows[1:]] == list(found)
    assert cells.notes == repr(found).splitlines()[len(found) + 1 :]


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_it_has_each_parameter_once_in_order(name):
    found = network(name)
    assert len(found) == len(set(found)) and all(found[p].path == p for p in found)
    lines = repr(found).splitlines()
    assert [line.split()[0] for line in lines[1 : len(found) + 1]] == list(found)


def test_the_matrix_of_a_kernel():
    assert network("gpt2")["blocks/0/w_up"].matrix == (24, 96)
    assert network("gpt2")["blocks/0/w_qkv"].matrix == (24, 24)
    assert network("conv_strided")["w"].matrix == (3 * 5 * 4, 8)
    assert network("gpt2")["e_tokens"].matrix is None
