"""Keras and torch, the same jobs side by side: weights, masks, schedules, grids, gradients, smaller networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras_digits import assert_close, digits, learnt

from dca_lab import pruning as torch_pruning
from dca_lab import quantization as torch_quantization
from dca_lab.keras import affine, filters, pruning, ste
from dca_lab.keras.litert import export_litert
from dca_lab.keras.masks import magnitude_masks
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.qat import prepare_qat
from dca_lab.keras.transfer import from_torch, state_arrays, to_torch
from dca_lab.models import DigitCNN

KERNELS = {"digit_cnn/conv/kernel": "conv.weight", "digit_cnn/fc/kernel": "fc.weight"}


def pixels(count=16, seed=0):
    """The same pictures for both: (B, 28, 28, 1) and (B, 1, 28, 28)."""
    x = np.random.default_rng(seed).random((count, 28, 28, 1), dtype=np.float32)
    return x, torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def torch_layout(kernel_values, model):
    """{path: array like the kernel} under torch's names, moved by the transfer that the logits have tested."""
    carrier = digit_cnn(model.get_layer("conv").filters)
    for layer in ("conv", "fc"):
        carrier.get_layer(layer).kernel.assign(kernel_values[f"digit_cnn/{layer}/kernel"].astype(np.float32))
    return state_arrays(carrier)


# weights


@settings(deadline=None, max_examples=6)
@given(width=st.integers(1, 33), classes=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_same_weights_give_the_same_logits(width, classes, seed):
    model, (x, x_torch) = digit_cnn(width, classes=classes, seed=seed), pixels(4, seed)
    model.get_layer("conv").bias.assign(np.linspace(-1, 1, width))
    model.get_layer("fc").bias.assign(np.linspace(-1, 1, classes))
    twin = to_torch(model)
    with torch.no_grad():
        y = twin(x_torch).numpy()
    assert_close(model(x), y)
    for one, two in zip(from_torch(twin).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_torch_network_goes_to_keras_and_comes_back_unchanged():
    torch.manual_seed(0)
    original, (x, x_torch) = DigitCNN(12), pixels()
    there = from_torch(original)
    assert_close(there(x), original(x_torch).detach())
    for name, value in to_torch(there).state_dict().items():
        assert torch.equal(value, original.state_dict()[name])


def test_the_transfer_copies_and_refuses_what_is_no_digit_cnn():
    model = digit_cnn(4)
    twin = to_torch(model)
    twin.fc.weight.data.zero_()
    assert np.abs(model.get_layer("fc").kernel.numpy()).max() > 0
    with pytest.raises(ValueError, match="digit_cnn"):
        to_torch(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")]))
    with pytest.raises(ValueError, match="DigitCNN"):
        from_torch(torch.nn.Linear(3, 2))


# masks and schedules


@pytest.mark.filterwarnings("ignore:nothing is kept")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_masks_are_torchs(scope, share):
    model = digit_cnn(7, seed=4)
    ours = torch_layout(magnitude_masks(model, share, scope=scope), model)
    scores = torch_pruning.magnitude(to_torch(model))
    make = torch_pruning.layerwise_masks if scope == "layer" else torch_pruning.global_masks
    for name, mask in make(scores, share).items():
        np.testing.assert_array_equal(ours[name].astype(bool), mask.numpy())


@pytest.mark.filterwarnings("ignore:nothing is kept")
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999), share=st.floats(0, 0.99), scope=st.sampled_from(["layer", "global"]))
def test_with_ties_the_same_number_and_the_same_magnitudes_stay(seed, share, scope):
    model, rng = digit_cnn(2), np.random.default_rng(seed)
    for layer in ("conv", "fc"):  # many weights equally large
        kernel = model.get_layer(layer).kernel
        kernel.assign(rng.integers(-3, 4, kernel.shape).astype(np.float32))
    scores = torch_pruning.magnitude(to_torch(model))
    make = torch_pruning.layerwise_masks if scope == "layer" else torch_pruning.global_masks
    theirs, ours = make(scores, share), magnitude_masks(model, share, scope=scope)
    kept_ours, kept_theirs = [], []
    for path, name in KERNELS.items():
        kernel = np.abs(model.get_layer(path.split("/")[1]).kernel.numpy())
        kept_ours.append(np.sort(kernel[ours[path]]))
        kept_theirs.append(np.sort(scores[name][theirs[name]].numpy()))
    if scope == "layer":
        for one, two in zip(kept_ours, kept_theirs, strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(np.sort(np.concatenate(kept_ours)), np.sort(np.concatenate(kept_theirs)))


@settings(deadline=None, max_examples=60)
@given(
    step=st.integers(-10, 700),
    start=st.integers(0, 100),
    length=st.integers(1, 500),
    shares=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
)
def test_the_cubic_is_torchs(step, start, length, shares):
    options = {"start": start, "end": start + length, "initial": min(shares), "final": max(shares)}
    assert pruning.cubic_sparsity(step, **options) == torch_pruning.cubic_sparsity(step, **options)


@pytest.mark.parametrize(("start", "end", "every"), [(0, 12, 4), (3, 10, 2), (1, 16, 100)])
def test_the_callback_prunes_at_torchs_steps_and_to_its_sparsities(start, end, every):
    model, (x, x_torch) = digit_cnn(2), pixels(64)
    callback = pruning.GradualPruning(0.8, start=start, end=end, every=every, initial=0.1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    y = np.arange(64) % 10
    twin = to_torch(model)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    run = torch_pruning.gradual(
        twin, x_torch, torch.from_numpy(y), sparsity=0.8, initial=0.1, epochs=2, start=start, end=end,
        every=every, batch_size=8, progress=False,
    )  # fmt: skip
    assert callback.steps == run.steps
    assert callback.sparsities == pytest.approx(run.sparsities, abs=1e-12)


# smaller networks


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_fewer_filters_are_torchs_fewer_channels(ratio):
    model, (x, x_torch) = learnt(), pixels()
    twin = to_torch(model)
    smaller = torch_pruning.prune_channels(twin, x_torch[:2], ratio=ratio)
    ours = filters.prune_filters(model, smaller.conv.out_channels)
    for name, array in state_arrays(ours).items():  # the same filters, by the same default importance
        np.testing.assert_array_equal(array, smaller.state_dict()[name].numpy())
    with torch.no_grad():
        assert_close(ours(x), smaller(x_torch))


def test_the_default_importance_is_the_norm_of_torchs_group():
    model = learnt()
    twin = to_torch(model)
    scores = {}

    def spy(group):
        from dca_lab.pruning.graph.importance import IMPORTANCE

        scores["group"] = IMPORTANCE["group"](group)
        return scores["group"]

    torch_pruning.prune_channels(twin, torch.zeros(2, 1, 28, 28), importance=spy)
    np.testing.assert_allclose(filters.group_norm(model, "conv"), scores["group"].numpy(), rtol=1e-12)


# grids


def boxes():
    values = st.floats(-1e6, 1e6, width=32, allow_subnormal=False) | st.floats(-3, 3, width=32)
    return arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=values)


@settings(deadline=None, max_examples=80)
@given(
    x=boxes(),
    bits=st.sampled_from([2, 3, 4, 8, 12, 16]),
    symmetric=st.booleans(),
    channel=st.booleans(),
    signed=st.sampled_from([None, True]),
)
def test_scale_zero_point_codes_and_values_are_torchs_to_the_last_bit(x, bits, symmetric, channel, signed):
    axis = {"axis": 1, "keepdims": True} if channel else {}
    low, high = x.min(**axis), x.max(**axis)
    scale, zero_point = affine.affine_params(low, high, bits, symmetric, signed=signed)
    scale_t, zero_t = torch_quantization.affine_params(
        torch.as_tensor(low), torch.as_tensor(high), bits, symmetric, signed=signed
    )
    np.testing.assert_array_equal(scale, scale_t.numpy())
    np.testing.assert_array_equal(zero_point, zero_t.numpy())
    assert scale.dtype == np.float32 and zero_point.dtype == np.int32
    grid = {"bits": bits, "symmetric": symmetric, "signed": signed}
    q, q_t = (
        affine.quantize(x, scale, zero_point, **grid),
        torch_quantization.quantize(torch.from_numpy(x), scale_t, zero_t, **grid),
    )
    np.testing.assert_array_equal(q, q_t.numpy())
    np.testing.assert_array_equal(
        affine.dequantize(q, scale, zero_point), torch_quantization.dequantize(q_t, scale_t, zero_t).numpy()
    )
    np.testing.assert_array_equal(
        affine.fake_quantize(x, scale, zero_point, **grid),
        torch_quantization.fake_quantize(torch.from_numpy(x), scale_t, zero_t, **grid).numpy(),
    )


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    "ends", [(-LARGEST, LARGEST), (0, LARGEST), (0, 1e-45), (-1e-40, 3e-44), (0, 0), (-7.5, -7.5)]
)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_at_the_ends_of_float32_too(ends, symmetric, bits):
    ours = affine.affine_params(*ends, bits, symmetric)
    theirs = torch_quantization.affine_params(*ends, bits, symmetric)
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, two.numpy())
    x, grid = np.array([*ends, 0], np.float32), {"bits": bits, "symmetric": symmetric}
    np.testing.assert_array_equal(
        affine.fake_quantize(x, *ours, **grid),
        torch_quantization.fake_quantize(torch.from_numpy(x), *theirs, **grid).numpy(),
    )


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_kernels_scales_in_the_graph_are_those_of_torchs_channels(bits):
    rng = np.random.default_rng(bits)
    for kernel in (rng.normal(size=(3, 3, 2, 50)), rng.normal(size=(40, 9)) * 1e-3, np.zeros((4, 2))):
        kernel = kernel.astype(np.float32)
        out_first = torch.from_numpy(np.moveaxis(kernel, -1, 0).copy())
        expected, _ = torch_quantization.weight_params(out_first, bits=bits)
        scale = tf.function(ste.symmetric_scale)(tf.constant(kernel), bits=bits)
        np.testing.assert_array_equal(scale.numpy().ravel(), expected.numpy().ravel())


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 9999), bits=st.sampled_from([2, 4, 8]), symmetric=st.booleans(), channel=st.booleans()
)
def test_the_straight_through_gradients_are_torchs(seed, bits, symmetric, channel):
    rng = np.random.default_rng(seed)
    x, upstream = (rng.normal(size=(6, 5)).astype(np.float32) for _ in range(2))
    scale = rng.uniform(0.01, 0.5, size=(6, 1) if channel else ()).astype(np.float32)
    zero_point = 0 if symmetric else int(rng.integers(0, 2**bits))
    grid = {"bits": bits, "symmetric": symmetric, "signed": symmetric}
    x_torch, scale_torch = (torch.tensor(a, requires_grad=True) for a in (x, scale))
    y_torch = torch_quantization.fake_quantize_ste(x_torch, scale_torch, zero_point, **grid)
    y_torch.backward(torch.from_numpy(upstream))
    x_tf, scale_tf = tf.constant(x), tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch((x_tf, scale_tf))
        y = ste.fake_quantize_ste(x_tf, scale_tf, zero_point, **grid)
    in_x, in_scale = tape.gradient(y, (x_tf, scale_tf), tf.constant(upstream))
    np.testing.assert_array_equal(y.numpy(), y_torch.detach().numpy())
    # torch multiplies the gradient by the scale and divides it again: two roundings of 2^-24 each
    np.testing.assert_allclose(in_x.numpy(), x_torch.grad.numpy(), rtol=2**-22)
    # a sum of up to 30 products, each no larger than the widest level: rounding errors of 30 * 2^-24 of that
    np.testing.assert_allclose(in_scale.numpy(), scale_torch.grad.numpy(), atol=30 * 2**-24 * 30 * 2**bits)
    assert in_scale.shape == scale.shape


# networks on grids


def test_the_layers_in_training_compute_what_torch_computes_on_the_same_grids():
    model, (x, x_torch) = learnt(), pixels(64)
    qat, twin = prepare_qat(model, bits=4, calibration=x), to_torch(model)

    def rounded(layer):
        scale, zero = torch_quantization.weight_params(layer.weight, bits=4)
        layer.weight.data = torch_quantization.fake_quantize(
            layer.weight, scale, zero, bits=4, symmetric=True
        )

    def grid_of(values):
        scale, zero = torch_quantization.affine_params(values.min(), values.max(), 4)
        return torch_quantization.fake_quantize(values, scale, zero, bits=4)

    with torch.no_grad():
        hidden = torch.flatten(twin.pool(torch.relu(twin.conv(x_torch))), 1)
        scale, zero = torch_quantization.affine_params(hidden.min(), hidden.max(), 4)  # calibrated in floats
        rounded(twin.conv), rounded(twin.fc)
        hidden = torch.flatten(twin.pool(torch.relu(twin.conv(grid_of(x_torch)))), 1)
        expected = twin.fc(torch_quantization.fake_quantize(hidden, scale, zero, bits=4))
    got = qat(x).numpy()
    # A hidden value beside a tie may fall to the other level, since sums differ in their order. One such step moves a
    # logit by scale * |w|: so few logits may differ by more than float32 sums do, and by no more than a few steps.
    step = scale.item() * twin.fc.weight.abs().max().item()
    difference = np.abs(got - expected.numpy())
    assert np.median(difference) < 2**-18 * np.abs(got).max() and difference.max() < 3 * step


def test_the_integers_that_litert_writes_are_our_symmetric_channel_grid(tmp_path):
    x, _, _, _ = digits()
    model = learnt()
    lite = export_litert(model, tmp_path / "digits.tflite", calibration=x[:100])
    weights = dict(zip(("conv", "fc"), lite.weights(), strict=True))
    state = to_torch(model).state_dict()
    for name, (operator, codes, scales) in weights.items():
        kernel = model.get_layer(name).kernel.numpy()
        out_first = np.moveaxis(kernel, -1, 0)  # (O, kh, kw, I) and (O, I), in Keras's order within a row
        assert operator == {"conv": "CONV_2D", "fc": "FULLY_CONNECTED"}[name]
        assert codes.dtype == np.int8 and scales.shape == (len(codes),)
        largest = np.abs(out_first).reshape(len(out_first), -1).max(1)
        ours, zero_point = affine.affine_params(-largest, largest, 8, True)
        # ours is rounded up to 16 bits: by less than 2^-15 of itself
        np.testing.assert_allclose(ours, scales, rtol=2**-15)
        shape = (-1,) + (1,) * (out_first.ndim - 1)
        expected = affine.quantize(out_first, ours.reshape(shape), zero_point.reshape(shape), symmetric=True)
        # A code is at most 127, so x / s moves by at most 127 * 2^-15 = 0.004: only so close to a tie may a code differ
        quotient = out_first / ours.reshape(shape)
        near = np.abs(np.abs(quotient - np.floor(quotient)) - 0.5) < 0.004
        np.testing.assert_array_equal(codes[~near], expected[~near])
        assert np.abs(codes.astype(int) - expected).max() <= 1
        assert (codes == expected).mean() > 0.99
        torch_scale, _ = torch_quantization.weight_params(state[f"{name}.weight"], bits=8)
        np.testing.assert_array_equal(torch_scale.numpy().ravel(), ours)
