"""Quantization of whole networks: accuracy of the result, its options, its bounds, and refusals before any work."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from static_networks import MAKERS, inputs, network
from torch import nn
from torch.nn import functional as F

from dca_lab.models import SmallCNN
from dca_lab.quantization.affine import affine_params
from dca_lab.quantization.calibration import calibration_batches, choose_grids, observer_factory
from dca_lab.quantization.graph import QuantizationError, plan, prepare
from dca_lab.quantization.layer_codes import bias_codes, checked_codes, layer_codes
from dca_lab.quantization.observers import MinMaxObserver
from dca_lab.quantization.static import StaticModel, quantize_static
from dca_lab.quantization.steps import Grid, Step
from dca_lab.training import evaluate


def _error(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("name", MAKERS)
def test_eight_bits_come_close_and_more_bits_come_closer(name):
    model, x = network(name, count=24)
    with torch.no_grad():
        expected = model(x)
    errors = []
    for bits in (8, 4):
        static = quantize_static(model, x, weight_bits=bits, activation_bits=bits, observer="minmax")
        errors.append(_error(static.integers(x), expected))
        assert _error(static.integers(x), static.simulate(x)) < (0.01 if bits == 8 else 0.15)
    assert errors[0] < 0.03 and errors[0] < errors[1] / 3


def test_steps_are_what_they_say():
    model, x = network("resnet18")
    static = quantize_static(model, x, observer="minmax")
    assert isinstance(static, StaticModel) and isinstance(static, nn.Module)
    for step in static.steps:
        assert isinstance(step, Step)
        if step.weight is not None:
            assert step.weight.dtype == torch.int8 and int(step.weight.min()) >= -127
            assert step.weight.flatten(1).abs().amax(1).eq(127).all()  # every channel uses its range
            assert step.weight_scale.shape == step.bias.shape == (len(step.weight),)
            assert step.bias.dtype == torch.int32
        if step.relu:
            assert step.grid.zero_point == 0
    assert static.steps[-1].grid is None and static.steps[-1].name == "fc"


def test_weights_and_biases_are_the_folded_ones_to_half_a_level():
    model, x = network("small-cnn")
    graph, static = prepare(model, x), quantize_static(model, x, observer="minmax")
    for step in static.steps:
        if step.weight is not None:
            layer = graph.get_submodule(step.name)
            scale = step.weight_scale.reshape(-1, *[1] * (step.weight.dim() - 1))
            assert ((step.weight * scale - layer.weight).abs() <= scale * 0.5001).all()
            unit = step.weight_scale.double() * static.sources(step)[0].scale
            assert ((step.bias * unit - layer.bias).abs() <= unit * 0.5001 + layer.bias.abs() * 1e-6).all()


def test_grids_cover_what_minmax_saw():
    model, x = network("lenet300")
    static = quantize_static(model, x, observer="minmax")
    assert static.input_grid == Grid(*(v.item() for v in affine_params(x.min(), x.max())), 8)
    hidden = torch.relu(model.fc1(x.flatten(1)))
    low, high = static.grids["fc1"].range
    assert low == 0 and hidden.max() <= high <= hidden.max() * 1.001


def test_what_hardswish_does_not_see_takes_no_levels():
    model, x = network("hardswish")
    model.stem.weight.data *= 20  # far below -3
    static = quantize_static(model, x, observer="minmax")
    assert static.grids["stem"].range[0] == pytest.approx(-3, abs=2 * static.grids["stem"].scale)
    assert model.stem(x).min() < -20
    with torch.no_grad():
        assert _error(static(x), model(x)) < 0.02


def test_relu6_is_a_grid_that_ends_at_six():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 16, 2))
    model[0].weight.data *= 8
    x = inputs((3, 6, 6))
    assert model[0](x).max() > 6
    static = quantize_static(model, x, observer="minmax")
    assert static.steps[0].relu and static.grids["_0"].range == pytest.approx((0, 6), abs=0.001)
    with torch.no_grad():
        assert _error(static.integers(x), model(x)) < 0.03


def test_branches_share_the_grid_of_their_concatenation():
    static = quantize_static(*network("branches"), observer="minmax")
    assert static.grids["left"] == static.grids["right"] == static.grids["cat"] != static.grids["input"]
    assert static.grids["left"].zero_point > 0  # and yet the ReLU of this branch clamps
    levels = static.integers(inputs((3, 8, 8)), every=True)["left"]
    assert int(levels.min()) == static.grids["left"].zero_point


def test_bits_by_layer_and_given_codes_and_grids():
    model, x = network("resnet18")
    static = quantize_static(model, x, observer="minmax", weight_bits={"layer1.0.conv1": 3, "fc": 5})
    bits = static.weight_bits
    assert (bits["layer1_0_conv1"], bits["fc"], bits["conv1"]) == (3, 5, 8)
    weight = {step.name: step.weight for step in static.steps}
    assert int(weight["layer1_0_conv1"].abs().max()) == 3 and int(weight["fc"].abs().max()) == 15
    codes, scale = torch.ones(4, 4, 3, 3, dtype=torch.int8), torch.full((4,), 0.01)
    grid = Grid(0.125, 0, 8)
    changed = quantize_static(
        model,
        x,
        observer="minmax",
        weight_codes={"layer1.0.conv1": (codes, scale)},
        grids={"layer1_0_conv1": grid},
    )
    step = next(step for step in changed.steps if step.name == "layer1_0_conv1")
    assert torch.equal(step.weight, codes) and torch.equal(step.weight_scale, scale) and step.grid == grid


def test_one_scale_a_layer():
    model, x = network("lenet300")
    model.fc1.weight.data[0] *= 100
    errors = []
    for flag in (False, True):
        static = quantize_static(model, x, per_channel=flag, observer="minmax")
        assert all(
            (s.weight_scale.unique().numel() == 1) != flag for s in static.steps if s.weight is not None
        )
        fc1 = next(step for step in static.steps if step.name == "fc1")
        errors.append((fc1.weight * fc1.weight_scale[:, None] - model.fc1.weight)[1:].norm().item())
    assert errors[1] < errors[0] / 50  # the hundredfold row takes the levels of its neighbours


def test_a_prepared_graph_with_changed_weights_is_taken_as_it_is():
    model, x = network("small-cnn")
    graph = prepare(model, x)
    graph.fc.weight.data *= 2
    graph.fc.bias.data *= 2
    before = {key: value.clone() for key, value in graph.state_dict().items()}
    with torch.no_grad():
        assert _error(quantize_static(graph, x, observer="minmax")(x), 2 * model(x)) < 0.02
    assert all(torch.equal(value, before[key]) for key, value in graph.state_dict().items())


def test_dead_channels_keep_their_bias():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].weight.data[0] = 0
    model[0].weight.data[1] = 1e-12
    model[0].bias.data[:2] = torch.tensor([0.7, 0.3])
    x = inputs((6,))
    static = quantize_static(model, x, observer="minmax")
    hidden = static.real("_0", static.integers(x, every=True)["_0"])
    assert (hidden[:, :2] - torch.tensor([0.7, 0.3])).abs().max() <= static.grids["_0"].scale * 0.51


def test_a_sum_that_might_overflow_is_refused():
    wide = nn.Sequential(nn.Linear(70_000, 1, bias=False))
    nn.init.ones_(wide[0].weight)
    with pytest.raises(QuantizationError, match="'_0'.*32 bits"):
        quantize_static(wide, torch.rand(2, 70_000))


@given(
    bits=st.integers(2, 8),
    seed=st.integers(0, 999),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 1e4]),
    input_scale=st.sampled_from([1e-4, 0.02, 3.0]),
)
@settings(deadline=None, max_examples=50)
def test_codes_are_within_half_a_level(bits, seed, size, input_scale):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 7, generator=generator) * size
    bias = torch.randn(5, generator=generator)
    codes, scale = layer_codes(weight, bias, input_scale=input_scale, bits=bits)
    top = 2 ** (bits - 1) - 1
    assert codes.dtype == torch.int8 and int(codes.abs().max()) <= top
    wide = scale.double()[:, None]
    assert ((codes * wide - weight.double()).abs() <= wide * 0.500001).all()
    rounded = bias_codes("layer", bias, codes, scale, input_scale=input_scale)
    unit = scale.double() * input_scale
    assert ((rounded * unit - bias.double()).abs() <= unit * 0.500001 + 1e-7).all()


_BAD_CALIBRATION = {
    "empty": (torch.zeros(0, 1, 28, 28), "empty"),
    "no batches": ([], "empty"),
    "a number": (torch.tensor(1.0), "examples"),
    "nan": (torch.full((4, 1, 28, 28), float("nan")), "NaN"),
    "infinite": (torch.full((4, 1, 28, 28), float("inf")), "infinite"),
    "integers": (torch.zeros(4, 1, 28, 28, dtype=torch.int64), "float32"),
    "shape": (torch.zeros(4, 3, 28, 28), "does not accept"),
    "mixed": ([torch.zeros(4, 1, 28, 28), torch.zeros(4, 1, 32, 32)], "differ in shape"),
    "none": (None, "None"),
    "with labels": ([(torch.zeros(4, 1, 28, 28), torch.zeros(4))], "not tuple"),
}


@pytest.mark.parametrize("case", _BAD_CALIBRATION)
def test_calibration_is_checked_first(case):
    data, message = _BAD_CALIBRATION[case]
    with pytest.raises(QuantizationError, match=message):
        quantize_static(SmallCNN(), data)


_BAD_OPTIONS = {
    "bits": ({"weight_bits": 1}, "weight_bits=1"),
    "bits of a layer": ({"weight_bits": {"fc": 9}}, "'fc'"),
    "unknown layer": ({"weight_bits": {"fc9": 4}}, "fc9.*conv1"),
    "activation bits": ({"activation_bits": 9}, "activation_bits=9"),
    "observer": ({"observer": "best"}, "minmax"),
    "no observer": ({"observer": 3}, "observer=3"),
    "codes of nothing": ({"weight_codes": {"x": (torch.zeros(1), torch.ones(1))}}, "weight_codes"),
    "codes of a shape": (
        {"weight_codes": {"fc": (torch.zeros(1, dtype=torch.int8), torch.ones(1))}},
        "shape",
    ),
    "grids": ({"grids": {"nowhere": Grid(1.0, 0)}}, "nowhere"),
}


@pytest.mark.parametrize("case", _BAD_OPTIONS)
def test_options_are_checked(case):
    options, message = _BAD_OPTIONS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        quantize_static(SmallCNN(), inputs((1, 28, 28), 2), **options)


def test_bits_of_numpy_are_bits_and_can_be_saved(tmp_path):
    model, x = network("lenet300")
    plain = quantize_static(model, x, weight_bits=5, activation_bits=6)
    static = quantize_static(model, x, weight_bits=np.int64(5), activation_bits=np.uint8(6))
    assert torch.equal(static(x), plain(x))
    assert static.save(tmp_path / "numpy") == plain.save(tmp_path / "plain")


class Bounded(nn.Module):
    """A ReLU6 that nothing but a grid of its own could stand for: a concatenation widens it, and the end has none."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.end = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(6, 2, 4)
        with torch.no_grad():
            for layer in (self.a, self.b, self.end):
                layer.weight.mul_(20)

    def forward(self, x):
        return F.relu6(self.end(torch.cat([F.relu6(self.a(x)), self.b(x)], 1)))


def test_a_relu6_clamps_at_six_wherever_it_stands():
    model, x = Bounded().eval(), inputs((1, 6, 6), 64)
    static = quantize_static(model, x)
    values = static.simulate(x, every=True)
    assert values["a"].max() > 5 and values["relu6"].max() < 6.5 < values["b"].max()  # to the nearest level
    with torch.no_grad():
        assert _error(static(x), model(x)) < 0.1
    assert static.integers(x).max() <= 6 + static.steps[-1].grid.scale / 2


def test_a_given_grid_beyond_six_is_refused_where_a_relu6_needs_its_end():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU6(), nn.Linear(6, 3)).eval(), inputs((4,))
    with torch.no_grad():
        model[0].weight.mul_(10)
    for top, bits in ((10, 8), (6.1, 8)):
        with pytest.raises(ValueError, match=r"grids\['_0'\] ends at .* a ReLU6"):
            quantize_static(model, x, grids={"_0": Grid(top / (2**bits - 1), 0, bits)})
    for top, bits in ((6, 8), (4, 8), (6.9, 2)):  # with 2 bits 6 is nearest to 6.9: the end clamps
        static = quantize_static(model, x, grids={"_0": Grid(top / (2**bits - 1), 0, bits)})
        hidden = static.simulate(x, every=True)["_0"][model[0](x) > 7]
        assert hidden.numel() and hidden.eq(static.grids["_0"].fake_quantize(torch.tensor(6.0))).all()


def test_codes_given_are_checked():
    weight = torch.zeros(3, 2)
    good = torch.full((3, 2), 7, dtype=torch.int8)
    assert checked_codes("fc", (good, torch.tensor(0.1)), weight, 4)[1].tolist() == pytest.approx([0.1] * 3)
    for codes, scale in ((good + 1, torch.ones(3)), (good, torch.zeros(3)), (good.float(), torch.ones(3))):
        with pytest.raises(ValueError, match="'fc'"):
            checked_codes("fc", (codes, scale), weight, 4)


def test_weights_that_are_not_finite_are_refused_by_name():
    model, x = network("lenet300")
    model.fc2.weight.data[0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="fc2"):
        quantize_static(model, x, observer="minmax")


def test_other_inputs_than_calibrated_are_refused():
    static = quantize_static(*network("lenet300"), observer="minmax")
    for bad in (torch.zeros(0, 1, 28, 28), torch.zeros(2, 1, 14, 14)):
        with pytest.raises(QuantizationError, match="example"):
            static.integers(bad)
        with pytest.raises(QuantizationError, match="example"):
            static(bad)


def test_the_batch_size_does_not_matter():
    model, x = network("lenet300", count=70)  # more than one batch inside
    static = quantize_static(model, iter([x[:30], x[30:]]), observer="minmax")
    assert torch.equal(static.integers(x), torch.cat([static.integers(x[:1]), static.integers(x[1:])]))
    assert static(x).shape == (70, 10) and set(static.simulate(x[:2], every=True)) == {
        "input",
        *(step.name for step in static.steps),
    }


def test_calibration_helpers():
    assert [
        len(b) for b in calibration_batches([torch.zeros(2, 3), torch.zeros(0, 3), torch.zeros(1, 3)])
    ] == [2, 1]
    assert observer_factory("minmax") is MinMaxObserver is observer_factory(MinMaxObserver)
    graph = prepare(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
    source, layers = plan(graph)
    graph.get_submodule("0").bias.data.fill_(float("inf"))
    with pytest.raises(QuantizationError, match="'_0' gives NaN or infinite"):
        choose_grids(graph, [source, layers[0]], [torch.zeros(1, 2)], observer="minmax", bits=8)


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": 0.0},
        {"scale": float("inf")},
        {"zero_point": 16},
        {"zero_point": 0.5},
        {"bits": 9},
        {"bits": 1},
        {"bits": 4.0},
    ],
)
def test_a_grid_out_of_range_is_refused(bad):
    with pytest.raises(ValueError):
        Grid(**({"scale": 1.0, "zero_point": 0, "bits": 4} | bad))


def test_a_network_of_no_layers_is_refused_and_one_that_ends_in_relu_is_not():
    with pytest.raises(QuantizationError, match="no layer"):
        quantize_static(nn.Sequential(nn.Identity()), inputs((3,)))
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), inputs((3,))
    static = quantize_static(model, x, observer="minmax")
    assert static.steps[-1].grid is None and static.integers(x).min() == 0
    with torch.no_grad():
        assert _error(static.integers(x), model(x)) < 0.02


def test_it_can_be_evaluated_like_a_module():
    model, x = network("small-cnn")
    labels = model(x).argmax(1)
    assert evaluate(quantize_static(model, x), x, labels) >= 0.9  # the default observer
