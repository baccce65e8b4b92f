"""The checkpoint file: whole or not there, and never believed when damaged."""

import errno
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.training import CheckpointError, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a good checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "c.pt"
    save_checkpoint(path, {"w": torch.arange(300.0), "epoch": 3})
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), max_size=20),
    number=st.integers(-(2**60), 2**60),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
@settings(deadline=None, max_examples=20)
def test_what_was_saved_comes_back(folder, values, number, text):
    path = folder / "round" / "trip.pt"
    save_checkpoint(path, {"t": torch.tensor(values), "n": [number, None], "s": {text: True}})
    state = load_checkpoint(path)
    assert torch.equal(state["t"], torch.tensor(values)) and state["n"] == [number, None]
    assert state["s"] == {text: True} and os.listdir(path.parent) == ["trip.pt"]


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=50)
def test_any_flipped_bit_is_noticed(whole, folder, where, bit):
    path = folder / "flipped.pt"
    damaged = bytearray(whole)
    damaged[int(where * len(whole))] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="delete .*flipped.pt and train again"):
        load_checkpoint(path)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(deadline=None, max_examples=30)
def test_any_truncation_is_noticed(whole, folder, share):
    path = folder / "short.pt"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="delete .*short.pt"):
        load_checkpoint(path)


def test_torch_alone_would_not_have_noticed(tmp_path):
    path = tmp_path / "plain.pt"
    torch.save({"w": torch.full((300,), 1.0)}, path)
    one, two = (torch.tensor(value).numpy().tobytes() for value in (1.0, 2.0))
    path.write_bytes(path.read_bytes().replace(one, two, 1))
    assert torch.load(path, weights_only=True)["w"].sum() == 301  # why the file carries a SHA-256


def test_other_files_and_other_formats_are_named(whole, tmp_path):
    path = tmp_path / "c.pt"
    torch.save({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of this package"):
        load_checkpoint(path)
    path.write_bytes(whole.replace(b"format 1", b"format 2", 1))
    with pytest.raises(CheckpointError, match="has format 2, not 1"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.pt")


class Innocent:
    """A pickled object of this class would make loading run code."""


def test_loading_runs_no_code(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"x": Innocent()})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_point_keeps_the_former_file(monkeypatch, tmp_path, call, error):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"epoch": 1})

    def fail(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(type(error)):
            save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1} and os.listdir(tmp_path) == ["c.pt"]


def test_the_content_is_flushed_before_the_rename_and_the_folder_after(monkeypatch, tmp_path):
    calls = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in real:
        monkeypatch.setattr(os, name, lambda *a, _name=name: (calls.append(_name), real[_name](*a)))
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})
    assert calls == (["fsync", "replace"] if os.name == "nt" else ["fsync", "replace", "fsync"])
