"""Error theory against measurement, against scipy's integration, and against a scan of clips."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from dca_lab.quantization.affine import affine_params, fake_quantize
from dca_lab.quantization.error import ClippedError, best_gaussian_clip, gaussian_error, sqnr, sqnr_uniform


def measured(x, low, high, bits, symmetric=False):
    scale, zero_point = affine_params(low, high, bits, symmetric)
    return fake_quantize(x, scale, zero_point, bits=bits, symmetric=symmetric)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    ("low", "options"),
    [(-1.0, {}), (0.0, {"one_sided": True}), (-1.0, {"symmetric": True})],
    ids=["centred", "one-sided", "symmetric"],
)
def test_uniform_values_have_the_sqnr_of_the_formula(bits, low, options):
    x = low + (1 - low) * torch.rand(100_000, generator=torch.Generator().manual_seed(bits))
    y = measured(x, low, 1.0, bits, symmetric=options.get("symmetric", False))
    assert sqnr(x, y) == pytest.approx(sqnr_uniform(bits, **options), abs=0.1)


def test_a_bit_is_worth_six_decibels():
    gains = np.diff([sqnr_uniform(bits) for bits in range(2, 17)])
    assert gains[-1] == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert (np.diff(gains) < 0).all() and gains[0] < 8


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(1e-250, 1e250), seed=st.integers(0, 1000))
def test_sqnr_is_the_ratio_of_powers_and_does_not_depend_on_the_unit(factor, seed):
    generator = torch.Generator().manual_seed(seed)
    x, e = (torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(2))
    wanted = 10 * np.log10(np.linalg.norm(x) ** 2 / np.linalg.norm(x - (x + e)) ** 2)
    assert sqnr(x, x + e) == pytest.approx(wanted)
    assert sqnr(x * factor, (x + e) * factor) == pytest.approx(wanted)
    assert sqnr(x, x) == math.inf


@pytest.mark.parametrize("clip", [0.3, 1.0, 2.5, 4.0, 6.0])
def test_the_overload_is_the_integral(clip):
    integral, _ = quad(lambda x: (x - clip) ** 2 * norm.pdf(x), clip, np.inf, epsabs=0)
    assert isinstance(gaussian_error(clip, 8), ClippedError)
    assert gaussian_error(clip, 8).overload == pytest.approx(2 * integral, rel=1e-5)


@pytest.mark.parametrize("clip", [0.5, 1.5, 3.0])
def test_the_rounding_part_is_the_integral_between_the_clips(clip):
    scale, top = affine_params(-clip, clip, 6, True)[0].item(), 31
    cuts = np.clip(scale * (np.arange(-top, top + 2) - 0.5), -clip, clip)
    inside = sum(
        quad(lambda x, level=level: (x - level * scale) ** 2 * norm.pdf(x), a, b)[0]
        for level, a, b in zip(range(-top, top + 1), cuts[:-1], cuts[1:], strict=True)
    )
    assert gaussian_error(clip, 6).rounding == pytest.approx(inside, rel=2e-3)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "tolerance"), [(2, 0.35), (3, 0.1), (4, 0.03), (6, 0.01), (8, 0.01)])
@pytest.mark.parametrize("clip", [1.5, 2.5, 3.5])
def test_the_total_is_the_error_of_the_grid_integrated_step_by_step(bits, tolerance, clip, symmetric):
    scale, zero_point = (part.item() for part in affine_params(-clip, clip, bits, symmetric))
    top = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
    every = (np.arange(-top if symmetric else 0, top + 1) - zero_point) * scale
    cuts = np.concatenate([[-np.inf], (every[1:] + every[:-1]) / 2, [np.inf]])
    total = sum(
        quad(lambda x, level=level: (x - level) ** 2 * norm.pdf(x), a, b)[0]
        for level, a, b in zip(every, cuts[:-1], cuts[1:], strict=True)
    )
    # The zero point is rounded by half a step, so of a grid that is not symmetric one end is clipped a little later.
    slack = 0 if symmetric else abs(gaussian_error(clip - scale / 2, bits, symmetric=False).total / total - 1)
    assert gaussian_error(clip, bits, symmetric=symmetric).total == pytest.approx(
        total, rel=tolerance + slack
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_the_best_clip_is_that_of_a_scan_and_grows_with_the_bits(bits):
    clips = np.linspace(1, 5, 801)
    errors = [gaussian_error(clip, bits).total for clip in clips]
    assert best_gaussian_clip(bits) == pytest.approx(clips[int(np.argmin(errors))], abs=5e-3)
    assert best_gaussian_clip(bits) < best_gaussian_clip(bits + 1)


def test_at_four_bits_min_max_of_many_values_is_worse_than_clipping():
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    clip = best_gaussian_clip(4)
    clipped = sqnr(x, measured(x, -clip, clip, 4, symmetric=True))
    assert clipped > 3 + sqnr(x, measured(x, x.min(), x.max(), 4, symmetric=True))
    assert clipped == pytest.approx(-10 * math.log10(gaussian_error(clip, 4).total), abs=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sqnr(torch.ones(2), torch.ones(3)), "shapes differ"),
        (lambda: sqnr(torch.zeros(2), torch.ones(2)), "zero everywhere"),
        (lambda: sqnr(torch.ones(0), torch.ones(0)), "empty"),
        (lambda: sqnr(torch.tensor([math.nan]), torch.ones(1)), "finite"),
        (lambda: sqnr_uniform(8, symmetric=True, one_sided=True), "cannot be one-sided"),
        (lambda: sqnr_uniform(1), "bits must be"),
        (lambda: gaussian_error(0.0, 8), "clip must be positive"),
        (lambda: gaussian_error(math.inf, 8), "clip must be positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
