"""Notebooks as found in the wild, and as made to hurt: cells or `Unreadable`, never anything else, within bounds."""

import json

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.grading import notebook
from dca_lab.grading.notebook import Cells, Unreadable, read_cells


def code(*sources, **more) -> bytes:
    cells = [{"cell_type": "code", "source": source, "outputs": [], "metadata": {}} for source in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}).encode()


def test_code_cells_come_in_order_as_nbformat_reads_them():
    v4 = nbformat.v4
    book = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# no"),
            v4.new_code_cell("a = 1\n\nb = '{'"),
            v4.new_code_cell("%time a"),
        ]
    )
    assert read_cells(nbformat.writes(book).encode()) == Cells(["a = 1\n\nb = '{'", "%time a"])


def test_version_three_and_two_have_worksheets_with_input():
    v3 = nbformat.v3
    sheet = v3.new_worksheet(cells=[v3.new_code_cell(input="x = 3"), v3.new_heading_cell("title")])
    text = nbformat.v3.writes_json(v3.new_notebook(worksheets=[sheet]))
    assert read_cells(text.encode()) == Cells(["x = 3"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings(encoding):
    data = json.dumps({"cells": [{"cell_type": "code", "source": "s = '深度 ü'"}]}, ensure_ascii=False)
    read = read_cells(data.encode(encoding))
    assert read.sources == ["s = '深度 ü'"]
    assert bool(read.notes) == (not encoding.startswith("utf-8"))


def test_latin_1_is_read_with_a_note():
    data = '{"cells": [{"cell_type": "code", "source": "s = \'über\'"}]}'.encode("latin-1")
    assert read_cells(data) == Cells(["s = 'über'"], ["the file was not UTF-8; it was read as Latin-1"])


def test_what_no_python_source_may_hold_is_taken_out_with_a_note():
    read = read_cells(code("a = 1\0", "s = '\ud800 \U0001f600'"))
    assert read.sources == ["a = 1", "s = '\ufffd \U0001f600'"]
    assert len(read.notes) == 2
    "".join(read.sources).encode("utf-8")


@pytest.mark.parametrize(
    "cell",
    [7, None, {}, {"cell_type": "code"}, {"cell_type": "code", "source": 3}, {"cell_type": "code", "source": [1]},
     {"cell_type": "widget", "source": "x"}, {"cell_type": ["code"], "source": "x"}],
)  # fmt: skip
def test_an_odd_cell_costs_only_itself(cell):
    good = {"cell_type": "code", "source": "x = 1"}
    assert read_cells(json.dumps({"cells": [cell, good]}).encode()).sources == ["x = 1"]


@pytest.mark.parametrize("metadata", [None, [], "text", {"dca_lab": 3}, {"dca_lab": {"lab": "../../etc"}}])
def test_metadata_of_any_shape(metadata):
    assert read_cells(code("x = 1", metadata=metadata)).lab is None


def test_the_lab_is_found_in_the_metadata_or_in_the_setup_cell():
    setup = 'from dca_lab.grading import lab_checks\ncheck = lab_checks("pruning")'
    assert read_cells(code(setup)).lab == "pruning"
    assert read_cells(code(setup, metadata={"dca_lab": {"lab": "cost"}})).lab == "cost"


def test_of_duplicate_keys_the_last_counts_as_it_does_in_jupyter():
    data = b'{"cells": [], "cells": [{"cell_type": "code", "source": "a", "source": "b"}]}'
    assert read_cells(data).sources == ["b"]


def test_a_source_that_talks_about_outputs_is_left_alone():
    source = 'd = {"outputs": [1, 2], "widgets": {}}\ne = "\\"outputs\\": ["'
    assert read_cells(code(source)).sources == [source]


def test_fifty_megabytes_of_output_are_skipped():
    text = ["[1, 2, {'a': \"b\\\\\"}]\n" * 10] * 200_000
    data = json.dumps({"cells": [
        {"cell_type": "code", "outputs": [{"text": text, "data": {"image/png": "A" * 1_000_000}}], "source": "x = 1"},
        {"cell_type": "markdown", "attachments": {"a.png": {"image/png": "A" * 20_000_000}}, "source": "text"},
        {"cell_type": "code", "outputs": [], "source": "y = 2"},
    ]}).encode()  # fmt: skip
    assert len(data) > 50_000_000
    assert read_cells(data).sources == ["x = 1", "y = 2"]


@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "not a notebook"),
        (b"{}", "without cells"),
        (b'{"cells": 3}', "without cells"),
        (b'{"cells": [', "line 1"),
        (b'{"cells": [{"outputs": [{"a": "', "cut off"),
        (b'{"outputs": ["' + b'\\"' * 1_000_000, "cut off"),  # hours, if strings were looked for at each quote
        (b"PK\x03\x04abc", "ZIP"),
        (b"%PDF-1.4", "PDF"),
        (b"<!DOCTYPE html>", "web page"),
        (b'{\n<<<<<<< HEAD\n=======\n>>>>>>> b\n}', "merge"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"import numpy as np\n", "JSON"),
        (b"[" * 1_000_000, "nests"),
        (b'{"cells":' * 1_000_000, "nests"),
    ],
)  # fmt: skip
def test_unreadable_says_why(data, word):
    with pytest.raises(Unreadable, match=word):
        read_cells(data)


def test_huge_numbers_take_no_time_and_no_digits_limit_raises():
    data = b'{"nbformat": ' + b"9" * 1_000_000 + b', "cells": [{"cell_type": "code", "source": "x"}]}'
    assert read_cells(data).sources == ["x"]


def test_sizes_are_bounded_with_advice(monkeypatch):
    monkeypatch.setattr(notebook, "LARGEST_REST", 1 << 16)
    monkeypatch.setattr(notebook, "LARGEST_FILE", 1 << 20)
    with pytest.raises(Unreadable, match="remove pasted data"):
        read_cells(code("x" * (1 << 17)))
    with pytest.raises(Unreadable, match="Clear Outputs"):
        read_cells(b"[" * (2 << 20))
    monkeypatch.setattr(notebook, "MOST_TOKENS", 10)
    with pytest.raises(Unreadable, match="too many parts"):
        read_cells(b'{"outputs": [' + b"[]," * 100)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["cells", "cell_type", "source", "outputs", "worksheets", "input", "metadata", "dca_lab"]
            ),
            inner | st.sampled_from(["code", "markdown", ["code"]]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


def _read_or_refuse(data: bytes) -> None:
    try:
        read = read_cells(data)
    except Unreadable as error:
        assert str(error)
    else:
        assert all(isinstance(source, str) for source in read.sources)
        "".join(read.sources + read.notes).encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data):
    _read_or_refuse(data)


@settings(max_examples=300, deadline=None)
@given(json_values, st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_any_json(value, encoding):
    _read_or_refuse(json.dumps(value).encode(encoding))
    if isinstance(value, dict):
        _read_or_refuse(json.dumps({"cells": [value]}, ensure_ascii=False).encode(encoding, "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_notebook(draw):
    data = bytearray(
        code("x = 1\n", "def f():\n    return '\\\\'", outputs=[{"a": ["]"]}], widgets={"a": "}"})
    )
    for _ in range(draw.draw(st.integers(1, 4))):
        start = draw.draw(st.integers(0, len(data)))
        data[start : start + draw.draw(st.integers(0, 20))] = draw.draw(st.binary(max_size=4))
    _read_or_refuse(bytes(data))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["outputs", "a\\", '"outputs":[', "widgets"]), json_values, max_size=4)
)
def test_cutting_bulk_out_leaves_the_same_json(tree):
    def emptied(value):
        if isinstance(value, dict):
            bulky = ("outputs", "attachments", "widgets")
            return {
                k: [] if k in bulky and isinstance(v, (list, dict)) else emptied(v) for k, v in value.items()
            }
        return [emptied(item) for item in value] if isinstance(value, list) else value

    cut = json.loads(notebook._without_bulk(json.dumps(tree).encode()))
    assert json.dumps(cut) == json.dumps(emptied(tree))  # as text: NaN equals NaN
