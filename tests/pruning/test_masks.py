"""Masks survive training: optimizer steps, momentum, weight decay; and nothing else is touched."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from dca_lab.pruning import Masker, apply_masks, layerwise_masks, magnitude, mask_sparsity, prunable
from dca_lab.training import fit

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov, decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam, decay, amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def data(rows=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 6, generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def train(model, optimizer, steps=5, after=lambda: None):
    x, y = data()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        after()


def revived(model, masks):
    return sum(int((weight[~masks[name]] != 0).sum()) for name, weight in prunable(model).items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momentum_cannot_revive_a_pruned_weight(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer)  # the optimizer has a memory of all weights now
    masks = layerwise_masks(magnitude(model), 0.7)
    before = copy.deepcopy(model.state_dict())
    with Masker(model, masks) as masker:
        masker.watch(optimizer)
        for _ in range(5):
            train(model, optimizer, steps=1)
            assert revived(model, masks) == 0
            for weight_name, weight in prunable(model).items():
                for value in optimizer.state.get(weight, {}).values():
                    if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                        assert not value[~masks[weight_name]].any()
    assert all((model.state_dict()[n] != before[n])[masks[n]].any() for n in masks)  # the others are trained


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_control_without_a_masker_momentum_does_revive(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer)
    masks = layerwise_masks(magnitude(model), 0.7)
    apply_masks(model, masks)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # not even a gradient
    optimizer.step()
    assert revived(model, masks) > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_as_an_on_step_hook_of_fit_without_knowing_the_optimizer(name):
    model = network()
    masks = layerwise_masks(magnitude(model), 0.5)
    with Masker(model, masks) as masker:
        options = {"optimizer": OPTIMIZERS[name], "on_step": masker, "progress": False}
        fit(model, *data(), epochs=2, batch_size=16, **options)
    assert revived(model, masks) == 0


def test_same_training_as_torch_prune():
    ours, theirs = network(), network()
    masks = layerwise_masks(magnitude(ours), 0.6)
    for index in (0, 2):
        prune.custom_from_mask(theirs[index], "weight", masks[f"{index}.weight"])
    with Masker(ours, masks):
        train(ours, OPTIMIZERS["momentum"](ours.parameters()))
    train(theirs, OPTIMIZERS["momentum"](theirs.parameters()))
    theirs(data()[0])  # torch.prune masks its weight at the next forward pass
    for index in (0, 2):
        assert torch.allclose(ours[index].weight, theirs[index].weight, atol=1e-6)
        assert torch.allclose(ours[index].bias, theirs[index].bias, atol=1e-6)


def test_update_takes_more_away_and_close_lets_go():
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    scores = magnitude(model)
    masker = Masker(model, layerwise_masks(scores, 0.3))
    masker.watch(optimizer)
    train(model, optimizer)
    masks = layerwise_masks(scores, 0.8)
    masker.update(masks)
    assert revived(model, masks) == 0
    train(model, optimizer)
    assert revived(model, masks) == 0
    masker.close()
    masker.close()
    train(model, optimizer)
    assert revived(model, masks) > 0


def test_gradients_of_pruned_weights_are_zero():
    model = network()
    masks = layerwise_masks(magnitude(model), 0.5)
    with Masker(model, masks):
        F.cross_entropy(model(data()[0]), data()[1]).backward()
    assert all(not weight.grad[~masks[name]].any() for name, weight in prunable(model).items())


def test_apply_masks_is_torch_prune_and_touches_nothing_else():
    model = network()
    before = copy.deepcopy(model.state_dict())
    masks = {"2.weight": layerwise_masks(magnitude(model), 0.5)["2.weight"]}
    apply_masks(model, masks)
    prune.custom_from_mask(reference := nn.Linear(8, 3), "weight", masks["2.weight"])
    with torch.no_grad():
        reference.weight_orig.copy_(before["2.weight"])
    reference(torch.zeros(1, 8))
    assert torch.equal(model[2].weight, reference.weight)
    for name in ("0.weight", "0.bias", "2.bias"):
        assert torch.equal(model.state_dict()[name], before[name])


def test_apply_masks_clears_nan_and_negative_zero():
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[float("nan"), -1.0, 1.0]]))
    apply_masks(layer, {"weight": torch.tensor([[False, False, True]])})
    assert layer.weight.tolist() == [[0.0, 0.0, 1.0]] and not layer.weight[0, 1].signbit()


def test_prunable_names_order_ties_and_what_it_leaves_out():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.norm, self.up = nn.LayerNorm(4), nn.ConvTranspose2d(4, 4, 2)
            self.conv = nn.Conv1d(4, 2, 3)

    model = Tied()
    assert list(prunable(model)) == ["a.weight", "conv.weight"]
    assert prunable(model)["a.weight"] is model.a.weight
    assert list(prunable(model, ["conv.weight", "a.weight"])) == ["conv.weight", "a.weight"]


def test_mask_sparsity_counts_all_masks_together():
    masks = {"a": torch.ones(10, 9, dtype=torch.bool), "b": torch.zeros(10, 1, dtype=torch.bool)}
    assert mask_sparsity(masks) == pytest.approx(0.1)


def test_bad_inputs_are_refused():
    model = network()
    mask = torch.ones(8, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="names no parameter"):
        apply_masks(model, {"1.weight": mask})
    with pytest.raises(ValueError, match="must be bool"):
        apply_masks(model, {"0.weight": mask.float()})
    with pytest.raises(ValueError, match="shape"):
        Masker(model, {"0.weight": mask.T})
    with Masker(model, {"0.weight": mask}) as masker, pytest.raises(ValueError, match="names"):
        masker.update({})
    with pytest.raises(ValueError, match="no convolution or linear"):
        prunable(nn.ReLU())
    with pytest.raises(ValueError, match="names no prunable weight"):
        prunable(model, ["0.bias"])
    with pytest.raises(ValueError, match="list"):
        prunable(model, "0.weight")
    with pytest.raises(ValueError, match="empty list"):
        prunable(model, [])
    with pytest.raises(ValueError, match="no mask"):
        mask_sparsity({})
