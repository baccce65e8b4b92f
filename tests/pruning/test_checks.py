"""The doors of every pruning function, and the selection on which exact counts rest."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.pruning._checks import check_score, check_scores, check_sparsity, keep_largest, kept_count


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30),
    kept=st.integers(-1, 31),
)
def test_keep_largest_is_a_stable_sort_cut_off(values, kept):
    mask = keep_largest(torch.tensor(values), kept)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert set(mask.nonzero().flatten().tolist()) == set(order[: max(kept, 0)])


@given(total=st.integers(0, 10**6), share=st.integers(0, 99))
def test_kept_and_removed_are_within_half_a_weight_of_the_request(total, share):
    assert abs(kept_count(total, share / 100) - total * (100 - share) / 100) <= 0.5 + 1e-6


def test_scores_come_out_detached_and_as_floats():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    assert not check_score(parameter).requires_grad
    assert check_score(torch.ones(2, 2, dtype=torch.int64)).dtype == torch.float32
    assert check_score(torch.ones(2, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert check_score(torch.ones(2, 2, dtype=torch.float64)).dtype == torch.float64
    assert check_score(torch.tensor([[-math.inf, 0.0]])).tolist() == [[-math.inf, 0.0]]


def test_what_is_refused_is_named():
    assert check_sparsity(0) == 0.0 and isinstance(check_sparsity(0), float)
    for bad in (1, 1.0, -1e-9, 50, math.nan, None, "0.5", True):
        with pytest.raises(ValueError, match="in \\[0, 1\\)"):
            check_sparsity(bad)
    with pytest.raises(ValueError, match="fc.weight: the scores contain NaN or infinity"):
        check_scores({"fc.weight": torch.tensor([[math.inf]])})
    with pytest.raises(ValueError, match="non-empty dict"):
        check_scores([torch.ones(2, 2)])
