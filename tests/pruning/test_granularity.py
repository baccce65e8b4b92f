"""Granularity against brute force over blocks, and against torch.nn.utils.prune."""

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from dca_lab.pruning import GRANULARITIES, best_patterns, block_mask, expand, group_scores, pattern_dictionary


def scores(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def block_of(granularity, index):
    """The block that a weight at (o, i, y, x) belongs to, written down from the definition."""
    o, i, y, _ = index
    return {
        "weight": index,
        "vector": (o, i, y),
        "kernel": (o, i),
        "filter": o,
        "channel": i,
        "layer": 0,
    }[granularity]


@pytest.mark.parametrize("granularity", ["weight", "vector", "kernel", "filter", "channel", "layer"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.75])
def test_blocks_are_those_of_the_definition_and_the_best_stay(granularity, sparsity):
    score = scores(4, 3, 3, 2)
    sums, members = {}, {}
    for index in product(*map(range, score.shape)):
        block = block_of(granularity, index)
        sums[block] = sums.get(block, 0.0) + score[index].item()
        members.setdefault(block, []).append(index)
    ranked = sorted(sums, key=sums.get, reverse=True)
    kept = {index for block in ranked[: round((1 - sparsity) * len(ranked))] for index in members[block]}
    mask = block_mask(score, granularity, sparsity)
    assert mask.dtype == torch.bool and mask.shape == score.shape
    assert {tuple(index) for index in mask.nonzero().tolist()} == kept


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_group_scores_reduce(reduce):
    score = scores(3, 2, 2, 2)
    got = group_scores(score, "kernel", reduce=reduce)
    for o, i in product(range(3), range(2)):
        values = score[o, i].flatten().tolist()
        want = {"sum": sum(values), "mean": sum(values) / 4, "max": max(values)}[reduce]
        assert got[o, i].item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 4), (4, 4)])
@pytest.mark.parametrize("shape", [(3, 8), (2, 8, 3, 3), (2, 4, 5)])
def test_n_m_keeps_exactly_n_and_no_choice_keeps_more(n, m, shape):
    score = scores(*shape, seed=n)
    mask = block_mask(score, f"{n}:{m}")
    kept_sums = group_scores(score, f"{n}:{m}")
    for position in product(*(range(size) for axis, size in enumerate(shape) if axis != 1)):
        o, rest = position[0], position[1:]
        for group in range(shape[1] // m):
            cells = [(o, group * m + j, *rest) for j in range(m)]
            chosen = [cell for cell in cells if mask[cell]]
            best = max(sum(score[c].item() for c in some) for some in combinations(cells, n))
            assert len(chosen) == n
            assert sum(score[c].item() for c in chosen) == pytest.approx(best, rel=1e-6)
            assert kept_sums[o, group, *rest].item() == pytest.approx(best, rel=1e-6)


def test_pattern_is_the_best_of_the_dictionary_for_every_kernel():
    score = scores(6, 5, 3, 3)
    dictionary = pattern_dictionary(score, count=5)
    mask = block_mask(score, "pattern", dictionary=dictionary)
    kept, same = best_patterns(score, dictionary)
    assert torch.equal(mask, same)
    for o, i in product(range(6), range(5)):
        best = max(score[o, i][pattern].sum().item() for pattern in dictionary)
        assert any(torch.equal(mask[o, i], pattern) for pattern in dictionary)
        assert score[o, i][mask[o, i]].sum().item() == pytest.approx(best, rel=1e-6)
        assert kept[o, i].item() == pytest.approx(best, rel=1e-6)


def test_dictionary_holds_the_most_frequent_natural_patterns():
    votes = {}
    score = scores(16, 8, 3, 3)
    for kernel in score.flatten(0, 1):
        others = [cell for cell in product(range(3), range(3)) if cell != (1, 1)]
        others.sort(key=lambda cell, kernel=kernel: -kernel[cell].item())
        shape = frozenset([(1, 1), *others[:3]])
        votes[shape] = votes.get(shape, 0) + 1
    got = [votes[frozenset(map(tuple, p.nonzero().tolist()))] for p in pattern_dictionary(score, count=8)]
    assert got == sorted(votes.values(), reverse=True)[:8]


def test_full_dictionary_is_the_unrestricted_best_with_the_centre():
    score = scores(3, 3, 3, 3)
    every = torch.stack(
        [
            torch.zeros(9, dtype=torch.bool).index_fill(0, torch.tensor([4, *some]), True).reshape(3, 3)
            for some in combinations([0, 1, 2, 3, 5, 6, 7, 8], 3)
        ]
    )
    score[:, :, 1, 1] = 2.0  # the centre is the best cell anyway
    kept, _ = best_patterns(score, every)
    assert torch.allclose(kept, score.flatten(2).topk(4).values.sum(-1))


def test_pattern_beyond_five_ninths_removes_whole_kernels():
    score = scores(8, 4, 3, 3)
    mask = block_mask(score, "pattern", 1 - 4 / 9 / 2)
    cells = mask.sum((2, 3)).flatten().tolist()
    assert sorted(cells) == [0] * 16 + [4] * 16
    kept, _ = best_patterns(score)
    assert kept[mask.any(3).any(2)].min() > kept[~mask.any(3).any(2)].max()


@pytest.mark.parametrize(("dim", "granularity"), [(0, "filter"), (1, "channel")])
@pytest.mark.parametrize(("amount", "order"), [(0.5, 1), (0.25, 2)])
def test_same_masks_as_torch_ln_structured(amount, order, dim, granularity):
    torch_layer = nn.Conv2d(4, 8, 3)
    weight = torch_layer.weight.detach().clone()
    prune.ln_structured(torch_layer, "weight", amount=amount, n=order, dim=dim)
    ours = block_mask(weight.abs() ** order, granularity, amount)
    assert torch.equal(ours, torch_layer.weight_mask.bool())


def test_same_masks_as_torch_l1_unstructured():
    layer = nn.Conv2d(4, 8, 3)
    weight = layer.weight.detach().clone()
    prune.l1_unstructured(layer, "weight", amount=0.7)
    assert torch.equal(block_mask(weight.abs(), "weight", 0.7), layer.weight_mask.bool())


@settings(deadline=None, max_examples=50)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    granularity=st.sampled_from(["weight", "vector", "kernel", "filter", "channel", "layer"]),
    sparsity=st.floats(0, 0.999),
    seed=st.integers(0, 100),
    levels=st.integers(1, 4),
)
def test_exact_count_whole_blocks_and_determinism_even_with_ties(shape, granularity, sparsity, seed, levels):
    score = torch.randint(0, levels, shape, generator=torch.Generator().manual_seed(seed)).float()
    mask = block_mask(score, granularity, sparsity)
    blocks = group_scores(mask.float(), granularity, reduce="mean")
    assert set(blocks.flatten().tolist()) <= {0.0, 1.0}
    assert int(blocks.sum()) == round((1 - sparsity) * blocks.numel())
    assert torch.equal(mask, block_mask(score.clone(), granularity, sparsity))
    assert torch.equal(expand(blocks.bool(), shape, granularity), mask)
    sums = group_scores(score, granularity)
    kept, gone = sums[blocks.bool()], sums[~blocks.bool()]
    if len(kept) and len(gone):
        assert kept.min() >= gone.max() - 1e-6


def test_equal_scores_keep_the_first():
    assert block_mask(torch.ones(2, 4), "weight", 0.5).tolist() == [[True] * 4, [False] * 4]
    assert block_mask(torch.ones(1, 4), "2:4").tolist() == [[True, True, False, False]]


def test_linear_is_a_one_by_one_convolution():
    score = scores(6, 8)
    for granularity in ("weight", "vector", "kernel", "filter", "channel", "layer", "2:4"):
        sparsity = 0.5
        as_conv = block_mask(score[:, :, None, None], granularity, sparsity)
        assert torch.equal(block_mask(score, granularity, sparsity), as_conv[:, :, 0, 0])


def test_every_named_granularity_works_on_a_three_by_three_convolution():
    for granularity in GRANULARITIES:
        sparsity = None if granularity in ("2:4", "pattern") else 0.5
        assert block_mask(scores(8, 8, 3, 3), granularity, sparsity).shape == (8, 8, 3, 3)


@pytest.mark.parametrize(
    ("score", "granularity", "sparsity", "says"),
    [
        (torch.rand(4, 4), "columns", 0.5, "unknown"),
        (torch.rand(4, 4), "weight", 1.0, r"\[0, 1\)"),
        (torch.rand(4, 4), "weight", -0.1, r"\[0, 1\)"),
        (torch.rand(4, 4), "weight", float("nan"), r"\[0, 1\)"),
        (torch.rand(4, 4), "weight", True, r"\[0, 1\)"),
        (torch.rand(4, 4), "weight", None, "needs a sparsity"),
        (torch.tensor([[1.0, float("nan")]]), "weight", 0.5, "NaN"),
        (torch.rand(4), "weight", 0.5, r"shape \(4,\)"),
        (torch.rand(0, 4), "weight", 0.5, "no score"),
        ([[1.0]], "weight", 0.5, "tensor"),
        (torch.rand(4, 6), "2:4", None, "leave this layer dense"),
        (torch.rand(4, 4), "5:4", None, "N:M needs"),
        (torch.rand(4, 4), "2:4", 0.7, "0.5, not 0.7"),
        (torch.rand(4, 4, 5, 5), "pattern", None, "3x3"),
        (torch.rand(4, 4, 3, 3), "pattern", 0.3, "at most"),
    ],
)
def test_bad_inputs_are_refused(score, granularity, sparsity, says):
    with pytest.raises(ValueError, match=says):
        block_mask(score, granularity, sparsity)


def test_more_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="reduce"):
        group_scores(torch.rand(2, 2), "filter", reduce="median")
    with pytest.raises(ValueError, match="do not have shape"):
        expand(torch.ones(3), (2, 2), "filter")
    with pytest.raises(ValueError, match="unknown"):
        expand(torch.ones(3), (2, 2), "2:4")
    with pytest.raises(ValueError, match="count"):
        pattern_dictionary(torch.rand(2, 2, 3, 3), count=0)
    uneven = torch.tensor([[[1, 0, 0]] * 3, [[1, 1, 0]] * 3]).bool()
    with pytest.raises(ValueError, match="same number"):
        best_patterns(torch.rand(2, 2, 3, 3), uneven)
    with pytest.raises(ValueError, match="bool"):
        best_patterns(torch.rand(2, 2, 3, 3), torch.ones(2, 3, 3))
