"""Oracle: the exact mean and variance over all data, and torch's own layer."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.pruning.batchnorm import reestimate_batchnorm


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3),
        nn.BatchNorm2d(5),
        nn.Dropout(0.9),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3),
        nn.BatchNorm2d(4, momentum=None),
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 23), st.integers(1, 30))
def test_first_layer_is_exact_for_every_batch_size(n, batch_size):
    net, x = network(), torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(n)) * 3 + 100
    reestimate_batchnorm(net, x, batch_size=batch_size)
    seen = net[0](x).detach().double()
    torch.testing.assert_close(net[1].running_mean.double(), seen.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        net[1].running_var.double(), seen.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=1e-5
    )


def test_one_batch_equals_torch_with_momentum_one():
    net, x = network(), torch.randn(16, 2, 8, 8)
    twin = copy.deepcopy(net).train()
    twin[2].eval()
    twin[1].momentum = twin[5].momentum = 1.0
    twin(x)
    reestimate_batchnorm(net, x, batch_size=16)
    for i in (1, 5):
        torch.testing.assert_close(net[i].running_mean, twin[i].running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(net[i].running_var, twin[i].running_var, rtol=1e-5, atol=1e-6)


def test_only_statistics_change():
    net, x = network(), torch.randn(9, 2, 8, 8)
    net[0].eval()
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    assert reestimate_batchnorm(net, x, batch_size=4) is net
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"1.running_mean", "1.running_var", "5.running_mean", "5.running_var"}
    assert [m.training for m in net.modules()] == modes
    assert net[1].momentum == 0.1 and net[5].momentum is None
    assert not net[1]._forward_pre_hooks and all(p.grad is None for p in net.parameters())
    plain = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))
    reestimate_batchnorm(plain, torch.randn(4, 3))


def test_errors_leave_the_model_as_it_was():
    net, x = network(), torch.randn(4, 2, 8, 8)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="at least one sample"):
        reestimate_batchnorm(net, x[:0])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        reestimate_batchnorm(net, x, batch_size=0)
    with pytest.raises(ValueError, match="not finite"):
        reestimate_batchnorm(net, x * float("nan"))
    with pytest.raises(RuntimeError):
        reestimate_batchnorm(net, torch.randn(4, 3, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
