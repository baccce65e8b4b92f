"""Networks on disk: read back they answer the same; nothing is left half-written; bytes are those of the file."""

import gzip
import os
import random

import keras
import numpy as np
import pytest

from dca_lab.keras import (
    digit_cnn,
    export_litert,
    load,
    prepare_qat,
    prune_filters,
    quantize_builtin,
    save,
    sizes,
    use_policy,
)

X = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)


def trained(filters=8):
    model = digit_cnn(filters, seed=1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(X, np.arange(5))
    return model


def answers(model):
    return model(X).numpy()


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_read_back_gives_the_same_logits(ending, policy, tmp_path):
    with use_policy(policy):
        model = trained()
        other = digit_cnn(8, seed=2)
    path = save(model, tmp_path / f"digits{ending}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing beside it
    assert not np.array_equal(answers(other), answers(model))
    again = load(path) if ending == ".keras" else load(path, into=other)
    np.testing.assert_array_equal(answers(again), answers(model))
    assert again.layers[0].compute_dtype == model.layers[0].compute_dtype


@pytest.mark.parametrize("change", ["prepare_qat", "quantize_builtin", "prune_filters"])
def test_changed_networks_come_back_too(change, tmp_path):
    model = digit_cnn(8)
    if change == "prepare_qat":
        model = prepare_qat(model, bits=4, calibration=X)  # has layers of its own
    elif change == "quantize_builtin":
        model = quantize_builtin(model)
    else:
        model = prune_filters(model, 3)
    again = load(save(model, tmp_path / "changed.keras"))
    np.testing.assert_array_equal(answers(again), answers(model))
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_the_optimizer_stays_out_of_the_file_and_in_the_model(ending, tmp_path):
    model, state = trained(), random.getstate()
    kept, steps = model.optimizer, int(model.optimizer.iterations)
    save(model, tmp_path / f"ours{ending}")
    assert model.optimizer is kept and int(kept.iterations) == steps and random.getstate() == state
    if ending == ".keras":
        model.save(tmp_path / f"theirs{ending}")
        assert getattr(load(tmp_path / f"ours{ending}"), "optimizer", None) is None
    else:
        model.save_weights(tmp_path / f"theirs{ending}")
    numbers = model.count_params()
    ours, theirs = (sizes(tmp_path / f"{name}{ending}").plain for name in ("ours", "theirs"))
    assert 4 * numbers < ours < 4 * numbers + 25_000
    assert theirs - ours >= 2 * 4 * numbers  # Adam: two numbers a weight
    model.train_on_batch(X, np.arange(5))  # goes on
    assert int(kept.iterations) == steps + 1


def test_an_error_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    model = trained()
    path = save(model, tmp_path / "digits.keras")
    old = path.read_bytes()

    def fail(self, name, *_, **__):
        with open(name, "wb") as stream:
            stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Sequential, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save(model, path)
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1
    assert model.optimizer is not None


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".tflite"])
def test_sizes_are_those_of_the_file(ending, tmp_path):
    model, path = digit_cnn(8), tmp_path / f"digits{ending}"
    if ending == ".tflite":
        export_litert(model, path)
    else:
        save(model, path)
    found = sizes(path)
    assert found.plain == path.stat().st_size
    assert abs(found.compressed - len(gzip.compress(path.read_bytes(), 9))) <= 20  # gzip's header
    again = sizes(model, ending=ending)
    assert abs(again.plain - found.plain) <= 100  # a date stands in the file


def test_zeros_vanish_when_compressed():
    model = digit_cnn(8)
    plain, compressed = sizes(model)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    assert sizes(model).plain == pytest.approx(plain, abs=100)
    assert sizes(model).compressed < compressed / 5


def test_litert_in_integers_is_a_quarter(tmp_path):
    model = digit_cnn(32)
    export_litert(
        model,
        tmp_path / "int8.tflite",
        calibration=np.random.default_rng(1).random((100, 28, 28, 1), np.float32),
    )
    assert 3 < sizes(model, ending=".tflite").plain / sizes(tmp_path / "int8.tflite").plain < 4


def test_what_cannot_be_written(tmp_path):
    model = digit_cnn(2)
    with pytest.raises(ValueError, match="must end in"):
        save(model, tmp_path / "digits.h5")
    with pytest.raises(ValueError, match="litert"):
        save(model, tmp_path / "digits.tflite")
    with pytest.raises(FileNotFoundError, match="folder"):
        save(model, tmp_path / "nowhere" / "digits.keras")
    with pytest.raises(ValueError, match="give a keras.Model"):
        save("model", tmp_path / "digits.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_what_cannot_be_read(ending, tmp_path):
    model, path = digit_cnn(2), tmp_path / f"digits{ending}"
    into = {} if ending == ".keras" else {"into": digit_cnn(2)}
    with pytest.raises(FileNotFoundError, match="write it first"):
        load(path, **into)
    whole = save(model, path).read_bytes()
    for damaged in (b"hello", whole[: len(whole) // 2], whole[: len(whole) // 2] + whole[-300:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            load(path, **into)
    with pytest.raises(ValueError, match="into"):
        load(save(model, path), **({} if into else {"into": model}))
    with pytest.raises(FileNotFoundError, match="cannot be counted"):
        sizes(tmp_path / "none.keras")


def test_weights_of_another_architecture_are_refused_whole(tmp_path):
    path = save(digit_cnn(4), tmp_path / "a.weights.h5")
    other = digit_cnn(4, classes=7, seed=1)  # the convolution of the file would fit
    before = other.get_weights()
    with pytest.raises(ValueError, match="another architecture"):
        load(path, into=other)
    for kept, now in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_a_file_that_runs_code_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Lambda(lambda x: 2 * x)])
    path = save(model, tmp_path / "code.keras")
    with pytest.raises(ValueError, match="Lambda"):
        load(os.fspath(path))
