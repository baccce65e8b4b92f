"""Personal constants and class lists."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dca_lab.grading import load_lab
from dca_lab.grading.variants import constants_of, read_roster

TINY = load_lab(Path(__file__).parent / "tiny_lab")
NAMES = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=12)


@given(student=NAMES, key=st.text(min_size=1, max_size=8))
def test_constants_follow_from_student_and_key(student, key):
    constants = constants_of(TINY, student, key)
    assert constants == constants_of(TINY, f" {student} ", key)
    assert list(constants) == ["width"] and constants["width"] in TINY.choices["width"]


def test_constants_are_spread_over_students_and_keys():
    for key in ("one", "two"):
        chosen = [constants_of(TINY, f"student{number}", key)["width"] for number in range(300)]
        assert all(70 < chosen.count(value) < 130 for value in TINY.choices["width"])  # 100 +- 8 each
    assert any(constants_of(TINY, f"s{n}", "one") != constants_of(TINY, f"s{n}", "two") for n in range(20))


def test_case_makes_no_difference_and_a_key_is_needed():
    assert constants_of(TINY, "Ana", "key") == constants_of(TINY, "ANA", "key")
    with pytest.raises(ValueError, match="need a key"):
        constants_of(TINY, "ana", "")


@pytest.mark.parametrize(
    ("data", "students"),
    [
        (b"student\nana\nben\n", ["ana", "ben"]),
        (b"ana\nben", ["ana", "ben"]),
        (b"\xef\xbb\xbfstudent\r\nana\r\n\r\n , \r\nben\r\n", ["ana", "ben"]),
        (b"name,Student,mail\nAna A,ana,a@x\nBen B,ben,b@x\n", ["ana", "ben"]),
        (b"name;student\nA, Ana;ana\n", ["ana"]),
        (b"student\tname\nana\tAna\n", ["ana"]),
        (b'"Lovelace, Ada"\n', ["Lovelace, Ada"]),
        ("student\nZoë\n李雷\nO'Neil-Smith\n".encode(), ["Zoë", "李雷", "O'Neil-Smith"]),
        (b'student\n"ana"\n', ["ana"]),
    ],
)
def test_a_class_list_is_read(tmp_path, data, students):
    path = tmp_path / "roster.csv"
    path.write_bytes(data)
    assert read_roster(path) == students


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"student\nana\nANA\n", "line 3: ANA is already in line 2"),
        (b"student\n../ana\n", "line 2: '../ana' cannot name a folder"),
        (b"student\nana/ben\n", "cannot name a folder"),
        (b"student\n.hidden\n", "cannot name a folder"),
        (b"student\nana.\n", "cannot name a folder"),
        (b"student\n=cmd()\n", "cannot name a folder"),
        (b"student\n" + b"a" * 81 + b"\n", "at most 80"),
        (b"student\na\x00b\n", "roster.csv"),
        (b"name,student\nAna\n", "line 2: the student's name is missing"),
        (b"name,student\nAna,\n", "line 2: the student's name is missing"),
        (b"Name,Email\nAna,a@x\n", "line 1: name the column of the students `student`"),
        (b"", "names no student"),
        (b"student\n\n", "names no student"),
        (b"student\nZo\xeb\n", "not UTF-8"),
        (b'student\n"ana\n', "line 2"),
    ],
)
def test_a_bad_class_list_is_explained(tmp_path, data, said):
    path = tmp_path / "roster.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:
        read_roster(path)
    assert said in str(error.value)


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_a_class_list_or_an_explained_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("roster") / "roster.csv"
    path.write_bytes(data)
    try:
        students = read_roster(path)
    except ValueError as error:
        assert "roster.csv" in str(error)
    else:
        assert students and len({name.casefold() for name in students}) == len(students)
        assert all(name.strip() == name and "/" not in name and name not in (".", "..") for name in students)
