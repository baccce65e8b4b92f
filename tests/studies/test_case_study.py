"""The case study on a tiny network: its cut, its grids, its pieces, and the numbers that it stores."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dca_lab import measure, models, parallel
from dca_lab.deploy import Session, export_onnx
from dca_lab.quantization import weight_params
from dca_lab.studies import case_study, load
from dca_lab.studies.case_study_cut import EXAMPLE, channel_counts, cut, kept_channels, with_channels
from dca_lab.studies.case_study_order import (
    OnGrid,
    compare_orders,
    cut_rounded,
    finetune_on_grid,
    round_weights,
    scales_of,
)
from dca_lab.studies.case_study_recipe import Recipe, Trainer, fast_bf16, images, mirrored_and_moved, train
from dca_lab.studies.case_study_seed import BUDGETS, EPOCHS_FACTOR, REFERENCES, Seed, study_seed
from dca_lab.studies.case_study_speed import memory, time_networks, waterfall
from dca_lab.studies.case_study_training import half_precision, two_processes

TINY = Recipe(width=8, epochs=1, finetune=1, train=96, test=100, calibration=32, batch_size=32, repeats=8)


def network(width=16, seed=0):
    return models.build("resnet-18", seed=seed, width=width, stem_stride=2).eval()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Seed(0, TINY, tmp_path_factory.mktemp("seed"), progress=False)


@pytest.fixture(scope="module")
def found(study):
    return study_seed(study)


# The cut.


@given(st.integers(1, 600), st.floats(0, 0.99), st.integers(1, 32))
def test_kept_channels_are_a_multiple_near_the_wish_and_never_more_than_there_are(channels, ratio, multiple):
    kept = kept_channels(channels, ratio, multiple)
    assert 1 <= kept <= channels
    if multiple < kept < channels:
        assert kept % multiple == 0 and abs(kept - channels * (1 - ratio)) <= multiple / 2 + 1e-9


@pytest.mark.parametrize("budget", [0.5, 0.25])
def test_cut_is_the_gentlest_that_meets_the_budget(budget):
    wide = network()
    small = cut(wide, budget, multiple=8)
    total, counts = measure.count_parameters(wide), channel_counts(small)
    assert measure.count_parameters(small) <= budget * total
    assert all(count % 8 == 0 for count in counts)
    whole = channel_counts(wide)
    steps = [[kept_channels(c, ratio, 8) for c in whole] for ratio in np.arange(0, 1, 0.01)]
    gentler = steps[steps.index(counts) - 1]
    assert measure.count_parameters(with_channels(wide, gentler)) > budget * total


def test_parameters_lie_between_the_square_and_the_share():
    wide = network()
    counts = [count // 2 for count in channel_counts(wide)]
    share = measure.count_parameters(with_channels(wide, counts)) / measure.count_parameters(wide)
    assert 0.25 <= share <= 0.5


def test_with_channels_rebuilds_the_shape():
    wide, small = network(), cut(network(), 0.4, multiple=4)
    again = with_channels(wide, channel_counts(small))
    assert [p.shape for p in again.parameters()] == [p.shape for p in small.parameters()]
    assert again(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_cut_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="between 0 and 1"):
        cut(network(8), 1.0)
    with pytest.raises(ValueError, match="smaller multiple"):
        cut(network(8), 0.01, multiple=8)
    with pytest.raises(ValueError, match="at least 1"):
        cut(network(8), 0.5, multiple=0)
    with pytest.raises(ValueError, match="do not fit"):
        with_channels(network(8), [4, 4])


# The recipe.


def test_each_image_is_one_of_the_fifty_places_it_can_go_to():
    x = torch.rand(6, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    moved = mirrored_and_moved(x, by=2)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    for i in range(len(x)):
        places = [
            view[top : top + 9, left : left + 7]
            for flip, top, left in itertools.product((False, True), range(5), range(5))
            for view in [torch.nn.functional.pad(x[i, 0].flip(-1), (2, 2, 2, 2)) if flip else padded[i, 0]]
        ]
        assert any(torch.equal(moved[i, 0], place) for place in places)


def test_a_cut_network_gets_the_computing_of_the_control():
    networks = load("case-study")["results"]["seeds"][0]["networks"]
    control = EPOCHS_FACTOR["control"] * networks["control"]["macs"]
    for name in BUDGETS:
        assert EPOCHS_FACTOR[name] * networks[name]["macs"] == pytest.approx(control, rel=0.05)
    assert EPOCHS_FACTOR["control-long"] == max(EPOCHS_FACTOR.values())


def test_trainer_is_the_network_when_it_does_not_train():
    net, x = network(8), torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(Trainer(net, half=True).eval()(x), net(x))


def test_bf16_training_keeps_float32_master_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    x, y = torch.rand(64, 1, 28, 28), torch.arange(64) % 10
    before = copy.deepcopy(net)
    train(net, x, y, epochs=1, lr=0.1, recipe=TINY, seed=0, progress=False, half=True)
    weight = net[1].weight
    assert weight.dtype == torch.float32 and not torch.equal(weight, before[1].weight)
    assert not torch.equal(weight, weight.bfloat16().float())  # finer than bf16 can hold


def test_images_are_in_0_1_and_too_many_are_refused():
    x, y, x_test, y_test = images(TINY)
    assert x.shape == (96, 1, 28, 28) and len(y) == 96 and len(x_test) == len(y_test) == 100
    assert x.dtype == torch.float32 and x.min() >= 0 and x.max() == 1
    with pytest.raises(ValueError, match="12000"):
        images(Recipe(train=20_000))
    with pytest.raises(ValueError, match="choose"):
        Recipe(precision="fp8")
    with pytest.raises(ValueError, match="at least 1"):
        Recipe(test=0)


# The order of pruning and quantization.


def codes(layer, scale):
    return layer.weight.detach() / scale


def test_rounded_weights_are_integers_of_a_symmetric_grid():
    net = network(8)
    scales = scales_of(net, 4)
    round_weights(net, scales, 4)
    for name, layer in net.named_modules():
        if name in scales:
            values = codes(layer, scales[name])
            assert torch.allclose(values, values.round(), atol=1e-4) and values.abs().max() <= 7 + 1e-4


def test_a_cut_keeps_the_integers_that_were_there():
    net = network(16)
    scales = scales_of(net, 4)
    round_weights(net, scales, 4)
    small, left = cut_rounded(net, scales, 0.5, multiple=4)
    assert channel_counts(small) == channel_counts(cut(net, 0.5, multiple=4))
    for name, scale in left.items():
        values = codes(small.get_submodule(name), scale)
        assert torch.allclose(values, values.round(), atol=1e-4) and values.abs().max() <= 7 + 1e-4
        assert torch.isin(scale.flatten(), scales[name].flatten()).all()


def test_fine_tuning_on_a_grid_stays_on_it_and_learns():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    scales = scales_of(net, 3)
    x, y = torch.rand(64, 1, 28, 28), torch.arange(64) % 10
    start = round_weights(copy.deepcopy(net), scales, 3)

    def tune(model):
        train(model, x, y, epochs=3, lr=0.3, recipe=TINY, seed=0, progress=False, half=False)

    finetune_on_grid(net, scales, 3, tune)
    assert type(net[1]) is nn.Linear and isinstance(net[1].weight, nn.Parameter)
    values = codes(net[1], scales["1"])
    assert torch.allclose(values, values.round(), atol=1e-4) and values.abs().max() <= 3 + 1e-4
    assert not torch.equal(net[1].weight, start[1].weight)


def test_on_grid_rounds_as_the_package_does():
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    scale = weight_params(weight, bits=4)[0]
    nearest = (weight / scale).round().clamp(-7, 7) * scale
    assert torch.allclose(OnGrid(scale, 4)(weight), nearest)


def test_orders_agree_where_rounding_costs_nothing():
    net, (x, _, x_test, y_test) = network(8), images(TINY)
    found = compare_orders(net, lambda _: None, x, (x_test, y_test), bits=[8], multiple=4)["8"]
    assert set(found) == {"PQ", "QP", "PFQ", "PQF", "QPF"}
    # without any training, the three that prune first are one network
    assert found["PQ"] == found["PFQ"] == found["PQF"] and found["QP"] == found["QPF"]


# The seed and the whole.


def test_a_seed_is_whole_and_goes_on_where_it_was(study, found):
    names = {"original", "control", "half", "quarter"}
    assert set(found["networks"]) == names | {f"{name}-int8" for name in names} | {"random", "control-long"}
    written = {path: path.stat().st_mtime_ns for path in study.folder.iterdir()}
    assert study_seed(study) == found
    assert {path: path.stat().st_mtime_ns for path in study.folder.iterdir()} == written


def test_the_stored_numbers_are_those_of_the_files(study, found):
    labels = study.y_test.numpy()
    for name, entry in found["networks"].items():
        answers = Session(study.file(name))(study.x_test).argmax(1).numpy()
        assert abs((answers == labels).mean() - entry["accuracy"]) <= 1 / len(labels)
        assert entry["bytes"] == study.file(name).stat().st_size
    half, whole = found["networks"]["half"], found["networks"]["original"]
    assert half["parameters"] <= whole["parameters"] / 2 and half["macs"] < whole["macs"]
    assert all(found["networks"][name]["disagree"][name] == 0 for name in REFERENCES)
    # a metric of how many images two networks call differently
    apart = {name: found["networks"][name]["disagree"] for name in REFERENCES}
    assert apart["original"]["control"] == apart["control"]["original"]
    assert (
        apart["original"]["control"] <= apart["original"]["control-long"] + apart["control-long"]["control"]
    )


def test_half_precision_reports_both(study):
    found = half_precision(study)
    assert set(found["accuracy"]) == {"fp32", "bf16"} and found["study"] in ("fp32", "bf16")
    assert all(entry["fp32"] > 0 and entry["bf16"] > 0 for entry in found["step"].values())


def test_two_processes_train_what_one_trains(study, monkeypatch):
    real = parallel.train_data_parallel

    # torch's own is tested with its room and in the chapter; its processes cost seconds
    def without_ddp(*args, backend="ours", **options):
        return real(*args, **options | ({"world_size": 1, "shares": 2} if backend == "ddp" else {}))

    monkeypatch.setattr(parallel, "train_data_parallel", without_ddp)
    found = two_processes(study, steps=1)
    assert set(found["differences"]) == {"two", "ddp"} and max(found["differences"].values()) < 1e-5
    gradients = found["gradient_bytes"]
    # a ring of two sends 2 (p - 1) / p = 1 times the vector
    assert gradients <= found["bytes_per_step"] <= 1.01 * gradients + 1024
    assert set(found["seconds"]) == {"one", "two", "ddp"} and found["seconds"]["two"][1] > 0


def test_costs_and_waterfall(study, found, tmp_path):
    net = network(8)
    ways = {"eager": net, "ort": export_onnx(net, EXAMPLE, tmp_path / "a.onnx")}
    ways["int8"] = Session(study.file("original-int8"))
    timing = time_networks({"original": ways, "half": ways}, repeats=8)
    steps = waterfall(timing)
    whole = steps["back end"] * steps["pruning"] * steps["int8"]
    milliseconds = timing["milliseconds"]
    assert whole == pytest.approx(milliseconds["original eager"] / milliseconds["half int8"])
    low, high = timing["over_ort"]["original eager"][1:]
    assert low <= timing["over_ort"]["original eager"][0] <= high
    with pytest.raises(ValueError, match="baseline"):
        time_networks({"half": ways})


def test_memory_is_that_of_a_process_of_its_own(tmp_path):
    wide = network(32)
    used = memory(wide, {"ort": export_onnx(wide, EXAMPLE, tmp_path / "wide.onnx").path})
    weights = 4 * measure.count_parameters(wide)
    for way, grown in used.items():
        assert grown is None or weights < grown < 12 * weights, way
    with pytest.raises(RuntimeError, match=r"nothing\.onnx"):
        memory(wide, {"ort": tmp_path / "nothing.onnx"})


def test_run_refuses_nonsense():
    with pytest.raises(ValueError, match="at least 1"):
        case_study.run(seeds=0)


def test_the_stored_study_holds_the_goals():
    stored = load("case-study")
    results = stored["results"]
    assert len(stored["seeds"]) == len(results["seeds"]) >= 3
    for seed in results["seeds"]:
        entries = seed["networks"]
        for name, budget in BUDGETS.items():
            assert entries[name]["parameters"] <= budget * entries["original"]["parameters"]
    ones = [timing for timing in results["costs"]["timings"] if timing["batch"] == 1]
    assert all(t["over_eager"]["half int8"][0] >= 5 and t["over_ort"]["half int8"][0] >= 2.5 for t in ones)
    assert all(t["over_eager"]["quarter int8"][0] >= 10 for t in ones)
    file = case_study.NAME + "-" + case_study.STORED + ".onnx"
    assert results["stored"]["file"] == file and file in stored["networks"]


def test_each_recipe_has_its_own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DCA_BUILD", str(tmp_path))
    assert case_study.folder_of(TINY) == case_study.folder_of(TINY) != case_study.folder_of(case_study.QUICK)
    assert case_study.folder_of(TINY).is_relative_to(tmp_path)


def test_the_precision_is_the_processors_unless_it_is_said():
    assert Recipe().half == fast_bf16()
    assert Recipe(precision="bf16").half and not Recipe(precision="fp32").half
