"""Mixed precision training: close to float32, float32 weights, gradients that vanish without scaling, memory."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.models import build
from dca_lab.precision import (
    FLOAT16,
    LossScaler,
    MixedPrecision,
    SavedBytes,
    fit_mixed,
    saved_bytes,
    vanishing,
)
from dca_lab.training import fit

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])


def examples(count=48):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 28, 28, generator=generator), torch.randint(10, (count,), generator=generator)


def flat(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@HALVES
def test_training_follows_float32_within_the_unit_roundoff_and_its_weights_are_float32(dtype):
    settings = dict(epochs=2, batch_size=16, optimizer=lambda w: torch.optim.SGD(w, lr=0.1), progress=False)
    full, half = (build("digit-cnn", seed=0, filters=4) for _ in range(2))
    start = flat(full)
    wanted = fit(full, *examples(), **settings)
    scaler = LossScaler(1024.0) if dtype == torch.float16 else None
    history = fit_mixed(half, *examples(), dtype=dtype, scaler=scaler, **settings)
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    assert history.losses == pytest.approx(wanted.losses, rel=4 * torch.finfo(dtype).eps)
    moved, apart = (flat(full) - start).norm(), (flat(full) - flat(half)).norm()
    assert (
        0 < apart < 8 * torch.finfo(dtype).eps * moved
    )  # a few roundings, relative to the way that was gone
    assert all(weight.isfinite().all() for weight in half.parameters())


def test_one_scaled_step_is_that_of_autocast_and_gradscaler():
    """torch's own recipe, spelled out: scaling at the output is scaling the loss."""
    x, y = examples(16)
    ours, theirs = (build("digit-cnn", seed=0, filters=4) for _ in range(2))
    settings = dict(epochs=1, batch_size=16, progress=False)
    scaler, oracle = LossScaler(512.0), torch.amp.GradScaler("cpu", init_scale=512.0)
    optimizer = lambda w: torch.optim.SGD(w, lr=0.1)  # noqa: E731
    fit_mixed(ours, x, y, dtype=torch.float16, scaler=scaler, optimizer=optimizer, **settings)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    update = optimizer(theirs.parameters())
    with torch.autocast("cpu", dtype=torch.float16):
        loss = F.cross_entropy(theirs(x[order]).float(), y[order])
    oracle.scale(loss).backward()
    oracle.step(update)
    assert torch.equal(flat(ours), flat(theirs))


def test_small_gradients_vanish_in_float16_and_scaling_brings_them_back():
    x, y = examples(16)
    tiny = 2.0**-24  # of the loss: about the size of what reaches the lower layers of a deep network
    # The learning rate makes up for it: in exact arithmetic this is SGD with lr=0.1.
    settings = dict(epochs=2, batch_size=16, progress=False, loss=lambda z, t: tiny * F.cross_entropy(z, t))
    settings["optimizer"] = lambda w: torch.optim.SGD(w, lr=0.1 / tiny)
    models = [build("digit-cnn", seed=0, filters=4) for _ in range(3)]
    full, plain, scaled = models
    start = flat(full)
    fit(full, x, y, **settings)
    fit_mixed(plain, x, y, dtype=torch.float16, **settings)
    fit_mixed(scaled, x, y, dtype=torch.float16, scaler=LossScaler(2.0**24), **settings)
    moved = (flat(full) - start).norm()
    assert moved > 0.01
    assert (flat(plain) - start).norm() < 0.01 * moved  # nothing, or nearly, was learnt
    assert (flat(scaled) - flat(full)).norm() < 0.01 * moved

    logits = full(x).detach().requires_grad_()
    (tiny * F.cross_entropy(logits, y)).backward()
    assert vanishing(logits.grad, FLOAT16) > 0.9
    assert vanishing(logits.grad, FLOAT16, scale=2.0**24) == 0


def test_a_step_with_infinite_gradients_changes_neither_weights_nor_moments():
    x, y = examples(16)
    model, scaler = build("digit-cnn", seed=0, filters=4), LossScaler(2.0**40, growth_interval=3)
    updates, seen = [], [(flat(model), 0, 0)]

    def optimizer(parameters):
        updates.append(torch.optim.Adam(parameters, lr=1e-3, fused=True))
        return updates[0]

    def on_step(step, same_model):
        assert same_model is model
        moments = updates[0].state.get(model.fc.bias)
        seen.append((flat(model), scaler.skipped, int(moments["step"]) if moments else 0))

    settings = dict(epochs=60, batch_size=16, progress=False, dtype=torch.float16)
    history = fit_mixed(model, x, y, scaler=scaler, optimizer=optimizer, on_step=on_step, **settings)
    skips = 0
    for (before, skipped, steps), (after, skipped_then, steps_then) in zip(seen, seen[1:], strict=False):
        skip = skipped_then > skipped
        skips += skip
        assert torch.equal(before, after) == skip
        assert steps_then - steps == (0 if skip else 1)
    first = next(number for number, (*_, steps) in enumerate(seen) if steps)
    assert first > 10  # from 2^40 down to where float16 does not overflow
    assert skips == scaler.skipped > first - 1  # and again after each growth too many
    assert history.losses[-1] < history.losses[0]


def test_a_run_that_was_interrupted_goes_on_with_the_scale_that_it_had(tmp_path):
    settings = dict(batch_size=16, dtype=torch.float16, progress=False, epochs=4)

    def run(checkpoint, stop):
        model, scaler = build("digit-cnn", seed=0, filters=4), LossScaler(2.0**30, growth_interval=5)

        def on_epoch(epoch, _):
            if epoch == stop:
                raise KeyboardInterrupt

        fit_mixed(model, *examples(), scaler=scaler, checkpoint=checkpoint, on_epoch=on_epoch, **settings)
        return flat(model), scaler.state_dict()

    weights, state = run(tmp_path / "whole", stop=None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop=3)
    again, state_again = run(tmp_path / "parts", stop=None)
    assert torch.equal(weights, again)
    assert state == state_again


@HALVES
def test_autocast_keeps_half_the_bytes_of_a_plain_network(dtype):
    model = nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.Linear(300, 10))
    x = torch.randn(1000, 100)[:7]  # a slice
    full, half = saved_bytes(model, x), saved_bytes(model, x, dtype=dtype)
    assert full == SavedBytes(activations=7 * (100 + 300) * 4, weight_copies=0)
    # the input's gradient is not asked for: only the second layer's weights are kept
    assert half == SavedBytes(activations=7 * (100 + 300) * 2, weight_copies=300 * 10 * 2)
    assert half.total == half.activations + half.weight_copies


@HALVES
def test_indices_of_the_pool_are_not_halved(dtype):
    model, (x, _) = build("digit-cnn", seed=0, filters=4), examples(5)
    convolved, pooled = 4 * 26 * 26, 4 * 13 * 13
    for kind, itemsize in ((torch.float32, 4), (dtype, 2)):
        wanted = 5 * (784 * itemsize + convolved * itemsize + pooled * 8 + pooled * itemsize)
        assert saved_bytes(model, x, dtype=kind).activations == wanted


def test_counting_leaves_the_network_and_the_generator_as_they_were():
    model, (x, _) = build("resnet-18", seed=0, width=2, stem_stride=2).eval(), examples(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    full, half = (saved_bytes(model, x, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    saved_bytes(nn.Dropout(), x)  # draws which values to drop
    assert half.activations < full.activations
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_the_wrapper_gives_float32_and_only_scales_gradients():
    inner = nn.Linear(4, 3)
    x = torch.randn(2, 4)
    plain, scaled = MixedPrecision(inner), MixedPrecision(inner, scaler=LossScaler(8.0))
    assert torch.equal(plain(x), scaled(x))
    assert plain(x).dtype == torch.float32
    gradients = [torch.autograd.grad(each(x).sum(), inner.weight)[0] for each in (plain, scaled)]
    assert gradients[0].dtype == torch.float32
    torch.testing.assert_close(gradients[1], gradients[0] * 8)
    with torch.no_grad():
        assert torch.equal(plain(x), scaled(x))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="choose torch.float16 or torch.bfloat16"):
        MixedPrecision(nn.Linear(2, 2), torch.float32)
    with pytest.raises(ValueError, match="'weight' is not: give model.float"):
        MixedPrecision(nn.Linear(2, 2).half())
    with pytest.raises(ValueError, match="dtype=torch.float64"):
        saved_bytes(nn.Linear(2, 2), torch.zeros(1, 2), dtype=torch.float64)
