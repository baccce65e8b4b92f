"""grades.csv, read back with the csv module and looked at with a spreadsheet's eyes."""

import csv
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretend_class import EVIL, entry, hostile, lab, record

from dca_lab.grading.grades_csv import FORMULA, cell, write_csv

HEADER = [
    "student",
    "score",
    "out_of",
    "affine_params",
    "quantize",
    "smallest_file",
    "level",
    "digest",
    "platform_id",
    "notes",
]


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_class_is_read_back(tmp_path):
    people = [
        record("zoe", entry(2, 2), entry(0, 3), entry(2.5, 5), notes=["late", "read as UTF-16"]),
        record("ann", platform_id="=ann"),
        record("Müller, Jürgen", level="landlock", platform_id="Müller, Jürgen_7"),
    ]
    header, *rows = _read(write_csv(people, lab(tmp_path), tmp_path / "grades.csv"))
    assert header == HEADER
    assert rows == [
        ["Müller, Jürgen", "10", "10", "2", "3", "5", "landlock", "ab" * 32, "Müller, Jürgen_7", ""],
        ["ann", "10", "10", "2", "3", "5", "bubblewrap", "ab" * 32, "'=ann", ""],
        ["zoe", "4.5", "10", "2", "0", "2.5", "bubblewrap", "ab" * 32, "", "late / read as UTF-16"],
    ]


def test_the_order_of_the_records_does_not_matter(tmp_path):
    people = [record(f"student_{i:02d}", digest=f"{i % 3}") for i in range(20)] + [
        record("student_03", digest="9")
    ]
    one = write_csv(people, lab(tmp_path), tmp_path / "a.csv").read_bytes()
    random.Random(1).shuffle(people)
    assert write_csv(people, lab(tmp_path), tmp_path / "b.csv").read_bytes() == one
    assert b"\r" not in one and one.decode("utf-8")


def test_an_exercise_that_a_record_lacks_counts_zero(tmp_path):
    half = record("ann")
    del half["exercises"]["quantize"]
    _, row = _read(write_csv([half], lab(tmp_path), tmp_path / "g.csv"))
    assert row[3:6] == ["2", "0", "5"]


def test_a_hostile_record_is_one_tame_row(tmp_path):
    rows = _read(write_csv([hostile(), record("ann")], lab(tmp_path), tmp_path / "g.csv"))
    assert [len(row) for row in rows] == [len(HEADER)] * 3
    (row,) = (row for row in rows[1:] if row[0] != "ann")
    for value in row:
        assert not value.startswith(FORMULA)
        assert len(value) <= 501 and value.isprintable()
    assert [float(value) for value in row[1:6]] == [0, 10, 0, 0, 0]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u200b=1", "\x00=1", "＝1"]
)
def test_no_formula_begins_a_cell(text):
    assert cell(text).startswith("'")


def test_no_other_separator_begins_a_cell():
    """With ; or tab for a separator the rest of a text would be a cell of its own."""
    for sign in ";\t\n\r\v\f\x85\u2028":
        assert sign not in cell(f"ann{sign}=cmd()")


@given(st.text(max_size=400) | st.text(alphabet="=+-@\t\r\n;,\"'\x00a", max_size=30))
def test_any_text_is_tame_and_stays_what_it_is_when_it_was_tame(text):
    made = cell(text)
    assert not made.startswith(FORMULA) and ";" not in made and len(made) <= 201
    made.encode("utf-8")
    assert cell(made) == made or made.startswith("'")


def test_an_older_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = write_csv([record("ann")], lab(tmp_path), tmp_path / "g.csv")
    before = path.read_bytes()
    monkeypatch.setattr(csv, "writer", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_csv([record("bob")], lab(tmp_path), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_csv([], lab(tmp_path), tmp_path / "nowhere" / "g.csv")


def test_the_evil_text_is_evil():
    assert "\ud800" in EVIL and "<script>" in EVIL and "\x1b" in EVIL
