"""Observers against the data themselves, and against a fine scan of ranges; KL has a file of its own."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from observed import normal, observe
from scipy.integrate import quad

from dca_lab.quantization._histogram import Histogram
from dca_lab.quantization.affine import affine_params, fake_quantize
from dca_lab.quantization.error import best_gaussian_clip
from dca_lab.quantization.observers import (
    OBSERVERS,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from dca_lab.quantization.observers_search import squared_error

LARGEST = torch.finfo(torch.float32).max
FLOATS = st.floats(-LARGEST, LARGEST, width=32) | st.floats(-10, 10, width=32) | st.just(0.0)
BATCHES = st.lists(st.lists(FLOATS, min_size=1, max_size=8), min_size=1, max_size=4)


def mse(x, low, high, bits, symmetric=False):
    scale, zero_point = affine_params(low, high, bits, symmetric)
    return (
        (x - fake_quantize(x, scale, zero_point, bits=bits, symmetric=symmetric))
        .double()
        .square()
        .mean()
        .item()
    )


# --- the histogram ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(batches=BATCHES, bins=st.sampled_from([4, 16, 64]))
@example(batches=[[1e-45], [3e38], [-3e38, 0.0]], bins=4)
@example(batches=[[5.0, 5.0], [5.0], [-1.0]], bins=4)
def test_no_value_is_lost_and_each_lies_in_its_bin_however_the_range_grows(batches, bins):
    h = Histogram(bins)
    for batch in batches:
        h.add(torch.tensor(batch, dtype=torch.float32))
    x = np.sort(np.concatenate([np.float32(batch) for batch in batches]).astype(np.float64))
    assert h.total == x.size and h.zeros == (x == 0).sum()
    assert (h.minimum, h.maximum) == (x[0], x[-1])
    x = x[x != 0]
    if x.size:
        slack = 1e-9 * np.abs(h.edges).max()  # a value on an edge may fall on either side of it
        below = np.concatenate([[0], np.cumsum(h.counts)])
        assert (below >= np.searchsorted(x, h.edges - slack)).all()
        assert (below <= np.searchsorted(x, h.edges + slack, side="right")).all()


def test_the_bins_stay_finer_than_twice_the_ideal_width():
    h = Histogram(256)
    for step in range(1, 200):
        h.add(normal(50, seed=step) * step)
    assert (h.edges[1] - h.edges[0]) * 256 <= 2.0001 * 2 * (h.maximum - h.minimum)
    assert h.counts.size == 256 and h.total == 199 * 50


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), share=st.floats(0, 1), relu=st.booleans(), shift=st.floats(-4, 4))
def test_quantiles_are_those_of_the_data_to_a_bin(seed, share, relu, shift):
    x = normal(3, 700, seed=seed) + shift
    x = x.relu() if relu else x
    h = Histogram(1024)
    for batch in x:
        h.add(batch)
    ordered = x.flatten().sort().values.double().numpy()
    width = h.edges[1] - h.edges[0]
    rank = share * ordered.size
    low = ordered[max(int(np.floor(rank)) - 1, 0)]
    high = ordered[min(int(np.ceil(rank)), ordered.size - 1)]
    assert low - 1.01 * width <= h.quantile(share) <= high + 1.01 * width


# --- extremes and tails ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(batches=BATCHES, momentum=st.floats(0.01, 1))
def test_extremes_and_their_moving_average(batches, momentum):
    batches = [torch.tensor(batch, dtype=torch.float32) for batch in batches]
    together = torch.cat(batches)
    assert observe(MinMaxObserver(), *batches) == (together.min().item(), together.max().item())
    # Written out: the first batch has the weight (1 - c)^(n - 1), batch i > 0 has c (1 - c)^(n - 1 - i).
    n = len(batches)
    weights = [(1 - momentum) ** (n - 1)] + [momentum * (1 - momentum) ** (n - 1 - i) for i in range(1, n)]
    low, high = observe(MovingAverageObserver(momentum=momentum), *batches)
    size = together.abs().max().item()
    assert low == pytest.approx(
        sum(w * b.min().item() for w, b in zip(weights, batches, strict=True)), abs=1e-9 * size
    )
    assert high == pytest.approx(
        sum(w * b.max().item() for w, b in zip(weights, batches, strict=True)), abs=1e-9 * size
    )


@pytest.mark.parametrize("percentile", [90, 99, 99.9])
def test_percentiles_of_normal_values_and_a_relu_keeps_its_zero(percentile):
    x = normal(10, 20_000)
    low, high = observe(PercentileObserver(percentile=percentile), *x)
    wanted = np.quantile(x.numpy(), [1 - percentile / 100, percentile / 100])
    assert (low, high) == pytest.approx(wanted, abs=0.01)
    low, high = observe(PercentileObserver(percentile=percentile), *x.relu())
    assert low == 0 and high == pytest.approx(wanted[1], abs=0.01)
    assert observe(PercentileObserver(percentile=100), *x) == (x.min().item(), x.max().item())


# --- least squares ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    low=st.floats(-4, 0),
    high=st.floats(0.1, 4),
    a=st.floats(-6, 6),
    width=st.floats(0.01, 3),
    bits=st.integers(2, 5),
    symmetric=st.booleans(),
)
def test_the_integral_of_one_bin_is_that_of_scipy(low, high, a, width, bits, symmetric):
    grid = {"bits": bits, "symmetric": symmetric}
    got = squared_error(np.array([a, a + width]), np.array([5]), np.array([low]), np.array([high]), **grid)[0]
    # in float64, as `squared_error` takes them: a plain float would be rounded to float32 first
    scale, zero_point = affine_params(*torch.tensor([low, high], dtype=torch.float64), bits, symmetric)

    def density(t):
        y = fake_quantize(torch.tensor([t], dtype=torch.float64), scale, zero_point, **grid)
        return 5 / width * (t - y.item()) ** 2

    jumps = (np.arange(-(2**bits), 2**bits) + 0.5) * scale.item()
    cuts = [a, *jumps[(jumps > a) & (jumps < a + width)], a + width]
    wanted = sum(quad(density, u, v, epsabs=1e-12)[0] for u, v in itertools.pairwise(cuts))
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-9)


def samples():
    heavy = torch.distributions.StudentT(3.0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        student = heavy.sample((10_000,))
    return {
        "normal": normal(10_000),
        "relu": normal(10_000, seed=1).relu(),
        "hardswish": torch.nn.functional.hardswish(2 * normal(10_000, seed=2)),
        "heavy tails": student,
        "skewed": normal(10_000, seed=4).exp() - 3,
        "one-sided": 3 + 3 * torch.rand(10_000, generator=torch.Generator().manual_seed(5)),
        "negative": -normal(10_000, seed=6).abs(),
    }


@pytest.mark.parametrize("name", samples())
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_range_of_a_fine_scan_is_better_by_more_than_two_percent(name, bits):
    x = samples()[name]
    low, high = observe(MSEObserver(bits=bits), *x.split(5000))
    bottom, top = min(x.min().item(), 0), max(x.max().item(), 0)
    shares = np.geomspace(1 / 32, 1, 16)
    pairs = itertools.product(shares if bottom else [1.0], shares if top else [1.0])
    scanned = min(mse(x, bottom * a, top * b, bits) for a, b in pairs)
    assert mse(x, low, high, bits) <= 1.02 * scanned
    assert mse(x, low, high, bits) <= 1.001 * mse(x, bottom, top, bits)
    assert bottom <= low <= 0 <= high <= top


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_symmetric_grid_has_one_end_to_search_and_theory_knows_it(bits):
    x = normal(4, 50_000)
    low, high = observe(MSEObserver(bits=bits, symmetric=True), *x)
    assert low == -high
    clips = np.linspace(0.1, 1, 40) * x.abs().max().item()
    assert mse(x, low, high, bits, True) <= 1.01 * min(mse(x, -clip, clip, bits, True) for clip in clips)
    if bits > 2:
        assert high == pytest.approx(best_gaussian_clip(bits), rel=0.05)


def test_clipping_pays_more_the_fewer_the_bits():
    x = normal(100_000)
    highs = [observe(MSEObserver(bits=bits), x)[1] for bits in (3, 4, 6, 8)]
    assert highs == sorted(highs) and highs[0] < 0.7 * highs[-1]


def test_an_outlier_costs_min_max_its_levels_and_the_searching_observers_drop_it():
    x = normal(50_000).relu()
    x[0] = 60.0
    ends = {name: observe(make(bits=4), x) for name, make in OBSERVERS.items()}
    rest = x[1:]
    errors = {name: mse(rest, *end, 4) for name, end in ends.items()}
    assert all(errors[name] < errors["minmax"] / 20 for name in ("mse", "percentile", "kl"))


# --- what all of them share ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "values",
    [[0.0, 0.0], [5.0, 5.0], [-2.0], [1e-45, 3e-45], [-3e38, 3e38], [3.0, 4.0, 5.0, 6.0]],
    ids=str,
)
def test_strange_tensors_give_a_range_inside_the_data_that_the_grid_accepts(name, symmetric, values):
    x = torch.tensor(values)
    low, high = observe(OBSERVERS[name](bits=8, symmetric=symmetric), x, x)
    assert isinstance(low, float) and isinstance(high, float) and low <= high
    size = x.abs().max().item()
    assert -size <= low and high <= size
    scale, zero_point = affine_params(low, high, 8, symmetric)
    worst = (x - fake_quantize(x, scale, zero_point, symmetric=symmetric)).abs().max()
    assert worst <= 0.02 * size or size < 1e-37


@pytest.mark.parametrize("name", OBSERVERS)
def test_a_relu_keeps_its_zero(name):
    low, high = observe(OBSERVERS[name](), *normal(3, 4, 5, 5).relu())
    assert low == 0 and high > 1


@pytest.mark.parametrize("name", OBSERVERS)
def test_bad_calibration_is_refused_and_leaves_the_observer_as_it_was(name):
    observer = OBSERVERS[name]()
    with pytest.raises(ValueError, match="has seen no data"):
        observer.range()
    observer.update(normal(100))
    before = observer.range()
    for bad, message in (
        (torch.ones(0, 3), "holds no value"),
        (torch.tensor([1.0, float("nan")]), "NaN or infinity"),
        (torch.tensor([1.0, float("inf")]), "NaN or infinity"),
        (torch.tensor([-float("inf"), float("inf"), float("nan")]), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            observer.update(bad)
    assert observer.range() == before
    with pytest.raises(ValueError, match="bits must be"):
        OBSERVERS[name](bits=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PercentileObserver(percentile=0.999), "above 50"),
        (lambda: PercentileObserver(percentile=101), "at most 100"),
        (lambda: MovingAverageObserver(momentum=0), "momentum"),
        (lambda: MSEObserver(bins=7), "bins must be even"),
    ],
)
def test_impossible_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
