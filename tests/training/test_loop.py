"""`fit` against a loop written out in plain torch, and its promises about seeds, modes and bad input."""

import io
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from training_toy import Toy, data, same

from dca_lab.models import TransformerLM
from dca_lab.training import History, cross_entropy, evaluate, fit


def plain_loop(model, x, y, *, epochs, batch_size, seed, make_optimizer, make_schedule=None):
    """The oracle: what a textbook writes."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator()
        generator.manual_seed(seed)
        optimizer = make_optimizer(model.parameters())
        schedule = make_schedule(optimizer) if make_schedule else None
        model.train()
        for _ in range(epochs):
            order = torch.randperm(len(x), generator=generator)
            for start in range(0, len(x), batch_size):
                rows = order[start : start + batch_size]
                loss = F.cross_entropy(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if schedule:
                    schedule.step()
                losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("epochs", "batch_size", "seed"), [(1, 16, 0), (3, 8, 5), (2, 50, 1), (1, 500, 2)])
def test_default_run_equals_the_plain_loop_bit_for_bit(epochs, batch_size, seed):
    x, y = data()
    ours, theirs = Toy(), Toy()
    history = fit(ours, x, y, epochs=epochs, batch_size=batch_size, lr=0.01, seed=seed, progress=False)
    losses = plain_loop(
        theirs, x, y, epochs=epochs, batch_size=batch_size, seed=seed,
        make_optimizer=lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    )  # fmt: skip
    assert same(ours, theirs)
    assert history.losses == losses and history.steps == epochs * math.ceil(50 / batch_size)


def test_optimizer_and_schedule_equal_the_plain_loop_bit_for_bit():
    x, y = data()
    ours, theirs = Toy(), Toy()

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)

    totals = []

    def one_cycle(optimizer, total_steps):
        totals.append(total_steps)
        return OneCycleLR(optimizer, 0.5, total_steps=total_steps)

    fit(ours, x, y, epochs=2, batch_size=20, optimizer=sgd, schedule=one_cycle, progress=False)
    plain_loop(
        theirs, x, y, epochs=2, batch_size=20, seed=0, make_optimizer=sgd,
        make_schedule=lambda optimizer: OneCycleLR(optimizer, 0.5, total_steps=6),
    )  # fmt: skip
    assert totals == [6] and same(ours, theirs)


def test_the_seed_decides_and_the_callers_generator_is_left_alone():
    x, y = data()
    models = [Toy() for _ in range(3)]
    for model, seed, noise in zip(models, (1, 1, 2), (0, 5, 0), strict=True):
        torch.rand(noise)  # whatever was drawn before must not matter
        before = torch.get_rng_state()
        fit(model, x, y, epochs=1, seed=seed, batch_size=8, progress=False)
        assert torch.equal(torch.get_rng_state(), before)
    assert same(models[0], models[1]) and not same(models[0], models[2])


def test_it_learns():
    x, y = data(200)
    model = nn.Linear(6, 3)
    history = fit(model, x, y, epochs=30, lr=0.05, validation=(x, y), progress=False)
    assert history.accuracies[-1] > 0.9 and len(history.accuracies) == 30
    assert history.accuracies[-1] == evaluate(model, x, y)
    assert sum(history.losses[-4:]) < sum(history.losses[:4]) and history.seconds > 0


def test_callbacks_come_after_the_step_and_after_the_epoch():
    x, y = data()
    model, calls = Toy(), []

    def mask(step, model):
        calls.append(step)
        with torch.no_grad():
            moved = model[0].weight[0].abs().max() > 0  # by this step, after the last call zeroed it
            assert moved
            model[0].weight[0] = 0

    fit(
        model, x, y, epochs=2, batch_size=20, on_step=mask, progress=False,
        on_epoch=lambda epoch, m: calls.append((epoch, m is model)),
    )  # fmt: skip
    assert calls == [1, 2, 3, (1, True), 4, 5, 6, (2, True)]
    assert model[0].weight[0].abs().max() == 0 and model[0].weight[1].abs().max() > 0


def test_modes_are_set_for_training_and_put_back():
    x, y = data()
    model, seen = Toy(), []
    model[1].eval()
    fit(
        model, x, y, epochs=2, batch_size=50, progress=False,
        on_step=lambda step, m: seen.append(m[3].training), on_epoch=lambda epoch, m: m.eval(),
    )  # fmt: skip
    assert seen == [True, True]
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]


def test_frozen_parameters_stay_and_a_frozen_model_is_refused():
    x, y = data()
    model = Toy()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    fit(model, x, y, epochs=1, progress=False)
    assert torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match="no parameter"):
        fit(Toy().requires_grad_(False), x, y, epochs=1)


def test_no_epoch_trains_nothing():
    x, y = data()
    model = Toy()
    plan = {"schedule": lambda o, n: OneCycleLR(o, 0.1, total_steps=n)}
    history = fit(model, x, y, epochs=0, **plan, progress=False)
    assert same(model, Toy()) and history == History()


def test_a_language_model_trains_on_one_label_a_position():
    tokens = torch.arange(8).repeat(12, 4)[:, :17]
    model = TransformerLM(vocabulary=8, width=16, heads=2, layers=1, context=16)
    fit(model, tokens[:, :-1], tokens[:, 1:], epochs=15, batch_size=4, lr=0.01, progress=False)
    assert evaluate(model, tokens[:, :-1], tokens[:, 1:]) > 0.9


@given(b=st.integers(1, 5), t=st.integers(1, 5), v=st.integers(2, 6), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_cross_entropy_equals_torch_with_classes_in_its_place(b, t, v, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, y = torch.randn(b, t, v, generator=generator), torch.randint(v, (b, t), generator=generator)
    torch.testing.assert_close(cross_entropy(logits, y), F.cross_entropy(logits.transpose(1, 2), y))
    assert torch.equal(cross_entropy(logits[:, 0], y[:, 0]), F.cross_entropy(logits[:, 0], y[:, 0]))


def test_another_loss_is_used_as_it_is():
    x, _ = data()
    model = nn.Linear(6, 2)
    target = x @ torch.ones(6, 2)
    history = fit(model, x, target, epochs=60, lr=0.05, loss=F.mse_loss, progress=False)
    assert history.losses[-1] < 0.1 * history.losses[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(49, dtype=torch.int64)}, "50 examples and y has 49"),
        ({"x": torch.zeros(0, 6), "y": torch.zeros(0, dtype=torch.int64)}, "no example"),
        ({"x": torch.zeros(50, 6).numpy()}, "must be tensors, not ndarray and Tensor"),
        ({"epochs": -1}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"y": torch.zeros(50, 3)}, r"need labels \(50,\), not \(50, 3\)"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(change, message):
    x, y = data()
    model = nn.Linear(6, 3)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=message):
        fit(model, **{"x": x, "y": y, "epochs": 1, "progress": False, **change})
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_its_step(bad):
    x, y = data()
    x[:] = bad
    model = nn.Linear(6, 3)
    before = model.weight.clone()
    with pytest.raises(FloatingPointError, match="at step 1: lower the learning rate"):
        fit(model, x, y, epochs=1, progress=False)
    assert torch.equal(model.weight, before) and model.training


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("quiet", "progress", "shown"),
    [(None, True, True), (None, False, False), ("1", True, False)],
)
def test_progress_bar_goes_to_stderr_unless_told_otherwise(monkeypatch, quiet, progress, shown):
    monkeypatch.delenv("DCA_QUIET", raising=False)
    if quiet:
        monkeypatch.setenv("DCA_QUIET", quiet)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    x, y = data()
    fit(Toy(), x, y, epochs=1, batch_size=5, progress=progress)
    assert ("step" in terminal.getvalue()) == shown
