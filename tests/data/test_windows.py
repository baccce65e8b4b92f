"""Windows hold the text in order, without overlap, and drop only the tail."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.data import as_tensors, load, windows


@given(total=st.integers(1, 60), length=st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_every_full_window_is_the_slice_it_says(total, length):
    tokens, targets = np.arange(total), np.arange(1, total + 1)
    if length > total:
        with pytest.raises(ValueError, match=f"from 1 to {total}"):
            windows(tokens, targets, length)
        return
    x, y = windows(tokens, targets, length)
    assert x.shape == y.shape == (total // length, length)
    for i in range(total // length):
        assert x[i].tolist() == list(range(i * length, (i + 1) * length))
        assert (y[i] == x[i] + 1).all()


def test_tensors_give_tensors_and_the_novels_fit():
    x, y, *_ = as_tensors(load("austen"), train=1000, test=100)
    a, b = windows(x, y, 128)
    assert isinstance(a, torch.Tensor) and a.dtype == torch.int64 and a.shape == b.shape == (7, 128)
    assert torch.equal(a.flatten(), x[: 7 * 128]) and torch.equal(b[:, :-1], a[:, 1:])


def test_read_only_arrays_are_taken_and_stay_read_only():
    austen = load("austen")
    a, _ = windows(austen.x_test, austen.y_test, 64)
    assert a.dtype == np.uint8 and not a.flags.writeable


def test_bad_input_is_refused():
    tokens = torch.arange(10)
    for length in (0, -1, 11, 2.0, True):
        with pytest.raises(ValueError, match="length="):
            windows(tokens, tokens, length)
    with pytest.raises(ValueError, match="equally long"):
        windows(tokens, tokens[1:], 2)
    with pytest.raises(ValueError, match="one-dimensional"):
        windows(tokens.view(2, 5), tokens.view(2, 5), 2)


def test_the_room_is_imported_without_torch():
    code = "import sys, dca_lab.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
