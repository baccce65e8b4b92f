"""Binary and ternary weights against every choice of codes, each with its own best scale."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.lowbit import binarize, ternarize

ROWS = st.lists(st.floats(-10, 10, width=32) | st.sampled_from([0.0, 1.0, -1.0]), min_size=1, max_size=6)


def least_error(w, alphabet):
    """The least squared error over all codes, with the scale of each by least squares."""
    codes = torch.tensor(list(itertools.product(alphabet, repeat=len(w))), dtype=torch.float64)
    alpha = (codes @ w) / codes.square().sum(1).clamp(min=1)
    return (w - alpha[:, None] * codes).square().sum(1).min().item()


def error(w, codes, scale):
    return (w - codes.double() * scale.double()).square().sum().item()


@settings(deadline=None, max_examples=50)
@given(row=ROWS)
def test_no_signs_and_no_scale_are_better(row):
    w = torch.tensor(row, dtype=torch.float32)
    codes, scale = binarize(w, axis=None)
    assert codes.dtype == torch.int8 and set(codes.tolist()) <= {-1, 1} and scale.shape == (1,)
    assert error(w, codes, scale) <= least_error(w.double(), (-1, 1)) + 1e-5
    for other in (0.99, 1.01):
        assert error(w, codes, scale * other) >= error(w, codes, scale) - 1e-5


@settings(deadline=None, max_examples=50)
@given(row=ROWS)
def test_the_exact_threshold_finds_the_best_ternary_codes_and_the_rule_does_not_beat_it(row):
    w = torch.tensor(row, dtype=torch.float32)
    codes, scale = ternarize(w, axis=None, threshold="exact")
    assert codes.dtype == torch.int8 and set(codes.tolist()) <= {-1, 0, 1}
    best = error(w, codes, scale)
    assert best <= least_error(w.double(), (-1, 0, 1)) + 1e-5
    rule = error(w, *ternarize(w, axis=None))
    assert best <= rule + 1e-5
    assert best <= error(w, *binarize(w, axis=None)) + 1e-5


def test_the_rule_keeps_what_exceeds_seven_tenths_of_the_mean_with_the_mean_of_the_kept():
    w = torch.randn(5, 30, 10, generator=torch.Generator().manual_seed(0))
    codes, scale = ternarize(w)
    for channel in range(5):
        size = w[channel].abs()
        kept = size > 0.7 * size.mean()
        assert torch.equal(codes[channel].bool(), kept)
        assert torch.equal(codes[channel][kept].float(), w[channel][kept].sign())
        assert scale[channel].item() == pytest.approx(size[kept].mean().item())


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_each_entry_of_the_axis_is_a_problem_of_its_own(axis):
    w = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(1))
    for method in (binarize, ternarize, lambda w, axis: ternarize(w, axis=axis, threshold="exact")):
        codes, scale = method(w, axis=axis)
        assert codes.shape == w.shape and (codes * scale).shape == w.shape
        assert scale.numel() == w.shape[axis]
        for index in range(w.shape[axis]):
            alone, alone_scale = method(w.select(axis, index), axis=None)
            assert torch.equal(codes.select(axis, index), alone)
            assert scale.flatten()[index] == pytest.approx(alone_scale.item())


def test_on_normal_weights_the_rule_is_close_to_the_best():
    w = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(2))
    exact, rule = error(w, *ternarize(w, threshold="exact")), error(w, *ternarize(w))
    assert exact <= rule <= 1.01 * exact
    assert rule < 0.6 * error(w, *binarize(w))


@pytest.mark.parametrize("threshold", ["mean", "exact"])
def test_a_channel_of_zeros_stays_zero(threshold):
    w = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    for codes, scale in (ternarize(w, threshold=threshold), binarize(w)):
        assert (codes * scale)[0].tolist() == [0.0, 0.0] and scale[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binarize(torch.ones(0, 3)), "holds no value"),
        (lambda: binarize(torch.tensor([float("inf")])), "infinite"),
        (lambda: ternarize(torch.ones(2, 2), axis=2), "axis 2 is not an axis"),
        (lambda: ternarize(torch.ones(2, 2), threshold="best"), "threshold must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
