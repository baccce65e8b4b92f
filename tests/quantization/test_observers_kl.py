"""The KL observer against scipy's entropy and median filter, and on activations with point masses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import normal, observe
from scipy.ndimage import median_filter
from scipy.stats import entropy
from torch import nn

from dca_lab import data
from dca_lab.quantization import observers_kl
from dca_lab.quantization.affine import affine_params, fake_quantize
from dca_lab.quantization.error import sqnr
from dca_lab.quantization.observers import KLObserver, MinMaxObserver
from dca_lab.quantization.observers_kl import kl_divergences, without_point_masses


def decibels(observer, x):
    """Signal-to-noise ratio of x on the grid that the observer chooses for it."""
    scale, zero_point = affine_params(*observe(observer, *x.chunk(4)), observer.bits)
    return sqnr(x, fake_quantize(x, scale, zero_point, bits=observer.bits))


def divergence_written_out(counts, kept, heights):
    p = [float(n) for n in counts[:kept]]
    q = list(p)
    p[-1] += sum(counts[kept:])
    for group in range(heights):
        members = range(group * kept // heights, (group + 1) * kept // heights)
        filled = [i for i in members if counts[i]]
        for i in filled:
            q[i] = sum(counts[j] for j in members) / len(filled)
    return entropy(p, q)


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(0, 50), min_size=4, max_size=30), heights=st.integers(2, 4))
def test_kl_is_scipys_entropy_of_the_two_histograms(counts, heights):
    counts[-1] += 1
    kept = range(heights, len(counts) + 1)
    with np.errstate(invalid="ignore"):
        wanted = [divergence_written_out(counts, k, heights) if sum(counts[:k]) else np.inf for k in kept]
    assert kl_divergences(np.array(counts), heights) == pytest.approx(wanted, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(0, 50), min_size=33, max_size=100))
def test_a_point_mass_is_what_exceeds_scipys_running_median(counts):
    counts = np.array(counts, dtype=float)  # as many as the window at least: scipy is wrong on fewer
    usual = median_filter(counts, 33, mode="mirror")
    assert np.array_equal(without_point_masses(counts), np.fmin(counts, np.fmax(usual, 1)))


@pytest.mark.parametrize(
    ("relu", "symmetric", "heights"), [(True, False, 16), (True, True, 8), (False, False, 8)]
)
def test_the_threshold_is_that_of_the_least_divergence(relu, symmetric, heights):
    x = normal(4, 5000, seed=7)
    x = x.relu() if relu else x
    observer = KLObserver(bits=4, symmetric=symmetric, bins=128)
    low, high = observe(observer, *x)
    h = observer.histogram
    top = np.flatnonzero(h.counts)[-1] + 1
    counts = without_point_masses(h.counts)[:top].tolist()
    divergences = [divergence_written_out(counts, k, heights) for k in range(heights, top + 1)]
    threshold = h.edges[heights + int(np.argmin(divergences))]
    assert divergences.count(min(divergences)) == 1
    assert high == pytest.approx(min(threshold, x.max().item()))
    assert low == pytest.approx(max(-threshold, x.min().item()))
    assert h.edges[0] == 0


def test_spikes_that_no_cut_can_tell_apart_keep_the_whole_range():
    x = torch.tensor([3.0, 4.0, 5.0, 6.0])
    assert observe(KLObserver(), x) == (0.0, 6.0)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_values_that_begin_far_from_zero_are_not_all_clipped(bits):
    """A cut at the first of them keeps one bin, where P and Q are equal."""
    x = 3 + 3 * torch.rand(50_000, generator=torch.Generator().manual_seed(5))  # as softplus gives
    assert observe(KLObserver(bits=bits), x)[1] > 5.9


def test_long_tails_are_clipped_more_than_pays():
    """What stays of the method: a clipped value costs the same, however far away it lies."""
    x = normal(100_000, seed=4).exp()
    assert decibels(KLObserver(bits=8), x) < decibels(MinMaxObserver(bits=8), x) - 5


@pytest.fixture(scope="module")
def pictures():
    return data.as_tensors(data.load("fashion"), train=64, test=1)[0]  # half of it is background


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_a_blank_background_does_not_make_it_clip(pictures, seed, monkeypatch):
    """Each channel gives the background one constant. The control: the bare histogram is cut at one of them."""
    torch.manual_seed(seed)
    with torch.no_grad():
        x = nn.Conv2d(1, 32, 3, padding=1)(pictures).relu()
    for bits in (4, 6, 8):
        assert decibels(KLObserver(bits=bits), x) > decibels(MinMaxObserver(bits=bits), x) - 2
    monkeypatch.setattr(observers_kl, "without_point_masses", lambda counts: np.asarray(counts, float))
    assert decibels(KLObserver(bits=8), x) < decibels(MinMaxObserver(bits=8), x) - 10
