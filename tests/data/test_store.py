"""Damage of every kind is noticed before anything is parsed, and the message says how to undo it."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dca_lab import data
from dca_lab.data import _store

CELLS = "medical/cells.csv.gz"


@pytest.fixture
def copy(tmp_path):
    """A data folder that holds the table and one file."""
    root = _store.find_root()
    (tmp_path / "medical").mkdir()
    shutil.copy(root / _store.TABLE, tmp_path / _store.TABLE)
    shutil.copy(root / CELLS, tmp_path / CELLS)
    return tmp_path


def change(path, how):
    raw = bytearray(path.read_bytes())
    if how == "byte":
        raw[len(raw) // 2] ^= 1
    elif how == "cut":
        raw = raw[:-1]
    elif how == "append":
        raw += b"\0"
    elif how == "empty":
        raw = b""
    path.write_bytes(raw)


def test_table_sizes_and_files_agree():
    root = _store.find_root()
    table = _store.table(root)
    on_disk = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    # results of studies have a table of their own
    on_disk = {name for name in on_disk if not name.startswith("studies/")}
    assert set(table) == on_disk - {"README.md", _store.TABLE} == set(_store.SIZES)
    for path, expected in table.items():
        raw = (root / path).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == expected
        assert len(raw) == _store.SIZES[path]
    assert {path for name in data.names() for path in data.files(name)} == set(table)


def test_verify_of_the_shipped_folder():
    records = data.verify()
    assert [r.path for r in records] == list(_store.table(_store.find_root()))
    assert all(isinstance(r, data.FileRecord) and r.status == "ok" for r in records)
    assert {r.path: r.bytes for r in records} == _store.SIZES


DAMAGE = [("byte", "altered"), ("cut", "truncated"), ("append", "altered"), ("empty", "truncated")]


@pytest.mark.parametrize(("how", "word"), DAMAGE)
def test_damage_is_named_with_the_way_back(copy, how, word):
    before = data.load("cells", root=copy)
    change(copy / CELLS, how)
    # The intact set is in the cache: the damage must be noticed all the same.
    with pytest.raises(data.DataError) as caught:
        data.load("cells", root=copy)
    text = str(caught.value)
    assert CELLS in text and word in text and _store.restore_advice(CELLS) in text
    assert f"git checkout -- data/{CELLS}" in text
    assert {r.path: r.status for r in data.verify(copy)}[CELLS] == "altered"
    shutil.copy(_store.find_root() / CELLS, copy / CELLS)
    np.testing.assert_array_equal(data.load("cells", root=copy).x_train, before.x_train)


def test_the_stamp_sees_each_file_and_the_table(copy):
    stamps = {_store.stamp(copy, (CELLS,))}
    for path in (CELLS, _store.TABLE):
        change(copy / path, "append")
        stamps.add(_store.stamp(copy, (CELLS,)))
        (copy / path).unlink()
        stamps.add(_store.stamp(copy, (CELLS,)))
    assert len(stamps) == 5


def test_a_missing_file(copy):
    (copy / CELLS).unlink()
    with pytest.raises(data.DataError, match=rf"{CELLS} is missing.*git checkout -- data/{CELLS}"):
        data.load("cells", root=copy)
    record = {r.path: r for r in data.verify(copy)}[CELLS]
    assert (record.status, record.bytes) == ("missing", 0)


def test_a_folder_in_the_place_of_a_file(copy):
    (copy / CELLS).unlink()
    (copy / CELLS).mkdir()
    with pytest.raises(data.DataError, match=f"{CELLS}.*git checkout"):
        data.load("cells", root=copy)
    assert {r.path: r.status for r in data.verify(copy)}[CELLS] == "altered"


def test_nothing_is_parsed_before_it_is_checked(copy, monkeypatch):
    def refuse(*_):
        raise AssertionError("an unchecked file reached the decompressor")

    change(copy / CELLS, "byte")
    monkeypatch.setattr(_store.gzip, "decompress", refuse)
    with pytest.raises(data.DataError, match="altered"):
        data.load("cells", root=copy)


def test_a_damaged_file_with_a_matching_table_is_still_an_error(copy):
    change(copy / CELLS, "cut")
    digest = hashlib.sha256((copy / CELLS).read_bytes()).hexdigest()
    (copy / _store.TABLE).write_text(f"{digest}  {CELLS}\n", encoding="utf-8")
    with pytest.raises(data.DataError, match=f"{CELLS} matches SHA256SUMS but does not decompress"):
        data.load("cells", root=copy)


@pytest.mark.parametrize(
    "text", ["", "abc  file\n", "0" * 64 + "  ../secret\n", "0" * 64 + "  /etc/passwd\n", "0" * 64 + "\n"]
)
def test_a_bad_table(copy, text):
    (copy / _store.TABLE).write_text(text, encoding="utf-8")
    for call in (lambda: data.verify(copy), lambda: data.load("cells", root=copy)):
        with pytest.raises(data.DataError, match="git checkout -- data/SHA256SUMS"):
            call()


def test_a_missing_table_and_an_unlisted_file(copy):
    (copy / _store.TABLE).write_text("0" * 64 + "  other.bin\n", encoding="utf-8")
    with pytest.raises(data.DataError, match=f"{CELLS} is not listed"):
        data.load("cells", root=copy)
    (copy / _store.TABLE).unlink()
    with pytest.raises(data.DataError, match="SHA256SUMS is missing"):
        data.load("cells", root=copy)


def test_a_table_with_windows_line_ends(copy):
    table = copy / _store.TABLE
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    assert data.load("cells", root=copy).x_train.shape == (1009, 56)


def test_where_the_folder_is_looked_for(copy, tmp_path, monkeypatch):
    assert (_store.find_root() / _store.TABLE).is_file()
    monkeypatch.setenv("DCA_DATA", str(copy))
    assert _store.find_root() == copy
    with pytest.raises(data.DataError, match="mnist|vision"):
        data.load("mnist")
    with pytest.raises(data.DataError, match="DCA_DATA"):
        data.load("cells", root=tmp_path / "nowhere")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'cifar'.*mnist.*signs"):
        data.load("cifar")
    asked = "mnist fashion spam sentiment translation austen tones voices rehab cells signs"
    assert data.names() == tuple(asked.split())


def test_importing_the_room_imports_no_torch():
    code = (
        "import sys, dca_lab.data as d; d.load('cells'); "
        "print([m for m in ('torch', 'soundfile', 'PIL', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
