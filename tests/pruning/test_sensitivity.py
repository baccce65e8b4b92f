"""Sensitivity against pruning by hand; the allocation against brute force over the whole grid."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.models import SmallCNN
from dca_lab.pruning import (
    Sensitivity,
    allocate,
    apply_masks,
    coupled_groups,
    layerwise_masks,
    magnitude,
    prune_channels,
    random_scores,
    sensitivity,
)
from dca_lab.training import evaluate

GRID = np.array([0.0, 0.25, 0.5, 0.9])


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 3))


def test_each_point_is_one_layer_pruned_alone():
    model = network()
    x = torch.randn(50, 6)
    y = model(x).argmax(1)
    state = copy.deepcopy(model.state_dict())
    result = sensitivity(model, (x, y), GRID)
    assert list(result) == ["0.weight", "2.weight", "4.weight"] and result.baseline == 1.0
    assert result.sparsities.tolist() == GRID.tolist() and len(result) == 3
    for name, row in result.items():
        assert row.shape == (4,) and row[0] == 1.0
        for sparsity, accuracy in zip(GRID, row, strict=True):
            pruned = copy.deepcopy(model)
            apply_masks(pruned, layerwise_masks({name: magnitude(model)[name]}, float(sparsity)))
            assert accuracy == evaluate(pruned, x, y)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))


def test_any_evaluation_importance_granularity_and_layer():
    def kept_rows(model):
        return float(model[2].weight.any(1).sum())

    generator = torch.Generator().manual_seed(0)
    result = sensitivity(
        network(),
        kept_rows,
        [0.0, 0.3, 0.8],
        layers=["2.weight"],
        granularity="filter",
        importance=lambda m: random_scores(m, generator=generator),
    )
    assert {name: row.tolist() for name, row in result.items()} == {"2.weight": [10.0, 7.0, 2.0]}


def test_apply_may_return_a_smaller_model():
    calls = []

    def shrink(model, layer, ratio):
        calls.append((layer, ratio))
        return nn.Linear(round((1 - ratio) * 100), 1)

    def width(model):
        return model.in_features if isinstance(model, nn.Linear) else 100

    result = sensitivity(network(), width, [0.1, 0.6], layers=["any name", "another"], apply=shrink)
    assert result["any name"].tolist() == [90.0, 40.0] and result.baseline == 100
    assert calls == [("any name", 0.1), ("any name", 0.6), ("another", 0.1), ("another", 0.6)]


def test_channel_ratios_are_scanned_allocated_and_removed_for_good():
    model = SmallCNN(channels=(4, 8))
    example, x = torch.zeros(2, 1, 28, 28), torch.randn(60, 1, 28, 28)
    with torch.no_grad():
        y = model.eval()(x).argmax(1)

    def remove(m, layer, ratio):
        return prune_channels(m, example, ratio=0.0, per_layer={layer: ratio})

    groups = {group.layers[0]: group for group in coupled_groups(model, example)}
    result = sensitivity(model, (x, y), [0.0, 0.25, 0.5], layers=list(groups), apply=remove)
    assert result.baseline == 1.0 and all(row[0] == 1.0 for row in result.values())
    ratios = allocate(result, {layer: group.channels for layer, group in groups.items()}, 0.4)
    small = prune_channels(model, example, ratio=0.0, per_layer=ratios)
    left = sum(group.channels for group in coupled_groups(small, example))
    assert left <= 0.6 * sum(group.channels for group in groups.values())
    for layer, ratio in ratios.items():
        assert small.get_submodule(layer).out_channels == round((1 - ratio) * groups[layer].channels)


def brute_force(result, sizes, target):
    names, best = list(result), None
    for choice in product(range(len(result.sparsities)), repeat=len(names)):
        removed = sum(sizes[n] * result.sparsities[c] for n, c in zip(names, choice, strict=True))
        if removed >= target * sum(sizes.values()) * (1 - 1e-12):
            loss = sum(result.baseline - result[n][c] for n, c in zip(names, choice, strict=True))
            best = loss if best is None else min(best, loss)
    return best


@settings(deadline=None, max_examples=50)
@given(data=st.data(), layers=st.integers(1, 4), target=st.floats(0, 0.9))
def test_no_choice_on_the_grid_loses_less(data, layers, target):
    names = [f"layer {i}" for i in range(layers)]
    curves = {n: np.array(data.draw(st.lists(st.floats(0, 1), min_size=4, max_size=4))) for n in names}
    sizes = {n: data.draw(st.integers(1, 1000)) for n in names}
    result = Sensitivity(GRID, curves, 0.9)
    chosen = allocate(result, sizes, target)
    removed = sum(sizes[n] * chosen[n] for n in names)
    assert removed >= target * sum(sizes.values()) * (1 - 1e-9)
    loss = sum(0.9 - curves[n][GRID.tolist().index(chosen[n])] for n in names)
    assert loss == pytest.approx(brute_force(result, sizes, target), abs=1e-9)


def test_a_layer_may_stay_dense_without_zero_on_the_grid():
    result = Sensitivity(np.array([0.5, 0.9]), {"a": np.array([0.9, 0.9]), "b": np.array([0.1, 0.0])}, 0.9)
    assert allocate(result, {"a": 100, "b": 10}, 0.8) == {"a": 0.9, "b": 0.0}


def test_many_layers_stay_quick_and_meet_the_budget():
    g = np.random.default_rng(0)
    grid = np.linspace(0, 0.95, 12)
    names = [f"layer {i}" for i in range(40)]
    curves = {n: 0.9 - np.sort(g.random(12)) * g.random() for n in names}
    sizes = {n: int(g.integers(100, 100_000)) for n in names}
    chosen = allocate(Sensitivity(grid, curves, 0.9), sizes, 0.7)
    share = sum(sizes[n] * chosen[n] for n in names) / sum(sizes.values())
    lost = sum(0.9 - curves[n][grid.tolist().index(chosen[n])] if chosen[n] else 0.0 for n in names)
    # the same share everywhere also meets the budget: the allocation has to lose less
    uniform = sum(0.9 - curves[n][np.searchsorted(grid, 0.7)] for n in names)
    assert 0.7 <= share < 0.72 and lost < uniform


def test_bad_inputs_are_refused():
    model = network()
    with pytest.raises(ValueError, match="sparsity"):
        sensitivity(model, lambda m: 0.0, [0.5, 1.0])
    with pytest.raises(ValueError, match="which names"):
        sensitivity(model, lambda m: 0.0, [0.5], apply=lambda m, layer, share: m)
    with pytest.raises(ValueError, match="at least one"):
        sensitivity(model, lambda m: 0.0, [])
    with pytest.raises(ValueError, match="no prunable weight"):
        sensitivity(model, lambda m: 0.0, [0.5], layers=["1.weight"])
    with pytest.raises(ValueError, match="no score"):
        sensitivity(model, lambda m: 0.0, [0.5], importance=lambda m: magnitude(m, layers=["0.weight"]))
    result = Sensitivity(GRID, {"a": np.ones(4), "b": np.ones(4)}, 1.0)
    with pytest.raises(ValueError, match="at most 0.9000"):
        allocate(result, {"a": 10, "b": 10}, 0.95)
    with pytest.raises(ValueError, match="sizes"):
        allocate(result, {"a": 10}, 0.5)
    with pytest.raises(ValueError, match="sizes"):
        allocate(result, {"a": 10, "b": 0}, 0.5)
    with pytest.raises(ValueError, match="target"):
        allocate(result, {"a": 10, "b": 10}, 1.0)
    with pytest.raises(ValueError, match="NaN"):
        allocate(Sensitivity(GRID, {"a": np.full(4, np.nan)}, 1.0), {"a": 1}, 0.5)
