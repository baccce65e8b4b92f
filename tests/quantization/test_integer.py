"""Integer execution against exact rational arithmetic, and simulation against integers, step by step."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from static_networks import MAKERS, network
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dca_lab.quantization.integer import integer_layer, integer_step, multipliers
from dca_lab.quantization.products import exact_product
from dca_lab.quantization.saturation import saturating_product
from dca_lab.quantization.simulate import simulate_step
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.steps import Grid, Step

# A multiplier has a relative error of 2^-31 and float32 sums one of about 2^-22: a value this close to halfway
# between two levels, in levels, may be rounded to either.
_NEAR_A_TIE = 1e-3


def _exact(step, inputs, sources):
    """Real-valued output in units of the output's scale, computed with fractions of integers: (values, shape)."""
    s = [Fraction(grid.scale) for grid in sources]
    out = Fraction(step.grid.scale)
    centred = [(x.long() - g.zero_point).tolist() for x, g in zip(inputs, sources, strict=True)]
    if step.op == "add":
        return [(a * s[0] + b * s[1]) / out for a, b in zip(*centred, strict=True)]
    if step.op == "relu":
        return [max(Fraction(0), a * s[0] / out) for a in centred[0]]
    if step.op == "linear":
        values = []
        for row, scale, bias in zip(
            step.weight.tolist(), step.weight_scale.tolist(), step.bias.tolist(), strict=True
        ):
            total = sum(w * x for w, x in zip(row, centred[0], strict=True)) + bias
            values.append(total * s[0] * Fraction(scale) / out)
        return values
    raise AssertionError(step.op)


def _rounded(values, step):
    lowest = step.grid.zero_point if step.relu else 0
    return [min(max(round(v) + step.grid.zero_point, lowest), step.grid.highest) for v in values]


def _near_tie(value):
    return abs(value % 1 - Fraction(1, 2)) < Fraction(1, 10**5)


scales = st.floats(1e-4, 10.0).map(lambda v: torch.tensor(v, dtype=torch.float32).item())
grids = st.builds(Grid, scale=scales, zero_point=st.integers(0, 15), bits=st.sampled_from([4, 8]))


@given(a=grids, b=grids, out=grids, relu=st.booleans(), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_addition_equals_fractions(a, b, out, relu, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randint(0, g.highest + 1, (1, 20), generator=generator).to(torch.uint8) for g in (a, b)]
    step = Step("add", "add", ("a", "b"), out, relu=relu)
    values = _exact(step, [x[0] for x in inputs], [a, b])
    result = integer_step(step, inputs, [a, b])[0].tolist()
    for got, wanted, value in zip(result, _rounded(values, step), values, strict=True):
        assert got == wanted or (_near_tie(value) and abs(got - wanted) == 1)


@given(source=grids, out=grids, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_relu_equals_fractions(source, out, seed):
    x = torch.arange(source.highest + 1).to(torch.uint8)[None]
    step = Step("relu", "relu", ("a",), out)
    values = _exact(step, [x[0]], [source])
    for got, wanted, value in zip(
        integer_step(step, [x], [source])[0].tolist(), _rounded(values, step), values, strict=True
    ):
        assert got == wanted or (_near_tie(value) and abs(got - wanted) == 1)


@given(source=grids, out=grids, relu=st.booleans(), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_linear_equals_fractions(source, out, relu, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, source.highest + 1, (1, 7), generator=generator).to(torch.uint8)
    weight = torch.randint(-127, 128, (5, 7), generator=generator).to(torch.int8)
    bias = torch.randint(-9000, 9000, (5,), generator=generator).to(torch.int32)
    weight_scale = torch.rand(5, generator=generator) / 100 + 1e-4
    step = Step("fc", "linear", ("input",), out, weight, weight_scale, bias, relu)
    values = _exact(step, [x[0]], [source])
    for got, wanted, value in zip(
        integer_step(step, [x], [source])[0].tolist(), _rounded(values, step), values, strict=True
    ):
        assert got == wanted or (_near_tie(value) and abs(got - wanted) == 1)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("bits", [8, 4])
def test_each_step_simulated_on_the_integers_inputs_differs_by_a_tie_at_most(name, bits):
    model, x = network(name, count=4)
    static = quantize_static(model, x, observer="minmax", activation_bits=bits, weight_bits=bits)
    found = static.integers(x, every=True)
    for step in static.steps:
        inputs = [static.real(source, found[source]) for source in step.inputs]
        simulated = simulate_step(step, inputs, static.sources(step))
        levels = found[step.name]
        if step.grid is None:
            assert levels.dtype == torch.int32
            real = static.real(step.name, levels)
            assert torch.allclose(simulated, real, rtol=1e-5, atol=1e-5 * real.abs().max().item())
            continue
        assert levels.dtype == torch.uint8 and int(levels.max()) <= step.grid.highest
        difference = step.grid.quantize(simulated).int() - levels.int()
        assert difference.abs().max() <= 1
        if difference.any() and step.op not in ("lookup", "cat"):
            exact = _unrounded(step, inputs, static.sources(step)) / step.grid.scale
            assert ((exact % 1 - 0.5).abs()[difference != 0] < _NEAR_A_TIE).all(), step.name


def _unrounded(step, inputs, sources):
    """What a step computes before its output is rounded, in float64."""
    from dca_lab.quantization import simulate

    wide = [x.double() for x in inputs]
    if step.weight is not None:
        scale = step.weight_scale.double()
        weight = step.weight.double() * scale.reshape(-1, *[1] * (step.weight.dim() - 1))
        bias = None if step.bias is None else step.bias.double() * scale * sources[0].scale
        if step.op == "linear":
            return nn.functional.linear(wide[0], weight, bias)
        top, bottom, left, right = step.attributes["padding"]
        settings = {key: step.attributes[key] for key in ("stride", "dilation", "groups")}
        padded = nn.functional.pad(wide[0], (left, right, top, bottom))
        return nn.functional.conv2d(padded, weight, bias, **settings)
    return simulate._OPS[step.op](step, wide, sources)


@pytest.mark.parametrize("name", ["small-cnn", "resnet18", "hardswish"])
def test_reduced_range_never_saturates(name):
    model, x = network(name, count=4)
    safe = quantize_static(model, x, observer="minmax", reduce_range=True)
    assert set(safe.weight_bits.values()) == {7}
    assert max(int(s.weight.abs().max()) for s in safe.steps if s.weight is not None) == 63
    exact, saturated = (safe.integers(x[:2], every=True, saturate=flag) for flag in (False, True))
    assert all(torch.equal(exact[key], saturated[key]) for key in exact)


def test_eight_bits_saturate_where_neighbours_are_large():
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 1.0, 1.0, -1.0]])
    x = torch.ones(2, 4)
    static = quantize_static(layer, x, observer="minmax")
    assert static.integers(x)[0].item() == pytest.approx(2.0, abs=0.02)
    # 255 * (127 + 127) is cut off at 32767; 255 * (127 - 127) is not
    expected = 32767 * static.input_grid.scale * static.steps[0].weight_scale.item()
    assert static.integers(x, saturate=True)[0].item() == pytest.approx(expected)
    assert expected < 1.1


def test_saturation_happens_before_the_zero_point_is_subtracted():
    weight = torch.full((1, 2), 127, dtype=torch.int8)
    source = Grid(1.0, zero_point=255)
    step = Step("fc", "linear", ("input",), None, weight, torch.ones(1), None)
    x = torch.full((1, 2), 255, dtype=torch.uint8)  # stands for 0: the sum should be 0
    assert integer_step(step, [x], [source]).item() == 0
    assert integer_step(step, [x], [source], saturate=True).item() == 32767 - 255 * 254
    assert saturating_product(x, weight).item() == 32767


class _NoFloat(TorchDispatchMode):
    """Fails at any operation that reads or makes a floating-point tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            assert not (isinstance(value, torch.Tensor) and value.is_floating_point()), func
        return result


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("saturate", [False, True])
def test_no_float_takes_part(name, saturate):
    model, x = network(name, count=1)
    static = quantize_static(model, x, observer="minmax")
    values = {"input": static.input_grid.quantize(x)}
    for step in static.steps:
        sources = static.sources(step)
        factors = multipliers(step, sources)
        inputs = [values[source] for source in step.inputs]
        with _NoFloat():
            values[step.name] = integer_step(step, inputs, sources, factors=factors, saturate=saturate)
    assert values[static.steps[-1].name].dtype in (torch.int32, torch.uint8)
    with pytest.raises(AssertionError), _NoFloat():
        torch.ones(1) + 1  # the guard itself works


def test_multipliers_are_the_ratios_of_the_scales():
    a, b, out = Grid(0.3, 0), Grid(7e-4, 9), Grid(0.011, 3)
    weight, weight_scale = torch.ones(2, 1, dtype=torch.int8), torch.tensor([0.02, 3e-6])
    linear = Step("fc", "linear", ("a",), out, weight, weight_scale)
    mean = Step("m", "mean", ("a",), out, attributes={"keepdim": False, "count": 49})
    for step, sources, reals in (
        (Step("s", "add", ("a", "b"), out), [a, b], [[0.3 / 0.011], [7e-4 / 0.011]]),
        (mean, [a], [[0.3 / 0.011 / 49]]),
        (linear, [b], [(7e-4 * weight_scale.double() / 0.011).tolist()]),
    ):
        found = [
            (mantissa.double() / 2.0**shift).reshape(-1) for mantissa, shift in multipliers(step, sources)
        ]
        # an addition's smaller factor has the shift of the larger one: 31 bits are those of the largest
        torch.testing.assert_close(
            found, [torch.tensor(r, dtype=torch.float64) for r in reals], rtol=0, atol=28 * 2.0**-31
        )
    assert multipliers(Step("f", "flatten", ("a",), a), [a]) == []
    assert multipliers(Step("fc", "linear", ("a",), None, weight, weight_scale), [a]) == []


def test_a_last_layer_gives_its_sums_as_plain_python_computes_them():
    weight, bias = torch.tensor([[127, -127, 1], [0, 3, -5]], dtype=torch.int8), torch.tensor([7, -9])
    x, source = torch.tensor([[255, 0, 13], [1, 2, 3]], dtype=torch.uint8), Grid(scale=0.5, zero_point=13)
    scale = torch.tensor([0.1, 0.2])
    step = Step(
        "fc", "linear", ("input",), None, weight=weight, weight_scale=scale, bias=bias.to(torch.int32)
    )
    wanted = []
    for levels in x.tolist():
        sums = [sum(w * (q - 13) for w, q in zip(row, levels, strict=True)) for row in weight.tolist()]
        wanted.append([sums[0] + 7, sums[1] - 9])
    found = integer_layer(step, x, source, [], exact_product)
    assert found.dtype == torch.int32 and found.tolist() == wanted
