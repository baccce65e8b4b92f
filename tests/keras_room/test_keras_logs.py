"""What TensorBoard would draw, read back: the numbers of model.fit's own history, and of TensorBoard's reader."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dca_lab.keras import scalars


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(0)
    x, y = rng.random((48, 6), np.float32), rng.integers(0, 3, 48)
    model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    board = keras.callbacks.TensorBoard(folder, update_freq=1, write_graph=False)
    history = model.fit(x, y, batch_size=16, epochs=3, validation_split=1 / 3, verbose=0, callbacks=[board])
    return folder, history.history


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_the_history_comes_back(fitted, metric):
    folder, history = fitted
    found = scalars(folder)
    for run, name in (("train", metric), ("validation", f"val_{metric}")):
        steps, values = found[f"{run}/epoch_{metric}"]
        assert steps.tolist() == [0, 1, 2] and steps.dtype == np.int64
        np.testing.assert_allclose(values, history[name], rtol=1e-6)  # the log is float32
    steps, values = found[f"train/batch_{metric}"]
    assert len(steps) == len(values) == 6  # 32 examples in batches of 16, three times


def test_the_same_as_tensorboards_own_reader(fitted):
    folder, _ = fitted
    found = scalars(folder / "train")
    theirs = EventAccumulator(str(folder / "train")).Reload()
    tags = [
        tag for tag in theirs.Tags()["tensors"] if tag != "keras"
    ]  # the model's description, not a number
    assert sorted(found) == sorted(tags)
    for tag in tags:
        events = theirs.Tensors(tag)
        assert found[tag][0].tolist() == [event.step for event in events]
        assert found[tag][1].tolist() == [float(tf.make_ndarray(event.tensor_proto)) for event in events]


def write(folder, values, tag="loss"):
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, value in values:
            tf.summary.scalar(tag, value, step=step)
    writer.close()
    return max(folder.glob("*tfevents*"), key=lambda file: file.stat().st_mtime_ns)


def test_runs_are_kept_apart_and_files_of_one_run_together(tmp_path):
    write(tmp_path, [(0, 1.0)])
    first = write(tmp_path / "a" / "train", [(0, 4.0), (1, 3.0), (2, 2.0)])
    first.rename(first.with_name("events.out.tfevents.1.host"))
    write(tmp_path / "a" / "train", [(2, 2.5), (3, 1.0)])  # resumed at step 2
    found = scalars(tmp_path)
    assert list(found) == ["a/train/loss", "loss"]
    assert found["a/train/loss"][0].tolist() == [0, 1, 2, 3]
    assert found["a/train/loss"][1].tolist() == [4.0, 3.0, 2.5, 1.0]


def test_scalars_of_tensorflow_1_and_torch_are_read(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.summary.FileWriter(str(tmp_path)) as writer:
        value = tf.compat.v1.Summary.Value(tag="old", simple_value=0.5)
        writer.add_summary(tf.compat.v1.Summary(value=[value]), 7)
    assert [array.tolist() for array in scalars(tmp_path)["old"]] == [[7], [0.5]]


def test_what_is_no_scalar_is_left_out(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.histogram("weights", tf.zeros(5), step=0)
        tf.summary.text("note", "words", step=0)
    assert scalars(tmp_path) == {}


def test_a_record_cut_off_is_left_out_and_a_damaged_one_told(tmp_path):
    file = write(tmp_path, [(step, float(step)) for step in range(4)])
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert scalars(tmp_path)["loss"][0].tolist() == [0, 1, 2]
    file.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    with pytest.raises(ValueError, match="damaged"):
        scalars(tmp_path)


def test_no_logs(tmp_path):
    with pytest.raises(FileNotFoundError, match="training"):
        scalars(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        scalars(tmp_path / "none")
