"""The helpers that look at a model: what they compute, and that they leave no trace even after an error."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.pruning._probe import batches, call, copies, mean_gradients, unchanged
from dca_lab.pruning._within import inside, pruned_first, report_emptied


def test_unchanged_gives_back_modes_and_random_state_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3))
    model[0].eval()
    rng = torch.get_rng_state()
    with pytest.raises(KeyError), unchanged(model, training=True):
        assert model[0].training
        torch.rand(3)
        raise KeyError
    assert [m.training for m in model] == [False, True] and torch.equal(rng, torch.get_rng_state())


def test_batches_cover_all_rows_in_order():
    x, y = torch.arange(7), torch.arange(7) * 2
    pieces = list(batches(x, y, 3))
    assert [len(a) for a, _ in pieces] == [3, 3, 1]
    assert torch.equal(torch.cat([a for a, _ in pieces]), x)
    assert torch.equal(torch.cat([b for _, b in pieces]), y)
    for bad in ((x, y[1:], 3), (x[:0], y[:0], 3), (x, y, 0)):
        with pytest.raises(ValueError):
            list(batches(*bad))


def test_call_uses_other_weights_and_moves_no_statistics():
    model, x = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).train(), torch.randn(8, 3)
    before = model[1].running_mean.clone()
    leaves = copies({"0.weight": torch.zeros(2, 3)})
    output = call(model, leaves, x)
    assert torch.allclose(output, torch.zeros(8, 2), atol=1e-3)  # all rows alike: the norm leaves nothing
    assert leaves["0.weight"].requires_grad
    assert torch.equal(model[1].running_mean, before) and model[1].num_batches_tracked == 0


def test_mean_gradients_are_those_of_backward_whatever_the_batches():
    model, x, y = nn.Linear(4, 3).double(), torch.randn(11, 4).double(), torch.arange(11) % 3
    F.cross_entropy(model(x), y).backward()
    weights = {"weight": model.weight}
    for batch_size in (1, 4, 11, 100):
        got = mean_gradients(model, weights, x, y, loss=F.cross_entropy, batch_size=batch_size)
        assert torch.allclose(got["weight"], model.weight.grad, atol=1e-14)


def test_earlier_masks_go_first_and_emptied_layers_are_named():
    scores, within = {"a": torch.ones(1, 3)}, {"a": torch.tensor([[True, False, True]])}
    assert pruned_first(scores, within)["a"].tolist() == [[1.0, -torch.inf, 1.0]]
    assert pruned_first(scores, None)["a"].tolist() == [[1.0, 1.0, 1.0]]
    assert inside({"a": torch.tensor([[True, True, False]])}, within)["a"].tolist() == [[True, False, False]]
    with pytest.warns(UserWarning, match="'b'"):
        report_emptied({"a": torch.ones(2) > 0, "b": torch.zeros(2) > 0})
