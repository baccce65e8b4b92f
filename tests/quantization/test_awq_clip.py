"""AWQ's clipping: every share of every group tried by brute force on the inputs themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.awq_clip import clip_weights
from dca_lab.quantization.nearest import quantize_groupwise


def group_error(x, w, clipped, **grid):
    """What one group of one row adds to the squared error of the output."""
    rounded = quantize_groupwise(clipped[None], group_size=None, **grid).dequantize()[0].double()
    return float((x @ (w - rounded)).square().sum())


def layer_error(x, weight, found, **options):
    rounded = quantize_groupwise(found, **options).dequantize().double()
    return float((x @ (weight - rounded).T).square().sum())


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 11), st.integers(1, 6), st.integers(2, 4), st.booleans(), st.integers(0, 99))
def test_each_group_has_the_best_range_of_all_that_are_tried(inputs, size, bits, symmetric, seed):
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(30, inputs, generator=g) * torch.rand(inputs, generator=g)).double()
    weight = torch.randn(3, inputs, generator=g).double() ** 3  # a few are large
    grid = {"bits": bits, "symmetric": symmetric}
    found = clip_weights(weight, x.T @ x, group_size=size, steps=10, smallest=0.2, **grid)
    for row in range(3):
        for at in range(0, inputs, size):
            w, part = weight[row, at : at + size], x[:, at : at + size]
            cut = [
                w.clamp(-c * w.abs().max(), c * w.abs().max()) for c in (1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
            ]
            least = min(group_error(part, w, each, **grid) for each in cut)
            ours = found[row, at : at + size]
            assert group_error(part, w, ours, **grid) == pytest.approx(least, rel=1e-5, abs=1e-9)
            assert min(float((ours - each).abs().max()) for each in cut) < 1e-12


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 16), st.integers(2, 8), st.integers(0, 99))
def test_with_one_group_a_row_the_layer_is_never_worse_than_rounding_to_nearest(inputs, bits, seed):
    g = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(20, inputs, generator=g).double(), torch.randn(4, inputs, generator=g).double()
    options = {"bits": bits, "group_size": None}
    found = clip_weights(weight, x.T @ x, **options)
    nearest = layer_error(x, weight, weight, **options)
    assert layer_error(x, weight, found, **options) <= nearest * (1 + 1e-9) + 1e-12


def test_a_large_weight_is_cut_if_its_input_is_quiet_and_kept_if_it_is_loud():
    g = torch.Generator().manual_seed(0)
    weight = torch.rand(1, 32, generator=g) - 0.5
    weight[0, 3] = 2.0
    cut = []
    for loudness in (0.01, 100.0):
        x = torch.randn(400, 32, generator=g).double()
        x[:, 3] *= loudness
        found = clip_weights(weight, x.T @ x, bits=3, group_size=32)
        cut.append(float(found[0, 3]))
        others = torch.arange(32) != 3
        assert torch.equal(found[:, others], weight[:, others])
    assert cut[0] <= 1.2  # nearly as far as the search goes, so that the others get a finer grid
    assert cut[1] >= 1.8  # nearly not at all


def test_weights_that_are_levels_already_are_not_touched():
    weight = torch.tensor([[-3.0, -1.0, 0.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(clip_weights(weight, torch.eye(5), bits=3, group_size=5), weight)


def test_the_dtype_stays_and_a_silent_input_is_no_accident():
    weight = torch.randn(2, 6)
    found = clip_weights(weight, torch.zeros(6, 6), bits=3, group_size=4)
    assert found.dtype == torch.float32 and torch.equal(found, weight)  # nothing to gain: the widest range
    assert clip_weights(weight.double(), torch.eye(6), bits=3, group_size=4).dtype == torch.float64


def test_bad_inputs_are_refused():
    weight = torch.randn(2, 6)
    for hessian, options, match in (
        (torch.eye(5), {}, "X\\^T X"),
        (torch.full((6, 6), torch.nan), {}, "hessian contains NaN"),
        (torch.eye(6), {"steps": 0}, "steps=0"),
        (torch.eye(6), {"smallest": 1.0}, "smallest=1.0"),
        (torch.eye(6), {"bits": 9}, "bits=9"),
    ):
        with pytest.raises(ValueError, match=match):
            clip_weights(weight, hessian, **options)
    with pytest.raises(ValueError, match="NaN"):
        clip_weights(weight * torch.nan, torch.eye(6))
