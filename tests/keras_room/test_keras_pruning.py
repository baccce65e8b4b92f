"""Masks and the callback: exact counts by sorting, zeros that stay zero under every optimizer, and a clear door."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_digits import accuracy, compiled, digits, learnt

from dca_lab.keras.masks import apply_masks, magnitude_masks, prunable, sparsity
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.precision import use_policy
from dca_lab.keras.pruning import GradualPruning, cubic_sparsity


def pictures(count=64):
    rng = np.random.default_rng(0)
    return rng.random((count, 28, 28, 1), dtype=np.float32), np.arange(count) % 10


def kernels(model):
    return {path: kernel.numpy() for path, kernel in prunable(model).items()}


@pytest.mark.filterwarnings("ignore:nothing is kept")
@settings(deadline=None, max_examples=15)
@given(share=st.floats(0, 0.999), seed=st.integers(0, 99))
def test_what_is_kept_is_the_top_of_a_sorted_list(share, seed):
    model = digit_cnn(3, seed=seed)
    magnitudes = {path: np.abs(kernel) for path, kernel in kernels(model).items()}
    together = np.sort(np.concatenate([m.ravel() for m in magnitudes.values()]))[::-1]
    masks = magnitude_masks(model, share)
    kept = np.sort(np.concatenate([magnitudes[p][mask] for p, mask in masks.items()]))[::-1]
    np.testing.assert_array_equal(kept, together[: round((1 - share) * together.size)])
    for path, mask in magnitude_masks(model, share, scope="layer").items():
        alone = np.sort(magnitudes[path].ravel())[::-1]
        np.testing.assert_array_equal(
            np.sort(magnitudes[path][mask])[::-1], alone[: round((1 - share) * alone.size)]
        )


def test_masks_zero_the_kernels_and_nothing_else():
    model = learnt()
    before = model.get_weights()
    masks = magnitude_masks(model, 0.7)
    apply_masks(model, masks)
    assert sparsity(model) == pytest.approx(0.7, abs=1e-4)
    for variable, old in zip(model.weights, before, strict=True):
        mask = masks.get(variable.path, np.ones(old.shape, bool))
        np.testing.assert_array_equal(variable.numpy(), np.where(mask, old, 0))


def test_what_was_pruned_stays_pruned_within_earlier_masks():
    model = digit_cnn(3)
    first = {path: np.random.default_rng(0).random(k.shape) < 0.6 for path, k in kernels(model).items()}
    second = magnitude_masks(model, 0.8, within=first)
    total = sum(mask.size for mask in first.values())
    assert all(not (second[path] & ~first[path]).any() for path in first)
    assert sum(int(mask.sum()) for mask in second.values()) == round(0.2 * total)


def test_layers_inside_a_nested_model_are_found_and_depthwise_ones_left():
    inner = keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1), keras.layers.DepthwiseConv2D(2)]
    )
    model = keras.Sequential([keras.Input((4, 4, 2)), inner, keras.layers.Flatten(), keras.layers.Dense(2)])
    assert [tuple(kernel.shape) for kernel in prunable(model).values()] == [(1, 1, 2, 3), (27, 2)]


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "averaged"])
def test_pruned_weights_stay_exactly_zero_whatever_the_optimizer_remembers(optimizer):
    """After every batch, not only at the end; and Adam alone would move them, or this test would prove nothing."""
    options = {
        "adam": keras.optimizers.Adam(0.01),
        "momentum": keras.optimizers.SGD(0.1, momentum=0.9),
        "averaged": keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
    }
    x, y = pictures()
    model = compiled(digit_cnn(3), options[optimizer])
    pruning = GradualPruning(0.9, start=4, end=12, every=4)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for path, mask in pruning.masks.items():
                assert (prunable(self.model)[path].numpy()[~mask] == 0).all()
            seen.append(sparsity(self.model))

    model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[pruning, Watch()])
    assert pruning.steps == [4, 8, 12]
    expected = [cubic_sparsity(step, start=4, end=12, final=0.9) for step in range(4, 21, 4)]
    assert seen[3::4] == pytest.approx(expected, abs=1e-3)
    assert sparsity(model) == pytest.approx(0.9, abs=1e-3)
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)  # without the callback they move at once
    assert sparsity(model) < 0.5


def test_history_and_the_callbacks_behind_tell_the_sparsity():
    x, y = pictures()
    model, logged = compiled(digit_cnn(2)), []
    pruning = GradualPruning(0.5, start=0, end=4, every=2, scope="layer")
    behind = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logged.append(logs["sparsity"]))
    history = model.fit(x, y, batch_size=32, epochs=3, verbose=0, callbacks=[pruning, behind])
    assert history.history["sparsity"] == logged
    # 2 steps an epoch: at step 2 half of the climb, 1 - 0.5^3 of it
    assert logged == pytest.approx([0.5 * 7 / 8, 0.5, 0.5], abs=1e-3)
    assert pruning.sparsities[0] == 0 and set(history.history) >= {"loss", "accuracy", "sparsity"}


def test_a_second_fit_trains_on_with_the_masks_and_another_model_starts_anew():
    x, y = pictures()
    model, pruning = compiled(digit_cnn(2)), GradualPruning(0.8, start=0, end=2, every=1)
    model.fit(x, y, batch_size=32, verbose=0, callbacks=[pruning])
    masks, before = dict(pruning.masks), model.get_weights()
    model.fit(x, y, batch_size=32, verbose=0, callbacks=[pruning])
    assert pruning.steps == [0, 1, 2] and pruning.step == 4
    assert all((pruning.masks[path] == mask).all() for path, mask in masks.items())
    assert sparsity(model) == pytest.approx(0.8, abs=1e-3)
    assert not np.array_equal(before[2], model.get_weights()[2])  # the others learn
    other = compiled(digit_cnn(4))
    other.fit(x, y, batch_size=32, verbose=0, callbacks=[pruning])
    assert pruning.step == 2 and sparsity(other) == pytest.approx(0.8, abs=1e-3)


def test_on_real_digits_four_fifths_go_and_the_accuracy_stays():
    x, y, x_test, y_test = digits()
    model = compiled(learnt(), keras.optimizers.Adam(2e-3))
    dense = accuracy(model, x_test, y_test)
    control = learnt()
    rng = np.random.default_rng(0)
    apply_masks(control, {path: rng.random(k.shape) < 0.2 for path, k in kernels(control).items()})
    pruning = GradualPruning(0.8, start=0, end=64, every=8)
    model.fit(x, y, batch_size=64, epochs=4, verbose=0, callbacks=[pruning])
    assert sparsity(model) == pytest.approx(0.8, abs=1e-3)
    assert accuracy(model, x_test, y_test) > dense - 0.02
    assert accuracy(control, x_test, y_test) < dense - 0.1


def test_it_works_in_mixed_precision_with_a_scaled_loss():
    x, y = pictures()
    with use_policy("mixed_float16"):
        model = digit_cnn(2)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), initial_scale=2.0**8)
    pruning = GradualPruning(0.75, start=1, end=3, every=1)
    compiled(model, optimizer).fit(x, y, batch_size=16, verbose=0, callbacks=[pruning])
    assert sparsity(model) == pytest.approx(0.75, abs=1e-3) and pruning.steps == [1, 2, 3]


def test_an_emptied_layer_is_named():
    model = digit_cnn(2)
    model.get_layer("conv").kernel.assign(np.full((3, 3, 1, 2), 1e-6, np.float32))
    with pytest.warns(UserWarning, match="conv/kernel"):
        magnitude_masks(model, 0.9)


@pytest.mark.parametrize("wrong", [1.0, -0.1, True, "half", float("nan")])
def test_an_impossible_sparsity_is_refused(wrong):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        magnitude_masks(digit_cnn(1), wrong)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        GradualPruning(wrong, start=0, end=1)


def test_the_door():
    model = digit_cnn(1)
    with pytest.raises(ValueError, match="scope"):
        magnitude_masks(model, 0.5, scope="row")
    with pytest.raises(ValueError, match="names no kernel"):
        apply_masks(model, {"conv": np.ones(3, bool)})
    with pytest.raises(ValueError, match="must be bool"):
        apply_masks(model, {"digit_cnn/conv/kernel": np.ones((3, 3, 1, 1))})
    with pytest.raises(ValueError, match="no mask for"):
        magnitude_masks(model, 0.5, within={"digit_cnn/conv/kernel": np.ones((3, 3, 1, 1), bool)})
    with pytest.raises(ValueError, match="no convolution or dense"):
        sparsity(keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]))
    with pytest.raises(ValueError, match="start must come before end"):
        GradualPruning(0.5, start=3, end=3)
    with pytest.raises(ValueError, match="only climbs"):
        GradualPruning(0.5, start=0, end=3, initial=0.6)
    with pytest.raises(ValueError, match="every"):
        GradualPruning(0.5, start=0, end=3, every=0)
    model.get_layer("fc").kernel.assign(np.full((169, 10), np.nan, np.float32))
    with pytest.raises(ValueError, match="NaN"):
        magnitude_masks(model, 0.5)


def test_a_schedule_that_training_does_not_finish_is_refused():
    x, y = pictures()
    with pytest.raises(ValueError, match="ends at step 4"):
        compiled(digit_cnn(1)).fit(
            x, y, batch_size=16, verbose=0, callbacks=[GradualPruning(0.5, start=0, end=5)]
        )
    model = digit_cnn(1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), steps_per_execution=2)
    with pytest.raises(ValueError, match="steps_per_execution=1"):
        model.fit(x, y, batch_size=16, verbose=0, callbacks=[GradualPruning(0.5, start=0, end=2)])
