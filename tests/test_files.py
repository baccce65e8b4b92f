"""Whole or not at all."""

import contextlib

import pytest

from dca_lab.files import replacing, require_folder


def test_require_folder(tmp_path):
    assert require_folder(str(tmp_path / "m.onnx")) == tmp_path / "m.onnx"
    with contextlib.chdir(tmp_path):
        assert require_folder("m.onnx").parent.is_dir()


def test_an_error_or_an_interrupt_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(file) as beside:
            beside.write_bytes(b"half of the n")
            raise error
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    with replacing(file) as beside:
        beside.write_bytes(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new" and list(tmp_path.iterdir()) == [file]
