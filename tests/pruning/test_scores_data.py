"""Wanda against its definition: the change of the layer's output when one weight is removed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.pruning import activation_norms, rowwise_masks, wanda


class Tokens(nn.Module):
    """(B, T, 5) -> (B, T, 3), one layer that is called twice and one that is never called."""

    def __init__(self):
        super().__init__()
        self.shared, self.out, self.unused = nn.Linear(5, 5), nn.Linear(5, 3), nn.Linear(2, 2)

    def forward(self, x):
        return self.out(self.shared(self.shared(x).relu()))


def test_norms_are_over_rows_and_tokens_and_all_calls():
    model, x = Tokens(), torch.randn(7, 4, 5)
    norms = activation_norms(model, x, batch_size=3)
    assert list(norms) == ["shared.weight", "out.weight"]
    hidden = model.shared(x).relu()
    calls = torch.cat([x.flatten(0, 1), hidden.flatten(0, 1)])
    assert torch.allclose(norms["shared.weight"].float(), calls.norm(dim=0), rtol=1e-5)
    last = model.shared(hidden).flatten(0, 1)
    assert torch.allclose(norms["out.weight"].float(), last.norm(dim=0), rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(outputs=st.integers(1, 4), inputs=st.integers(1, 6), rows=st.integers(1, 9), seed=st.integers(0, 99))
def test_score_is_the_change_of_the_output_without_the_weight(outputs, inputs, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    layer, x = nn.Linear(inputs, outputs).double(), torch.randn(rows, inputs, generator=generator).double()
    scores = wanda(layer, x)["weight"]
    for o in range(outputs):
        for i in range(inputs):
            without = layer.weight.detach().clone()
            without[o, i] = 0
            change = (nn.functional.linear(x, without, layer.bias) - layer(x)).norm()
            assert torch.allclose(scores[o, i], change.detach(), atol=1e-10)


def test_wanda_sees_what_magnitude_cannot():
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    x = torch.randn(50, 2) * torch.tensor([10.0, 0.1])
    assert rowwise_masks(wanda(layer, x), 0.5)["weight"].tolist() == [[True, False]]


def test_batches_do_not_matter_and_the_model_is_left_alone():
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3)).train()
    x, before = torch.randn(40, 6), model[0].running_mean.clone()
    rng = torch.get_rng_state()
    a, b = wanda(model, x, batch_size=7), wanda(model, x)
    assert torch.allclose(a["2.weight"], b["2.weight"], rtol=1e-5)
    assert torch.equal(model[0].running_mean, before) and model[1].training
    assert torch.equal(rng, torch.get_rng_state()) and not model[2]._forward_pre_hooks


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="linear layers only"):
        wanda(nn.Sequential(nn.Conv2d(1, 2, 3)), torch.zeros(1, 1, 8, 8), layers=["0.weight"])
    with pytest.raises(ValueError, match="calls no linear layer"):
        wanda(nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="never called"):
        wanda(Tokens(), torch.zeros(1, 2, 5), layers=["unused.weight"])
    with pytest.raises(ValueError, match="batch_size"):
        wanda(Tokens(), torch.zeros(1, 2, 5), batch_size=0)
    with pytest.raises(ValueError, match="at least one"):
        wanda(Tokens(), torch.zeros(0, 2, 5))
