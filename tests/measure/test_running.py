"""Modes and threads come back as they were, also after an error."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from dca_lab.measure._running import call, evaluating, nbytes, require_module, tensors_in, threads_set_to


def test_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model, print):
        assert not any(part.training for part in model.modules())
        raise KeyError
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_threads_come_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads_set_to(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
    for wrong in (0, 1.0, True, None):
        with pytest.raises(ValueError, match="at least 1"), threads_set_to(wrong):
            pass


def test_call_spreads_tuples_but_not_packed_sequences():
    packed = pack_sequence([torch.zeros(2, 1), torch.zeros(1, 1)])
    assert call(lambda *x: len(x), (1, 2, 3)) == 3
    assert call(lambda *x: len(x), [1, 2]) == 2
    assert call(lambda *x: x, packed) == (packed,)


def test_bytes_count_each_tensor_once():
    a, b = torch.zeros(3, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.int8)
    nested = {"x": [a, (b, None)], "y": a, "z": 3}
    assert [id(t) for t in tensors_in(nested)] == [id(a), id(b), id(a)]
    assert nbytes(nested) == 3 * 8 + 4


def test_only_modules_with_known_shapes_pass_the_door():
    require_module(nn.ReLU())
    with pytest.raises(ValueError, match="lazy"):
        require_module(nn.LazyConv2d(3, 3))
