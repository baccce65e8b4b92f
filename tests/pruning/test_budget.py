"""Budgets: exact counts, torch.nn.utils.prune as the peer, and what a global budget may do to a layer."""

import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from dca_lab.pruning import (
    emptied_layers,
    global_masks,
    layerwise_masks,
    magnitude,
    make_masks,
    mask_sparsity,
    n_m_masks,
    rowwise_masks,
)


def random_dict(seed=0, **shapes):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(*shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.filterwarnings("ignore:nothing is kept")
@settings(deadline=None, max_examples=40)
@given(sparsity=st.floats(0, 0.999), seed=st.integers(0, 1000), levels=st.integers(1, 50))
def test_counts_are_exact_and_the_best_stay(sparsity, seed, levels):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 4, 2, 2), "b": (5, 7)}
    scores = {name: torch.randint(0, levels, s, generator=generator).float() for name, s in shapes.items()}
    layerwise = layerwise_masks(scores, sparsity)
    together = global_masks(scores, sparsity)
    for name, score in scores.items():
        assert int(layerwise[name].sum()) == round((1 - sparsity) * score.numel())
    total = sum(score.numel() for score in scores.values())
    assert sum(int(mask.sum()) for mask in together.values()) == round((1 - sparsity) * total)
    flat, kept = (torch.cat([d[name].flatten() for name in scores]) for d in (scores, together))
    if kept.any() and not kept.all():
        assert flat[kept].min() >= flat[~kept].max()


def test_global_is_torch_global_unstructured_and_layerwise_is_l1_unstructured():
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(32, 10))
    scores = magnitude(model)
    ours, alone = global_masks(scores, 0.63), layerwise_masks(scores, 0.63)
    prune.global_unstructured([(model[0], "weight"), (model[2], "weight")], prune.L1Unstructured, amount=0.63)
    assert torch.equal(ours["0.weight"], model[0].weight_mask.bool())
    assert torch.equal(ours["2.weight"], model[2].weight_mask.bool())
    for index in (0, 2):
        prune.remove(model[index], "weight")
        with torch.no_grad():
            model[index].weight.copy_(scores[f"{index}.weight"])
        prune.l1_unstructured(model[index], "weight", amount=0.63)
        assert torch.equal(alone[f"{index}.weight"], model[index].weight_mask.bool())


def test_scaling_one_layer_changes_the_global_masks_but_not_the_layerwise_ones():
    scores = random_dict(a=(8, 8), b=(8, 8))
    scaled = {"a": scores["a"] * 10, "b": scores["b"]}
    both = [layerwise_masks(s, 0.5) for s in (scores, scaled)]
    assert all(torch.equal(both[0][name], both[1][name]) for name in scores)
    assert global_masks(scaled, 0.5)["a"].sum() > global_masks(scores, 0.5)["a"].sum()


def test_global_reports_a_layer_that_it_empties_and_min_keep_prevents_it():
    scores = {"strong": torch.rand(10, 10) + 1, "weak": torch.rand(10, 10) / 2}
    with pytest.warns(UserWarning, match="weak"):
        masks = global_masks(scores, 0.6)
    assert emptied_layers(masks) == ["weak"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = global_masks(scores, 0.6, min_keep=0.05)
    assert [int(mask.sum()) for mask in masks.values()] == [75, 5]
    assert torch.equal(masks["weak"], layerwise_masks(scores, 0.95)["weak"])
    with pytest.raises(ValueError, match="too many"):
        global_masks(scores, 0.9, min_keep=0.2)


def test_global_blocks_of_different_sizes_fall_from_the_smallest_mean_and_never_exceed_the_share():
    scores = random_dict(a=(6, 4, 3, 3), b=(10, 5))
    removed_before = 0
    for sparsity in (0.1, 0.3, 0.55, 0.8):
        masks = global_masks(scores, sparsity, granularity="filter")
        ranked = sorted(
            (score[o].mean().item(), score[o].numel(), name, o)
            for name, score in scores.items()
            for o in range(len(score))
        )
        budget = sparsity * sum(s.numel() for s in scores.values())
        gone, used = set(), 0
        for _, size, name, o in ranked:
            if used + size > round(budget):
                break
            gone.add((name, o))
            used += size
        got = {(name, o) for name, mask in masks.items() for o in range(len(mask)) if not mask[o].any()}
        assert got == gone
        assert all(row.all() or not row.any() for mask in masks.values() for row in mask)
        assert used >= removed_before
        removed_before = used


def test_global_blocks_that_fit_the_share_exactly_are_all_removed():
    scores = {"a": torch.arange(8.0).repeat_interleave(9).reshape(8, 1, 3, 3)}
    mask = global_masks(scores, 0.5, granularity="filter")["a"]
    assert [bool(row.all()) for row in mask] == [False] * 4 + [True] * 4 and mask_sparsity({"a": mask}) == 0.5


def test_layer_granularity_drops_the_worst_layer():
    scores = {name: torch.full((4, 4), v) for name, v in [("good", 2.0), ("bad", 1.0), ("better", 3.0)]}
    with pytest.warns(UserWarning, match="bad"):
        masks = global_masks(scores, 0.4, granularity="layer")
    assert [bool(mask.all()) for mask in masks.values()] == [True, False, True]


def test_per_layer_shares_leave_the_others_dense():
    masks = layerwise_masks(random_dict(a=(10, 10), b=(10, 10), c=(4, 4)), {"a": 0.9, "b": 0.5})
    assert [int(mask.sum()) for mask in masks.values()] == [10, 50, 16]


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 6), inputs=st.integers(1, 12), sparsity=st.floats(0, 0.99), seed=st.integers(0, 9))
@pytest.mark.filterwarnings("ignore:nothing is kept")
def test_rows_are_pruned_alone(rows, inputs, sparsity, seed):
    score = random_dict(seed, a=(rows, inputs))["a"]
    mask = rowwise_masks({"a": score}, sparsity)["a"]
    for row, kept in zip(score, mask, strict=True):
        best = sorted(range(inputs), key=lambda j, row=row: -row[j].item())[: round((1 - sparsity) * inputs)]
        assert set(kept.nonzero().flatten().tolist()) == set(best)


def test_within_never_revives_and_counts_towards_the_sparsity():
    scores = random_dict(a=(10, 10), b=(20, 5))
    other = random_dict(1, a=(10, 10), b=(20, 5))
    for scope in ("global", "layer", "row"):
        first = make_masks(scores, 0.4, scope=scope)
        second = make_masks(other, 0.6, scope=scope, within=first)
        assert mask_sparsity(second) == pytest.approx(0.6)
        assert not any((second[name] & ~first[name]).any() for name in scores)


def test_scope_may_be_a_function():
    scores = {"strong": torch.rand(10, 10) + 1, "weak": torch.rand(10, 10) / 2}
    guarded = partial(global_masks, min_keep=0.1)
    masks = make_masks(scores, 0.8, scope=guarded, within={n: torch.ones(10, 10) > 0 for n in scores})
    assert [int(mask.sum()) for mask in masks.values()] == [30, 10]


def test_n_m_of_a_dictionary():
    scores = random_dict(stem=(8, 1, 3, 3), body=(8, 8, 3, 3))
    masks = n_m_masks(scores, skip=True)
    assert masks["stem"].all() and mask_sparsity({"body": masks["body"]}) == 0.5
    with pytest.raises(ValueError, match="dense"):
        n_m_masks(scores)
    with pytest.raises(ValueError, match="N:M"):
        n_m_masks(scores, n=0)


def test_bad_inputs_are_refused():
    scores = random_dict(a=(4, 4))
    for function in (layerwise_masks, global_masks, rowwise_masks):
        for sparsity in (1.0, -0.2, 90, float("nan"), "half"):
            with pytest.raises(ValueError, match="sparsity"):
                function(scores, sparsity)
        with pytest.raises(ValueError, match="a: the scores contain NaN"):
            function({"a": torch.full((2, 2), float("nan"))}, 0.5)
        with pytest.raises(ValueError, match="non-empty"):
            function({}, 0.5)
        with pytest.raises(ValueError, match="within"):
            function(scores, 0.5, within={})
    with pytest.raises(ValueError, match="names"):
        layerwise_masks(scores, {"b": 0.5})
    with pytest.raises(ValueError, match="same sparsity in every layer"):
        global_masks(scores, 0.5, granularity="2:4")
    with pytest.raises(ValueError, match="unknown"):
        global_masks(scores, 0.5, granularity="weights")
    with pytest.raises(ValueError, match="min_keep"):
        global_masks(scores, 0.5, min_keep=2)
    with pytest.raises(ValueError, match="scope"):
        make_masks(scores, 0.5, scope="row", granularity="filter")
    with pytest.raises(ValueError, match="scope"):
        make_masks(scores, 0.5, scope="everywhere")
