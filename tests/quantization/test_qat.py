"""Training for integers: the model that is trained is the model that runs, and training buys accuracy back."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.models import LeNet5, LeNet300, ResNet18, SmallCNN
from dca_lab.quantization.affine import fake_quantize
from dca_lab.quantization.graph import QuantizationError, plan, prepare
from dca_lab.quantization.lsq import FirstStepObserver, LearnedStep, initial_step
from dca_lab.quantization.observers import MSEObserver
from dca_lab.quantization.qat import FakeQuantized, convert, prepare_qat
from dca_lab.quantization.qat_bits import grid_bits, kept_layers
from dca_lab.quantization.qat_layers import QuantizedLayer, least_error_step
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.static_file import load_static, save_static
from dca_lab.training import evaluate, fit, predict


class Branches(nn.Module):
    """What is hard to get right: batch-norm, hard-swish, ReLU6, a residual, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2, self.conv3 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.conv4 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = F.hardswish(self.bn(self.conv1(x)))
        x = x + self.conv2(F.relu6(self.conv3(x)))
        left, right = F.relu(self.conv4(x)), F.max_pool2d(self.conv3(x), 3, 1, 1)
        return self.fc(torch.cat([left, right], 1).mean((2, 3)))


MODELS = {
    "perceptron": LeNet300,
    "lenet5": LeNet5,
    "small_cnn": lambda: SmallCNN(channels=(4, 8)),
    "resnet": lambda: ResNet18(width=4),
    "branches": Branches,
}


def digits(n, seed=0, classes=10):
    """Noisy images of ten fixed patterns: learnable in a second, not trivial at two bits."""
    patterns = torch.randn(classes, 1, 28, 28, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=generator)
    return 0.09 * patterns[y] + 0.5 * torch.randn(n, 1, 28, 28, generator=generator), y


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


@pytest.fixture(scope="module")
def trained():
    model = seeded(lambda: LeNet300(hidden=(32, 24)))
    x, y = digits(3000)
    fit(model, x, y, epochs=3, progress=False)
    return model


@pytest.mark.parametrize("name, keep", [*((name, "first and last") for name in MODELS), ("branches", {})])
def test_integers_give_what_was_trained(name, keep):
    model = seeded(MODELS[name])
    x, y = digits(32)
    qat = prepare_qat(model, x, weight_bits=2, activation_bits=3, keep=keep)
    fit(qat, x, y, epochs=1, batch_size=8, progress=False)
    static = convert(qat)
    wanted = predict(qat, x)
    for found in (static.simulate(x), static.integers(x)):
        # a float32 sum that lies on a tie may fall to the other level: rarely, and by one level
        near = (found - wanted).abs() <= 1e-4 * wanted.abs().max()
        assert near.float().mean() >= 0.97
    low = [step for step in static.steps if step.weight is not None and step.weight_bits == 2]
    assert low and all(set(step.weight.unique().tolist()) <= {-1, 0, 1} for step in low)
    assert all(step.weight.dtype == torch.int8 for step in low)


def test_before_training_it_is_quantization_with_these_steps(trained):
    x, _ = digits(200, seed=1)
    qat = prepare_qat(trained, x, weight_bits=3, activation_bits=4, keep={})
    graph = prepare(trained, x[:1])
    names = ["fc1", "fc2", "fc3"]
    h = x.flatten(1)
    for name, reads in zip(names, ["input", "fc1", "fc2"], strict=True):
        grid = getattr(qat.network, qat.grids[reads])
        h = fake_quantize(h, grid.scale.detach(), grid.zero_point, bits=4)
        layer, plain = qat.network.get_submodule(name), graph.get_submodule(name)
        step = least_error_step(plain.weight, bits=3)
        assert torch.equal(layer.grid.scale.detach(), step)
        unit = step.flatten() * grid.scale.detach()
        h = F.linear(
            h,
            fake_quantize(plain.weight, step, 0, bits=3, symmetric=True),
            (plain.bias / unit).round() * unit,
        )
        h = F.relu(h) if name != "fc3" else h
    torch.testing.assert_close(predict(qat, x), h.detach(), rtol=1e-4, atol=1e-4)


def test_training_recovers_what_rounding_after_training_loses(trained):
    x, y = digits(3000)
    x_test, y_test = digits(2000, seed=1)
    found = {"float": evaluate(trained, x_test, y_test)}
    options = {"weight_bits": 2, "activation_bits": 2, "keep": {}}
    found["minmax"] = evaluate(
        quantize_static(trained, x[:256], weight_bits=2, activation_bits=2), x_test, y_test
    )
    for method in ("ste", "lsq"):
        qat = prepare_qat(trained, x[:256], method=method, **options)
        found[f"{method} start"] = evaluate(convert(qat), x_test, y_test)
        fit(qat, x, y, epochs=3, progress=False)
        found[method] = evaluate(convert(qat), x_test, y_test)
    assert found["ste start"] == found["lsq start"]  # the two methods differ in training only
    for method in ("ste", "lsq"):
        assert found[method] > found["minmax"] + 0.05 and found[method] > found[f"{method} start"] + 0.01
        assert found[method] > found["float"] - 0.1


def test_steps_learn_with_lsq_and_stay_with_ste(trained):
    x, y = digits(256)
    for method, moves in (("lsq", True), ("ste", False)):
        qat = prepare_qat(trained, x, method=method)
        before = copy.deepcopy(qat.state_dict())
        fit(qat, x, y, epochs=1, progress=False)
        steps = {n: m for n, m in qat.named_modules() if isinstance(m, LearnedStep)}
        assert len(steps) == 6  # three weights, and what the three layers read
        for name, step in steps.items():
            changed = not torch.equal(step.step, before[f"{name}.step"])
            assert changed == (moves and step.bits < 8)


def test_the_original_is_not_touched_and_the_copy_survives_a_round_trip(trained, tmp_path):
    state = copy.deepcopy(trained.state_dict())
    x, y = digits(128)
    qat = prepare_qat(trained, x, weight_bits=2, activation_bits=2)
    fit(qat, x, y, epochs=1, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), trained.state_dict().values(), strict=True))
    logits = predict(qat, x)
    assert isinstance(qat, FakeQuantized)
    convert(qat)
    assert torch.equal(predict(qat, x), logits)
    torch.save(qat.state_dict(), tmp_path / "qat.pt")
    again = prepare_qat(trained, x, weight_bits=2, activation_bits=2)
    again.load_state_dict(torch.load(tmp_path / "qat.pt"))
    assert torch.equal(predict(again, x), logits) and torch.equal(predict(copy.deepcopy(qat), x), logits)


def test_kept_layers_have_their_bits_for_weights_and_for_what_they_read():
    model = seeded(lambda: SmallCNN(channels=(4, 8)))
    x, _ = digits(16)
    default = prepare_qat(model, x, weight_bits=2, activation_bits=3)
    assert default.bits == {
        **{"conv1": 8, "conv2": 2, "fc": 8},
        **{"grid of input": 8, "grid of conv1": 3, "grid of conv2": 8},
    }
    chosen = prepare_qat(model, x, weight_bits=2, activation_bits=3, keep={"conv2": 5, "input": 6})
    assert chosen.bits == {
        **{"conv1": 2, "conv2": 5, "fc": 2},
        **{"grid of input": 6, "grid of conv1": 5, "grid of conv2": 3},
    }
    static = convert(chosen)
    assert static.weight_bits == {"conv1": 2, "conv2": 5, "fc": 2}
    assert (static.grids["conv1"].bits, static.grids["conv2"].bits, static.input_grid.bits) == (5, 3, 6)


def test_a_tensor_with_several_readers_has_kept_bits_only_if_all_are_kept():
    model, (x, _) = seeded(lambda: ResNet18(width=4)), digits(4)
    shortcut, conv = "layer2.0.downsample.0", "layer2.0.conv1"
    both = prepare_qat(model, x, keep={shortcut: 8, conv: 8}, start="paper").bits
    one = prepare_qat(model, x, keep={conv: 8}, start="paper").bits
    name = next(n for n in both if both[n] != one[n] and n.startswith("grid"))
    assert (both[name], one[name]) == (8, 4) and both[conv] == one[conv] == 8


def test_the_bias_lies_on_the_grid_of_the_products():
    source = LearnedStep(torch.tensor(0.5), bits=2)
    layer = QuantizedLayer(nn.Linear(6, 3), source, bits=2)
    y = layer(torch.zeros(1, 6))[0].detach()
    units = y / (layer.grid.scale.detach().flatten() * 0.5)
    torch.testing.assert_close(units, units.round(), rtol=0, atol=1e-5)
    layer(torch.zeros(1, 6)).sum().backward()
    assert torch.equal(layer.layer.bias.grad, torch.ones(3))


def test_steps_of_least_error_beat_a_search_by_the_observer():
    weight = torch.randn(5, 400, generator=torch.Generator().manual_seed(0))
    for bits in (2, 3, 4):
        step = least_error_step(weight, bits=bits)
        assert step.shape == (5, 1)
        ours = (fake_quantize(weight, step, 0, bits=bits, symmetric=True) - weight).square().sum(1)
        for row, error in zip(weight, ours, strict=True):
            observer = MSEObserver(bits=bits, symmetric=True)
            observer.update(row)
            other = observer.range()[1] / (2 ** (bits - 1) - 1)
            theirs = (fake_quantize(row, other, 0, bits=bits, symmetric=True) - row).square().sum()
            assert error <= 1.02 * theirs


def test_the_paper_s_start():
    model, (x, _) = seeded(lambda: LeNet300(hidden=(16, 16))), digits(64)
    qat = prepare_qat(model, x, weight_bits=3, activation_bits=2, keep={}, start="paper")
    weight = model.fc2.weight.detach()
    expected = 2 * weight.abs().mean(1, keepdim=True) / 3**0.5
    torch.testing.assert_close(qat.network.fc2.grid.scale.detach(), expected)
    with torch.no_grad():
        read = F.relu(model.fc1(x.flatten(1)))
    grid = getattr(qat.network, qat.grids["fc1"])
    torch.testing.assert_close(grid.scale.detach(), 2 * read.mean() / 3**0.5, rtol=1e-3, atol=0)
    pixels = getattr(qat.network, qat.grids["input"])  # both signs: levels -2..1, Q_P = 1
    torch.testing.assert_close(pixels.scale.detach(), 2 * x.abs().mean(), rtol=1e-3, atol=0)
    assert pixels.zero_point == 2


def test_the_paper_s_start_sees_batches_as_one():
    whole, parts = FirstStepObserver(bits=3), FirstStepObserver(bits=3)
    values = torch.randn(600, generator=torch.Generator().manual_seed(0)).abs()
    whole.update(values)
    for part in values.split(100):
        parts.update(part)
    assert whole.range() == pytest.approx(parts.range())
    assert whole.range()[1] / 7 == pytest.approx(float(initial_step(values, q_max=7)), rel=1e-6)
    with pytest.raises(ValueError, match="no data"):
        FirstStepObserver(bits=3).range()


def test_the_file_holds_two_bits_a_weight(trained, tmp_path):
    x, _ = digits(64)
    bytes_of = {}
    for bits in (2, 8):
        static = convert(prepare_qat(trained, x, weight_bits=bits, activation_bits=2, keep={}))
        bytes_of[bits] = save_static(static, tmp_path / f"{bits}.safetensors")
        assert (tmp_path / f"{bits}.safetensors").stat().st_size == bytes_of[bits]
        assert torch.equal(load_static(tmp_path / f"{bits}.safetensors").integers(x), static.integers(x))
    weights = sum(p.numel() for p in trained.parameters() if p.ndim == 2)
    assert bytes_of[8] - bytes_of[2] == pytest.approx(weights * 6 / 8, abs=64)  # up to padding


def test_the_rule_of_kept_layers_on_a_graph():
    graph = prepare(seeded(lambda: SmallCNN(channels=(4, 8))), torch.zeros(1, 1, 28, 28))
    source, layers = plan(graph)
    gridded = [p for p in [source, *layers] if p.needs_grid]
    assert [p.name for p in gridded] == ["input", "conv1", "conv2"]  # pools hand levels on, fc gives sums
    kept = kept_layers("first and last", graph, layers)
    assert kept == {"conv1": 8, "fc": 8}
    assert grid_bits(gridded, layers, kept, 3) == {"input": 8, "conv1": 3, "conv2": 8}
    assert grid_bits(gridded, layers, {}, 3) == {"input": 3, "conv1": 3, "conv2": 3}


def test_a_dead_channel_still_converts():
    model = seeded(lambda: LeNet300(hidden=(16, 16)))
    with torch.no_grad():
        model.fc1.weight[3] = 0
        model.fc1.weight[4] = 1e-20
        model.fc1.bias[3:5] = 5.0
    x, _ = digits(64)
    qat = prepare_qat(model, x, keep={})
    torch.testing.assert_close(convert(qat).integers(x), predict(qat, x), rtol=1e-4, atol=1e-4)


def test_bad_input_is_refused(trained):
    x, _ = digits(8)
    for options, message in (
        ({"weight_bits": 1}, "weight_bits=1"),
        ({"activation_bits": 9}, "activation_bits=9"),
        ({"weight_bits": True}, "weight_bits=True"),
        ({"method": "pact"}, "method"),
        ({"start": "random"}, "start"),
        ({"keep": "first"}, "keep='first'"),
        ({"keep": {"fc9": 8}}, "'fc9'"),
        ({"keep": {"fc1": 16}}, "keep\\['fc1'\\]=16"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_qat(trained, x, **options)
    with pytest.raises(QuantizationError, match="empty"):
        prepare_qat(trained, x[:0])
    with pytest.raises(ValueError, match="prepare_qat"):
        convert(trained)
