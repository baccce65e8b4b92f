"""The layouts that platforms download, and names and archives made to hurt: one safe submission a student."""

import hashlib
import json
import os
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.grading import archives, submissions
from dca_lab.grading.notebook import Unreadable, read_cells
from dca_lab.grading.student_ids import in_roster, safe_ids
from dca_lab.grading.submissions import SubmissionsError, find_submissions


def notebook(text="x = 1") -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": text}]}).encode()


def put(folder, **files):
    """Files by their names; `__` stands for a slash, and text is a notebook with this code."""
    for name, text in files.items():
        write(folder, name.replace("__", "/") + ".ipynb", notebook(text))
    return folder


def write(folder, name, data=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pack(path, members, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def found(folder, **options):
    """{student: the code that is graded, or the problem}"""
    result = {}
    for one in find_submissions(folder, **options):
        try:
            result[one.student] = read_cells(one.read()).sources[0]
        except Unreadable as error:
            result[one.student] = f"! {error}"
    return result


def test_plain_notebooks_and_zips(tmp_path):
    put(tmp_path, alice="a = 1", bob="b = 1")
    pack(tmp_path / "carol.zip", {"work/lab.ipynb": notebook("c = 1"), "__MACOSX/work/._lab.ipynb": b"junk"})
    write(tmp_path, "roster.csv", b"name\n")
    write(tmp_path, ".ipynb_checkpoints/alice-checkpoint.ipynb", notebook("old"))
    assert found(tmp_path) == {"alice": "a = 1", "bob": "b = 1", "carol": "c = 1"}
    alice = find_submissions(tmp_path)[0]
    assert (
        alice.digest == hashlib.sha256(notebook("a = 1")).hexdigest()
        and alice.path == tmp_path / "alice.ipynb"
    )


def test_a_folder_for_each_student(tmp_path):
    put(tmp_path, alice__lab="a = 1", bob__deep__er__lab="b = 1")
    write(tmp_path, "carol/report.pdf", b"%PDF")
    write(tmp_path, "Dora Do_123_assignsubmission_file/lab.ipynb", notebook("d = 1"))
    result = found(tmp_path)
    assert result.pop("carol").startswith("! what was handed in is not a notebook")
    assert result == {"alice": "a = 1", "bob": "b = 1", "Dora_Do_123": "d = 1"}


@pytest.mark.parametrize("inside", ["", "submitted/"])
def test_nbgrader(tmp_path, inside):
    for student in ("alice", "bob"):
        for lab in ("pruning", "cost"):
            write(tmp_path, f"{inside}{student}/{lab}/{lab}.ipynb", notebook(f"{student} = '{lab}'"))
            write(tmp_path, f"{inside}{student}/{lab}/timestamp.txt", b"2024-03-01 12:00:00 UTC")
    if inside:  # the other folders of a course
        put(tmp_path, source__pruning__pruning="s = 1", release__pruning__pruning="r = 1")
        write(tmp_path, "gradebook.db")
    assert found(tmp_path, lab="pruning") == {"alice": "alice = 'pruning'", "bob": "bob = 'pruning'"}
    if inside:
        with pytest.raises(SubmissionsError, match="cost, pruning"):
            find_submissions(tmp_path, lab="quantization")
        write(tmp_path, "submitted/carol/work/work.ipynb", notebook("c = 1"))
        (tmp_path / "submitted/dora/quantization").mkdir(parents=True)
        result = found(tmp_path, lab="quantization")
        assert result.pop("carol") == "c = 1" and result.pop("dora").startswith("! nothing was handed in")
        assert set(result.values()) == {
            "! the folders cost, pruning were found, and none is called quantization"
        }


def test_no_student_changes_what_becomes_of_another(tmp_path):
    put(tmp_path, alice__lab="a = 1", bob__hw__lab="b = 1")
    (tmp_path / "carol").mkdir()
    honest = found(tmp_path, lab="quantization")
    assert honest.pop("carol").startswith("! nothing was handed in") and set(honest) == {"alice", "bob"}
    for name in ("quantization/lab.ipynb", "x/timestamp.txt", "y/timestamp.txt", "submission_metadata.yml"):
        write(tmp_path, f"mallory/{name}", notebook("m = 1"))
    for name in ("submitted", "assignment_1_export"):  # a student may be called like this
        write(tmp_path, f"{name}/{name}/lab.ipynb", notebook("s = 1"))
    result = found(tmp_path, lab="quantization")
    assert {name: result[name] for name in honest} == honest
    assert set(result) == {*honest, "carol", "mallory", "submitted", "assignment_1_export"}


def test_of_a_long_name_in_a_zip_little_is_looked_at(tmp_path, monkeypatch):
    """To find a bracket behind 60,000 spaces, the expression took the square of their number."""
    seen = []

    class Noted:
        def sub(self, new, text):
            seen.append(len(text))
            return text

    monkeypatch.setattr(submissions, "_COPY", Noted())
    pack(
        tmp_path / "mallory.zip",
        {f"{' ' * 60_000}(1).ipynb": notebook("m = 1"), "lab.ipynb": notebook("m = 2")},
    )
    assert found(tmp_path, lab="lab") == {"mallory": "m = 2"}
    assert seen and max(seen) <= 200


def test_the_newest_by_time_stamp_counts(tmp_path):
    for day, hour in ((1, 10), (2, 9), (1, 11)):
        attempt = f"alice/attempts/{day}-{hour}"
        write(tmp_path, f"{attempt}/work.ipynb", notebook(f"x = {day}{hour}"))
        write(tmp_path, f"{attempt}/timestamp.txt", f"2024-03-0{day} {hour:02}:00:00 UTC".encode())
    assert found(tmp_path) == {"alice": "x = 29"}


def test_canvas_names(tmp_path):
    put(tmp_path, doejane_4711_100_lab="old", roeann_12_101_lab="late", poejim_7_99_lab="first")
    write(tmp_path, "doejane_LATE_4711_205_lab-1.ipynb", notebook("new"))
    write(tmp_path, "poejim_7_98_plan_1_2_x.ipynb", notebook("older"))
    write(tmp_path, "blue_5_300_photo.png", b"\x89PNG")
    result = found(tmp_path, lab="lab")
    assert result.pop("blue_5").startswith("! what was handed in is not a notebook")
    assert result == {"doejane_4711": "new", "roeann_12": "late", "poejim_7": "first"}
    jane = next(one for one in find_submissions(tmp_path) if one.student == "doejane_4711")
    assert jane.aliases == ("doejane_4711", "doejane", "4711")
    assert jane.notes == (
        "of 2 notebooks, doejane_LATE_4711_205_lab-1.ipynb was graded; not doejane_4711_100_lab.ipynb",
    )


def test_the_notebook_named_as_the_lab_is_preferred(tmp_path):
    put(tmp_path, alice__scratch="no", alice__pruning="yes", alice__zzz="no")
    pack(tmp_path / "bob/all.zip", {"a.ipynb": notebook("no"), "x/pruning (1).ipynb": notebook("yes")})
    assert found(tmp_path, lab="pruning") == {"alice": "yes", "bob": "yes"}


@pytest.mark.parametrize("inside", ["", "assignment_123_export/"])
def test_gradescope(tmp_path, inside):
    write(tmp_path, f"{inside}submission_1/lab.ipynb", notebook("x = 1"))
    write(tmp_path, f"{inside}submission_2/lab.ipynb", notebook("x = 2"))
    metadata = """---
submission_1:
  :submitters:
  - :name: Ann Lee
    :sid: '0042'
    :email: ann@example.edu
  :created_at: 2024-03-01 12:00:00.000000000 Z
submission_2:
  :submitters:
  - :name: Bo Ek
    :sid:
    :email: bo@example.edu
  - :name: Cy
    :sid: '7'
    :email:
"""
    write(tmp_path, f"{inside}submission_metadata.yml", metadata.encode())
    assert found(tmp_path) == {"0042": "x = 1", "bo@example.edu": "x = 2", "7": "x = 2"}
    assert find_submissions(tmp_path)[0].aliases == ("0042", "ann@example.edu", "Ann Lee")
    write(tmp_path, f"{inside}submission_metadata.yml", b"a: [")
    with pytest.raises(SubmissionsError, match="download it again"):
        find_submissions(tmp_path)


def test_a_folder_without_notebooks_names_the_layouts(tmp_path):
    write(tmp_path, "readme.txt")
    with pytest.raises(SubmissionsError, match="nbgrader[^$]*Canvas"):
        find_submissions(tmp_path)
    with pytest.raises(SubmissionsError, match="is not a folder"):
        find_submissions(tmp_path / "nowhere")
    with pytest.raises(SubmissionsError, match="unpack it first"):
        find_submissions(pack(tmp_path / "all.zip", {"a.ipynb": notebook()}))


def test_links_and_pipes_are_not_followed(tmp_path):
    secret = write(tmp_path / "elsewhere", "secret.ipynb", notebook("secret"))
    pack(tmp_path / "elsewhere/secret.zip", {"a.ipynb": notebook("secret")})
    folder = put(tmp_path / "in", good="x = 1")
    try:
        (folder / "link.ipynb").symlink_to(secret)
        (folder / "zip.zip").symlink_to(secret.with_suffix(".zip"))
        (folder / "away").symlink_to(secret.parent, target_is_directory=True)
        os.mkfifo(folder / "pipe.ipynb")
    except (OSError, NotImplementedError, AttributeError) as error:
        pytest.skip(f"no links or pipes on this system: {error}")
    result = found(folder)
    assert result.pop("good") == "x = 1" and set(result) == {"link", "zip", "pipe"}
    assert "link" in result["link"] and "link" in result["zip"] and "regular" in result["pipe"]
    for student in ("bob", "ann"):
        (tmp_path / "each" / student).mkdir(parents=True)
    (tmp_path / "each/ann/lab").symlink_to(secret.parent, target_is_directory=True)
    put(tmp_path / "each", bob__lab="b = 1")
    assert found(tmp_path / "each")["ann"].startswith("! the file is a link")


def test_archives_made_to_hurt(tmp_path):
    bomb = b'{"cells": [' + b" " * 100_000_000 + b"]}"
    pack(tmp_path / "bomb.zip", {"lab.ipynb": bomb})
    pack(tmp_path / "slow.zip", {"lab.ipynb": notebook()}, zipfile.ZIP_LZMA)
    pack(
        tmp_path / "escape.zip",
        {"../../lab.ipynb": notebook(), "/etc/lab.ipynb": notebook(), "c:\\lab.ipynb": b"{"},
    )
    pack(tmp_path / "many.zip", {f"{number}{'n' * 60}": b"" for number in range(25_000)}, zipfile.ZIP_STORED)
    inner = pack(tmp_path / "inner/x.zip", {"lab.ipynb": notebook()}).read_bytes()
    pack(tmp_path / "nested.zip", {"inner.zip": inner})
    write(
        tmp_path,
        "torn.zip",
        pack(tmp_path / "inner/y.zip", {"lab.ipynb": os.urandom(999)}).read_bytes()[:600],
    )
    data = bytearray(pack(tmp_path / "inner/z.zip", {"lab.ipynb": notebook() * 30}).read_bytes())
    data[45:60] = bytes(15)
    write(tmp_path, "damaged.zip", bytes(data))
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("lab.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    result = found(tmp_path)
    expected = {
        "bomb": "would unpack to 95 MB", "slow": "unusual way", "escape": "no notebook", "many": "too many files",
        "nested": "only another ZIP", "torn": "no whole ZIP", "damaged": "damaged", "link": "no notebook",
    }  # fmt: skip
    assert {student: words for student, words in expected.items() if words not in result[student]} == {}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    pack(path, {"lab.ipynb": notebook() * 9, "b/": b""})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(raw)
    try:
        assert all(len(archives.read_member(path, name)) >= 0 for name in archives.notebooks(path))
    except Unreadable as error:
        assert str(error)


def test_odd_names_become_safe_ids(tmp_path):
    names = [
        "=cmd()|' /C calc'!A0",
        "Mary Ann",
        "mary ann",
        "a..",
        "a\nb",
        "深度",
        "x" * 200,
        "-rf",
        "@sum",
        "con",
        "\u202eevil",
    ]
    for name in names:
        write(tmp_path, f"{name}.ipynb", notebook())
    ids = [one.student for one in find_submissions(tmp_path)]
    assert len({name.casefold() for name in ids}) == len(names)
    for name in ids:
        assert (
            name[0].isalnum()
            and "/" not in name
            and len(name) < 80
            and name.isprintable()
            and " " not in name
        )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.text(max_size=12) | st.sampled_from(["a", "A", "../a", "a-61b4c98b", "A-61B4C98B"]), unique=True
    )
)
def test_safe_ids_never_collide(names):
    ids = safe_ids(names)
    assert len({text.casefold() for text in ids.values()}) == len(names)
    assert all(text[0].isalnum() or text[0].isidentifier() or text[0].isnumeric() for text in ids.values())
    assert not any(part in text for text in ids.values() for part in ("/", "\\", " ", "\0", ","))


def test_who_is_in_the_roster():
    assert in_roster(["4711", "doe"], ["Roe", "Doe "]) == "Doe "
    assert in_roster(["4711", "doe"], ["Roe"]) is None
    assert in_roster(["4711", "doe"], ["doe", "4711"]) is None
