"""The loss scaler beside torch.amp.GradScaler, on the same gradients: same scales, same weights, same skips."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.precision import LossScaler


def run_both(events, **rule):
    """Steps with a finite, an infinite or a NaN gradient, under our rule and under torch's."""
    ours, theirs = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    scaler = LossScaler(rule["init_scale"], **{name: rule[name] for name in rule if name != "init_scale"})
    oracle = torch.amp.GradScaler("cpu", **rule)
    updates = [torch.optim.SGD([weight], lr=0.25, momentum=0.5) for weight in (ours, theirs)]
    for event in events:
        for weight, update, scale in zip((ours, theirs), updates, (scaler.scaled, oracle.scale), strict=True):
            update.zero_grad()
            scale((weight * torch.tensor([event, 0.5])).sum()).backward()
        before = ours.detach().clone()
        taken = scaler.step(updates[0])
        oracle.step(updates[1])
        oracle.update()
        assert taken == math.isfinite(event)
        assert torch.equal(before, ours.detach()) != taken
        yield scaler, oracle, ours.detach(), theirs.detach()


@settings(deadline=None, max_examples=30)
@given(
    events=st.lists(st.sampled_from([1.0, -0.75, 0.5, math.inf, -math.inf, math.nan]), max_size=20),
    growth_interval=st.integers(1, 4),
    init_scale=st.sampled_from([1.0, 3.0, 1024.0, 65536.0]),
    growth_factor=st.sampled_from([2.0, 4.0]),
    backoff_factor=st.sampled_from([0.5, 0.25]),
)
def test_every_step_has_the_scale_and_the_weights_of_torchs_scaler(events, **rule):
    rule["init_scale"] *= 2.0**20  # 20 times a quarter stays above the smallest scale that we accept
    for scaler, oracle, ours, theirs in run_both(events, **rule):
        assert scaler.scale == oracle.get_scale()
        assert torch.equal(ours, theirs)
        assert scaler.state_dict()["good_steps"] == oracle.state_dict()["_growth_tracker"]


def test_the_rule_in_words():
    seen = []
    rule = dict(init_scale=8.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2)
    for scaler, *_ in run_both([1.0, 1.0, math.inf, 1.0, math.nan, 1.0, 1.0], **rule):
        seen.append(scaler.scale)
    assert seen == [8.0, 16.0, 8.0, 8.0, 4.0, 4.0, 8.0]  # the good step between the bad ones counts no longer
    assert scaler.skipped == 2


def test_the_scale_never_grows_to_infinity():
    largest = 2.0**127
    rule = dict(init_scale=largest, growth_factor=2.0, backoff_factor=0.5, growth_interval=1)
    weight = torch.nn.Parameter(torch.zeros(1))
    scaler, oracle = LossScaler(largest, growth_interval=1), torch.amp.GradScaler("cpu", **rule)
    update = torch.optim.SGD([weight], lr=1.0)
    for _ in range(2):
        oracle.scale(weight.sum() * 2**-20).backward()
        oracle.step(update)
        oracle.update()
        scaler.update(True)
    assert scaler.scale == oracle.get_scale() == largest


def test_a_loss_that_is_nan_by_itself_is_an_error_and_not_an_endless_row_of_skipped_steps():
    scaler = LossScaler()
    with pytest.raises(FloatingPointError, match="not finite even at a loss scale"):
        for _ in range(100):
            scaler.update(False)
    assert scaler.skipped == 16 + 24 + 1


def test_weights_without_a_gradient_are_left_alone():
    used, unused = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    scaler = LossScaler(4.0)
    scaler.scaled(used.sum()).backward()
    assert scaler.unscale([used, unused])
    assert used.grad.item() == 1.0
    assert unused.grad is None


def test_a_copy_made_from_the_state_goes_on_alike():
    scaler, copy = LossScaler(growth_interval=3), LossScaler(growth_interval=3)
    for finite in (True, False, True, True):
        scaler.update(finite)
    copy.load_state_dict(scaler.state_dict())
    for each in (scaler, copy):
        each.update(True)
    assert copy.state_dict() == scaler.state_dict() == {"scale": 2.0**16, "good_steps": 0, "skipped": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0.0},
        {"scale": math.inf},
        {"scale": math.nan},
        {"growth_factor": 1.0},
        {"backoff_factor": 1.0},
        {"backoff_factor": 0.0},
        {"growth_interval": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        LossScaler(**wrong)
