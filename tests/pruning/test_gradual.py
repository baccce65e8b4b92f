"""The cubic schedule in closed form, and a training that follows it."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.pruning import cubic_sparsity, gradual, prunable, random_scores


def data(rows=160):
    g = torch.Generator().manual_seed(0)
    return torch.randn(rows, 10, generator=g), torch.arange(rows) % 4


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 4))


@settings(deadline=None, max_examples=50)
@given(
    start=st.integers(0, 100),
    length=st.integers(1, 500),
    low=st.floats(0, 0.99),
    high=st.floats(0, 0.99),
)
def test_the_schedule_has_the_ends_the_slope_and_the_shape_of_the_cubic(start, length, low, high):
    low, high = sorted((low, high))
    end = start + length
    s = [cubic_sparsity(t, start=start, end=end, initial=low, final=high) for t in range(start, end + 1)]
    assert s[0] == pytest.approx(low) and s[-1] == high
    assert cubic_sparsity(start - 5, start=start, end=end, initial=low, final=high) == pytest.approx(low)
    assert cubic_sparsity(end + 5, start=start, end=end, initial=low, final=high) == high
    steps = [b - a for a, b in zip(s, s[1:], strict=False)]
    assert all(step >= -1e-12 for step in steps)  # it climbs
    assert all(b <= a + 1e-12 for a, b in zip(steps, steps[1:], strict=False))  # ever more slowly
    for t in range(start, end + 1):  # the published formula, term by term
        want = high + (low - high) * (1 - (t - start) / (end - start)) ** 3
        assert s[t - start] == pytest.approx(want, abs=1e-12)


def test_training_follows_the_schedule():
    model, (x, y) = network(), data()
    zeros = []
    run = gradual(
        model,
        x,
        y,
        sparsity=0.9,
        start=5,
        end=35,
        every=10,
        epochs=5,
        batch_size=16,
        scope="layer",
        progress=False,
        on_step=lambda step, m: zeros.append(sum(int((w == 0).sum()) for w in prunable(m).values()) / 280),
    )
    assert run.steps == [5, 15, 25, 35]
    want = [cubic_sparsity(step, start=5, end=35, final=0.9) for step in run.steps]
    assert run.sparsities == pytest.approx(want, abs=1 / 280)
    for step, share in enumerate(zeros, start=1):
        reached = [s for at, s in zip(run.steps, run.sparsities, strict=True) if at <= step]
        assert share == pytest.approx(reached[-1] if reached else 0.0)
    assert len(zeros) == 50
    assert all(not w[~run.masks[name]].any() for name, w in prunable(model).items())


def test_defaults_end_at_three_quarters_and_an_initial_sparsity_holds_from_the_start():
    model, (x, y) = network(), data()
    zeros = []
    run = gradual(
        model,
        x,
        y,
        sparsity=0.8,
        initial=0.5,
        epochs=4,
        batch_size=16,
        progress=False,
        scope="layer",
        on_step=lambda step, m: zeros.append(sum(int((w == 0).sum()) for w in prunable(m).values()) / 280),
    )
    assert run.steps == [0, 10, 20, 30] and run.sparsities[0] == 0.5
    assert zeros[0] == 0.5 and zeros[29] == zeros[-1] == pytest.approx(0.8)


def test_what_is_pruned_stays_pruned_and_the_run_is_deterministic():
    (x, y), models, seen = data(), [network(), network()], []
    for model in models:
        generator = torch.Generator().manual_seed(5)
        gradual(
            model,
            x,
            y,
            sparsity=0.9,
            epochs=3,
            batch_size=16,
            every=3,
            progress=False,
            importance=partial(random_scores, generator=generator),
            scope="layer",
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
            on_step=lambda step, m: seen.append({n: w.detach() == 0 for n, w in prunable(m).items()}),
        )
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    for before, after in zip(seen[:30], seen[1:30], strict=False):
        assert all((after[name] | ~before[name]).all() for name in before)


def test_bad_inputs_are_refused(tmp_path):
    model, (x, y) = network(), data()
    good = {"sparsity": 0.5, "epochs": 2, "batch_size": 16}
    for bad, says in [
        ({"sparsity": 1.0}, "sparsity"),
        ({"initial": 0.7}, "climbs"),
        ({"start": 30, "end": 10}, "start must come before"),
        ({"end": 21}, "<= 20"),
        ({"every": 0}, "every"),
        ({"start": -1}, "start"),
        ({"epochs": 0}, "epochs"),
        ({"checkpoint": tmp_path / "c"}, "checkpoint"),
    ]:
        with pytest.raises(ValueError, match=says):
            gradual(model, x, y, **{**good, **bad})
    with pytest.raises(ValueError, match="start must come before"):
        cubic_sparsity(1, start=3, end=3, final=0.5)
