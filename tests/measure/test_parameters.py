"""Counts against shapes worked out by hand and against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab import models
from dca_lab.measure import count_nonzero, count_parameters, sparsity


def test_counts_of_known_layers():
    assert count_parameters(nn.Linear(784, 300)) == 784 * 300 + 300
    assert count_parameters(nn.Conv2d(8, 16, 3, groups=4, bias=False)) == 16 * 2 * 9
    assert count_parameters(nn.GRU(10, 64)) == 3 * 64 * (10 + 64 + 2)
    assert count_parameters(nn.ReLU()) == 0


def test_lenets_have_the_counts_of_the_papers():
    # LeCun et al. 1998; Han et al. 2016 (table 2 and 3) give 266 K and 431 K
    assert count_parameters(models.build("lenet-300-100")) == 785 * 300 + 301 * 100 + 101 * 10
    assert count_parameters(models.build("lenet-5")) == 26 * 20 + 20 * 25 * 50 + 50 + 801 * 500 + 501 * 10


def test_shared_parameters_count_once():
    shared = nn.Linear(5, 5)
    tied = nn.Sequential(shared, nn.ReLU(), shared)
    assert count_parameters(tied) == 30
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    model[1].weight = model[0].weight
    assert count_parameters(model) == 36
    assert count_nonzero(model) == int(np.count_nonzero(model[0].weight.detach().numpy()))


def test_weights_only_leaves_vectors_out():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    assert count_parameters(model, weights_only=True) == 36
    assert count_parameters(model) == 36 + 4 + 8


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_sparsity_agrees_with_numpy(rows, columns, share, seed):
    layer = nn.Linear(columns, rows, bias=False)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) >= share)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values))
    stored = layer.weight.detach().numpy()
    assert count_nonzero(layer) == np.count_nonzero(stored)
    assert sparsity(layer) == pytest.approx(1 - np.count_nonzero(stored) / stored.size, abs=1e-12)
    assert 0 <= sparsity(layer) <= 1


def test_nan_is_not_zero_and_no_parameters_is_not_sparse():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[float("nan"), 0.0]]))
    assert count_nonzero(layer) == 1
    assert sparsity(nn.ReLU()) == 0.0


@pytest.mark.parametrize("function", [count_parameters, count_nonzero, sparsity])
def test_what_is_not_a_module_is_refused(function):
    with pytest.raises(ValueError, match="torch.nn.Module"):
        function(torch.zeros(3))
    with pytest.raises(ValueError, match="lazy"):
        function(nn.LazyLinear(3))
