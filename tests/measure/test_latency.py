"""Statistics against numpy and scipy, the loop with a fake clock, one real comparison with a wide margin."""

import gc
from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import quantile_test
from torch import nn

from dca_lab.measure import Latency, latency, median_interval
from dca_lab.measure.pairs import MINIMUM_SAMPLE, interleave

positive = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(values=positive, confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_interval_agrees_with_scipys_order_statistics(values, confidence):
    interval = quantile_test(values, q=0.5, p=0.5).confidence_interval(confidence)
    low, high = median_interval(np.array(values), confidence=confidence)
    assert low == (-np.inf if np.isnan(interval.low) else interval.low)
    assert high == (np.inf if np.isnan(interval.high) else interval.high)
    assert low <= np.median(values) <= high


@pytest.mark.parametrize("confidence", [Fraction(1, 2), Fraction(3, 4), Fraction(9, 10), Fraction(19, 20)])
@pytest.mark.parametrize("n", range(1, 25))
def test_interval_is_the_narrowest_that_covers_by_exact_counting(n, confidence):
    def outside(k):  # probability that the true median lies outside the k-th smallest and the k-th largest
        return Fraction(2 * sum(comb(n, below) for below in range(k)), 2**n)

    largest = max(k for k in range(n // 2 + 1) if outside(k) <= 1 - confidence)
    expected = (largest, n + 1 - largest) if largest else (-np.inf, np.inf)
    assert median_interval(np.arange(1.0, n + 1), confidence=float(confidence)) == expected


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        low, high = median_interval(rng.exponential(size=15))
        inside += low <= np.log(2) <= high
    assert inside / 2000 > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)


@settings(deadline=None, max_examples=50)
@given(pairs=st.lists(st.tuples(st.floats(1e-6, 10), st.floats(1e-6, 10)), min_size=1, max_size=40))
def test_statistics_agree_with_numpy(pairs):
    a, b = np.array(pairs).T
    timed = Latency({"a": a, "b": b})
    assert timed.median("a") == np.median(a)
    assert timed.spread("b") == pytest.approx(np.quantile(b, 0.75) - np.quantile(b, 0.25), abs=1e-12)
    assert timed.ratio("a", "b") == np.median(a / b)
    low, high = timed.ratio_interval("a", "b")
    assert 0 <= low <= timed.ratio("a", "b") <= high


def test_a_slow_spell_that_hits_both_leaves_the_paired_ratio_alone():
    weather = np.linspace(1, 9, 31)
    timed = Latency({"slow": 3 * weather, "fast": weather})
    assert timed.ratio("slow", "fast") == pytest.approx(3)
    assert timed.ratio_interval("slow", "fast") == pytest.approx((3, 3))


class FakeClock:
    """Time passes only when a subject runs."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def subject(self, name, seconds):
        def run():
            self.calls.append(name)
            self.now += seconds

        return run


def test_loop_with_a_fake_clock_finds_the_true_seconds():
    clock = FakeClock()
    runs = {"quick": clock.subject("quick", 1e-5), "slow": clock.subject("slow", 0.01)}
    seconds, loops = interleave(runs, repeats=9, clock=clock)
    np.testing.assert_allclose(seconds["quick"], 1e-5)
    np.testing.assert_allclose(seconds["slow"], 0.01)
    assert loops["slow"] == 1
    assert MINIMUM_SAMPLE <= loops["quick"] * 1e-5 < 2 * MINIMUM_SAMPLE


def test_each_round_holds_every_subject_once_in_changing_order():
    clock = FakeClock()
    runs = {name: clock.subject(name, 0.01) for name in "abc"}
    interleave(runs, repeats=40, seed=1, clock=clock)
    rounds = ["".join(clock.calls[-120:][i : i + 3]) for i in range(0, 120, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) == 6
    again = FakeClock()
    interleave({name: again.subject(name, 0.01) for name in "abc"}, repeats=40, seed=1, clock=again)
    assert again.calls == clock.calls


def test_a_hundredfold_product_is_clearly_slower():
    x = torch.zeros(64, 1024)
    timed = latency({"wide": nn.Linear(1024, 1024), "narrow": nn.Linear(1024, 8)}, x, repeats=9)
    assert timed.ratio("wide", "narrow") > 3  # 128 times the arithmetic
    assert timed.ratio_interval("wide", "narrow")[0] > 1
    assert timed.clock == "process_time"
    assert timed.seconds["wide"].shape == (9,)
    assert "wide" in str(timed) and "ms" in str(timed)


def test_modes_threads_gradients_and_collector_are_restored():
    model = nn.Sequential(nn.Dropout(), nn.Linear(4, 4)).train()
    model[1].eval()
    threads, seen = torch.get_num_threads(), []

    def probe(x):
        seen.append(
            (torch.get_num_threads(), torch.is_inference_mode_enabled(), model.training, model[0].training)
        )
        return x

    torch.set_num_threads(2)
    try:
        latency({"model": model, "probe": probe}, torch.zeros(1, 4), repeats=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {(1, True, False, False)}
    assert model.training and model[0].training and not model[1].training
    assert gc.isenabled() and not torch.is_inference_mode_enabled()


def test_threads_inputs_and_callables():
    assert latency({"f": lambda: sum(range(100))}, repeats=2).seconds["f"].shape == (2,)
    got = {}
    latency({"f": lambda a, b: got.update(f=(a, b))}, (1, 2), repeats=1)
    assert got["f"] == (1, 2)
    latency({"f": lambda a: got.update(f=a), "g": lambda a: got.update(g=a)}, {"f": 3, "g": 4}, repeats=1)
    assert got == {"f": 3, "g": 4}
    assert latency({"f": lambda: sum(range(100))}, repeats=1, threads=2).clock == "perf_counter"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (({},), {}, "dict of name"),
        ((nn.Linear(2, 2),), {}, "dict of name"),
        (({"a": 3},), {}, "neither a module nor a function"),
        (({"a": len}, "x"), {"repeats": 0}, "repeats=0"),
        (({"a": len}, "x"), {"repeats": True}, "repeats=True"),
        (({"a": len}, "x"), {"threads": 0}, "threads=0"),
    ],
)
def test_bad_input_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        latency(*arguments, **options)


def test_unknown_names_and_confidences_are_refused():
    timed = Latency({"a": np.ones(3)})
    with pytest.raises(ValueError, match="'b' was not timed"):
        timed.median("b")
    with pytest.raises(ValueError, match="probability"):
        timed.ratio_interval("a", "a", confidence=95)
    assert timed.ratio_interval("a", "a") == (0.0, np.inf)  # three rounds cannot give 95%
