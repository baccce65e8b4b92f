"""The results study in small: the recipe against oracles, one command from nothing to a stored table, and the real one."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional as F

from dca_lab import cli, measure, models
from dca_lab.deploy import Session
from dca_lab.studies import (
    resident,
    results,
    results_ladder,
    results_speed,
    results_torch,
    results_train,
    store,
)
from dca_lab.studies.results_recipe import FULL, Recipe, learning_rate, shifted
from dca_lab.training import evaluate

TINY = Recipe(
    filters=4, kept=2, strided=3, epochs=1, tune_epochs=1, calibration=32, repeats=2, train=256, test=100
)


@settings(deadline=None, max_examples=30)
@given(pixels=st.integers(0, 3), seed=st.integers(0, 99), side=st.integers(4, 7))
def test_each_picture_is_one_of_the_shifts_that_scipy_makes(pixels, seed, side):
    x = np.random.default_rng(seed).random((6, side, side)).astype(np.float32)
    moved = shifted(x, pixels, np.random.default_rng(seed))
    ways = range(-pixels, pixels + 1)
    for one, other in zip(x, moved, strict=True):
        assert any(np.array_equal(ndimage.shift(one, (a, b), order=0), other) for a in ways for b in ways)


def test_shifts_use_all_directions_and_leave_their_input():
    x = np.zeros((900, 5, 5), np.float32)
    x[:, 2, 2] = 1
    moved = shifted(x, 1, np.random.default_rng(0))
    assert (x[:, 2, 2] == 1).all()
    counts = moved.sum(0)
    assert (counts[1:4, 1:4] > 60).all() and counts.sum() == 900  # 100 expected, 60 is 4.2 deviations below
    with pytest.raises(ValueError, match="0 or more"):
        shifted(x, -1, np.random.default_rng(0))


@settings(deadline=None, max_examples=30)
@given(total=st.integers(1, 400), peak=st.floats(1e-4, 1.0))
def test_the_schedule_rises_to_its_peak_and_falls_as_torch_says(total, peak):
    rates = [learning_rate(step, total, peak) for step in range(total)]
    warm = max(1, total // 10)
    assert max(rates) == pytest.approx(peak) and min(rates) >= 0
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total - warm))
    for rate in rates[warm:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        cosine.step()


def test_the_filters_that_stay_are_those_of_the_largest_group_norm():
    torch.manual_seed(0)
    model = models.DigitCNN(8)
    small = results_torch.prune(model, 3)
    readers = model.fc.weight.reshape(10, 8, 169)
    norm = model.conv.weight.square().sum((1, 2, 3)) + readers.square().sum((0, 2))
    stay = sorted(norm.topk(3).indices.tolist())
    assert torch.equal(small.conv.weight, model.conv.weight[stay])
    assert torch.equal(small.fc.weight.reshape(10, 3, 169), readers[:, stay])


def test_without_a_teacher_two_runs_agree_and_a_stopped_run_is_their_beginning():
    x, y, *_ = results_train.tensors(TINY)
    options = {"recipe": TINY, "seed": 3, "epochs": 2, "lr": 1e-2}
    ends, middle = [], []
    for _ in range(2):
        model = models.build("digit-cnn", seed=3, filters=4)
        results_train.train(
            model, x, y, **options, after=lambda epoch, net: middle.append(net.conv.weight.clone())
        )
        ends.append(model.conv.weight)
    stopped = models.build("digit-cnn", seed=3, filters=4)
    results_train.train(stopped, x, y, **options, stop=1)
    assert (
        torch.equal(*ends)
        and torch.equal(stopped.conv.weight, middle[0])
        and not torch.equal(ends[0], middle[0])
    )


def test_a_teacher_of_other_answers_changes_what_is_learnt():
    x, y, *_ = results_train.tensors(TINY)
    model = models.build("digit-cnn", seed=0, filters=4)

    def stubborn(batch):  # always says 7, and means it
        return F.one_hot(torch.full((len(batch),), 7), 10) * 60.0

    results_train.train(model, x, y, recipe=TINY, seed=0, epochs=6, lr=1e-2, teacher=stubborn)
    with torch.no_grad():
        sevens = (model(x).argmax(1) == 7).float().mean()
    assert sevens > 0.6 > (y == 7).float().mean()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the torch half of a tiny study, made by the study's own parts."""
    folder = tmp_path_factory.mktemp("study")
    for part in results.TRAINING:
        results._job("torch", part, 0, TINY, folder, False)
    return folder


def test_the_files_are_what_the_table_says(place):
    made = json.loads((place / "torch-0-shrink.json").read_text(encoding="utf-8"))["result"]["variants"]
    _, _, x_test, y_test = results_train.tensors(TINY)
    for variant, row in made.items():
        session = Session(place / results_torch.file_of(0, variant))
        assert evaluate(session, x_test, y_test) == row["accuracy"]
        assert session.path.stat().st_size == row["bytes"]
        assert ("QLinearConv" in session.node_types()) == ("quantized" in variant)
        assert row["parameters"] == measure.count_parameters(models.DigitCNN(2 if "pruned" in variant else 4))
    assert made["pruned"]["bytes"] < made["original"]["bytes"]
    assert made["pruned"]["seconds_in_all"] > made["original"]["seconds"] > 0 < made["quantized"]["seconds"]


def test_a_network_that_is_read_back_answers_as_its_file(place):
    x = results_train.tensors(TINY)[2]
    for variant in ("original", "pruned", "narrow", "strided", "mixed"):
        network = results_torch.load(variant, TINY, place / results_torch.file_of(0, variant))
        with torch.no_grad():
            expected = network(x)
        torch.testing.assert_close(
            Session(place / results_torch.file_of(0, variant))(x), expected, atol=1e-4, rtol=1e-4
        )


def test_the_ladder_descends_in_filters_and_bits(place):
    x, y, x_test, y_test = results_train.tensors(TINY)
    original, file = (
        results_torch.load("original", TINY, place / results_torch.file_of(0, "original")),
        place / results_torch.file_of(0, "original"),
    )
    options = {"recipe": TINY, "seed": 0, "place": place, "teacher": Session(file)}
    rungs = results_ladder.ladder(original, x, y, x_test, y_test, **options)
    assert [rung["bits"] for rung in rungs] == [bits for _, bits in results_ladder.RUNGS]
    assert [rung["filters"] for rung in rungs] == sorted((r["filters"] for r in rungs), reverse=True)
    for rung in rungs:
        weights = _codes(place / f"{rung['file']}.onnx")
        if rung["bits"] < 32:
            used = {value for array in weights for value in np.unique(array).tolist()}
            assert (
                used == {-1, 1} if rung["bits"] == 1 else max(map(abs, used)) <= 2 ** (rung["bits"] - 1) - 1
            )
        assert rung["emulated"] == (rung["bits"] < 8) and rung["bytes_packed"] <= rung["bytes"]
        assert evaluate(Session(place / f"{rung['file']}.onnx"), x_test, y_test) == rung["accuracy"]


def _codes(file):
    """The int8 weights in a file."""
    stored = [onnx.numpy_helper.to_array(item) for item in onnx.load(file).graph.initializer]
    return [array for array in stored if array.dtype == np.int8 and array.size and array.ndim > 1]


def test_speeds_are_ratios_of_paired_rounds():
    subjects = {
        ("original", "eager"): lambda x: sum(range(4 * x)),
        ("original", "fast"): lambda x: sum(range(x // 4)),
    }
    rows = results_speed.inference(subjects, lambda batch: 400 * batch, best="fast", repeats=8)
    assert [(row["batch"], row["backend"]) for row in rows] == [
        (b, k) for b in (1, 256) for k in ("eager", "fast")
    ]
    for row in rows:
        assert row["over_same"] == 1
        assert row["over_eager"] == 1 if row["backend"] == "eager" else row["over_eager"] > 2
    slow = results_speed.training(
        {"original": lambda: sum(range(9000)), "narrow": lambda: sum(range(900))}, repeats=8
    )
    assert slow["narrow"]["over_original"] > 2 and slow["original"]["interval"] == [1, 1]


@pytest.mark.skipif(not resident.RESET.exists(), reason="the system does not tell the peak of a process")
def test_memory_grows_by_the_activations_at_least(place):
    grown = results_speed.memory("torch", "original", "eager", seed=0, recipe=TINY, place=place)
    convolved = 256 * 4 * 26 * 26 * 4  # bytes: batch, filters, height, width, float32
    assert convolved <= grown < 20 * convolved


def test_a_second_run_reads_what_is_finished_and_stores_the_table(place, monkeypatch):
    def never(*arguments):
        raise AssertionError("a finished part was made again")

    monkeypatch.setattr(results_torch, "shrink", never)
    monkeypatch.setattr(results_torch, "scratch", never)
    found = {
        ("torch", part, 0): results._job("torch", part, 0, TINY, place, False) for part in results.TRAINING
    }
    found["torch", "speed", 0] = {"inference": [], "training_step": {}, "memory": []}
    row = results._seed(found, "torch", 0)
    assert row["variants"].keys() == {*results_torch.SHRUNK, *results_torch.SCRATCH}
    for name in results.NETWORKS:  # Keras's are made in a test of their own
        (place / f"keras-0-{name}.tflite").write_bytes(b"a network")
    table = {"torch": [row], "keras": [row], "ladder": []}
    files = results._networks(table, place)
    stored = store.save("results", table, command="x", seeds=[0], files=files, root=place / "stored")
    assert stored.name == "results.json"
    for network in table["networks"]:
        path = store.network(network["file"], root=place / "stored")
        assert (
            network["bytes"] == path.stat().st_size
            and network["accuracy"] == row["variants"][network["name"]]["accuracy"]
        )
    with pytest.raises(AssertionError, match="made again"):
        results._job("torch", "shrink", 1, TINY, place, False)


def test_the_keras_half_has_the_same_networks_and_learns_by_the_same_recipe(place):
    keras_half = pytest.importorskip("dca_lab.studies.results_keras")
    longer = replace(TINY, train=1024, epochs=6)
    made = (
        keras_half.shrink(0, longer, place)["variants"]
        | keras_half.scratch(0, "strided", longer, place)["variants"]
    )
    torch_half = {}
    for part in ("shrink", "strided"):
        content = json.loads((place / f"torch-0-{part}.json").read_text(encoding="utf-8"))
        torch_half |= content["result"]["variants"]
    for variant, row in made.items():
        assert (row["parameters"], row["macs"]) == tuple(
            torch_half[variant][k] for k in ("parameters", "macs")
        )
        lite = keras_half.LiteModel(place / keras_half.file_of(0, variant))
        assert lite.bytes == row["bytes"] and lite.is_integer() == ("quantized" in variant)
        assert row["accuracy"] > 0.5  # ten classes
    assert made["pruned"]["seconds_in_all"] > made["original"]["seconds"] > 0


def test_the_command_explains_itself_and_refuses_what_cannot_be():
    shown = CliRunner().invoke(cli.main, ["study", "--help"])
    assert shown.exit_code == 0 and "results" in shown.output and "case-study" in shown.output
    assert CliRunner().invoke(cli.main, ["study", "results", "--seeds", "0"]).exit_code == 2
    for wrong in ({"seeds": 0}, {"workers": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            results.run(**wrong)


def test_importing_the_room_imports_no_framework():
    code = "import sys, dca_lab.studies.results; print({'torch', 'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "set()"


def test_the_stored_table_meets_the_goals():
    stored = store.load("results")
    assert stored["results"]["recipe"] == json.loads(json.dumps(vars(FULL)))
    for framework in results.FRAMEWORKS:
        seeds = stored["results"][framework]
        assert [row["seed"] for row in seeds] == stored["seeds"] == [0, 1, 2]
        for row in seeds:
            assert min(variant["accuracy"] for variant in row["variants"].values()) >= 0.985
    assert sum(store.network(name).stat().st_size for name in stored["networks"]) <= 2_500_000


def test_the_stored_networks_are_those_of_the_table():
    _, _, x_test, y_test = results_train.tensors(FULL)
    for row in store.load("results")["results"]["networks"]:
        right = evaluate(Session(store.network(row["file"])), x_test, y_test) * len(x_test)
        assert abs(right - row["accuracy"] * len(x_test)) <= 2
