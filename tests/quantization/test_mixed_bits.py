"""Sensitivity to bits against quantizing by hand; the allocation against brute force over all of them."""

import copy
import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn
from torch.nn import functional as F

from dca_lab.models import SmallCNN, TransformerLM
from dca_lab.quantization.affine import affine_params, fake_quantize
from dca_lab.quantization.bit_sensitivity import divergence, packed_bytes, rounded_weight, squared_error
from dca_lab.quantization.mixed_bits import BitSensitivity, allocate_bits, bit_sensitivity
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.static_file import save_static


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def small_cnn():
    return seeded(lambda: SmallCNN(channels=(4, 8)))


def images(n=40):
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def by_hand(weight, bits):
    rows = []
    for row in weight:  # one scale a channel, from its largest magnitude
        scale, zero = affine_params(-row.abs().max(), row.abs().max(), bits, True)
        rows.append(fake_quantize(row, scale, zero, bits=bits, symmetric=True))
    return torch.stack(rows)


@pytest.mark.parametrize("cost", ["divergence", "squared_error"])
def test_each_entry_is_one_layer_quantized_alone(cost):
    model, x = small_cnn(), images()
    state = copy.deepcopy(model.state_dict())
    result = bit_sensitivity(model, x, bits=(2, 4), cost=cost, batch_size=16)
    assert list(result) == ["conv1", "conv2", "fc"] and len(result) == 3 and model.training
    with torch.no_grad():
        reference = copy.deepcopy(model).eval()(x)
    for name, row in result.items():
        for b, found in zip((2, 4), row, strict=True):
            other = copy.deepcopy(model).eval()
            layer = other.get_submodule(name)
            layer.weight.data = by_hand(layer.weight.detach(), b)
            with torch.no_grad():
                logits = other(x)
            if cost == "divergence":
                expected = F.kl_div(logits.log_softmax(1), reference.softmax(1), reduction="batchmean")
            else:
                expected = (logits - reference).square().sum() / reference.square().sum()
            assert found == pytest.approx(float(expected), rel=1e-3, abs=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))


def test_costs_fall_with_the_bits_and_sizes_are_packed_bytes():
    model = small_cnn()
    result = bit_sensitivity(model, images(), bits=(2, 4, 8), cost="squared_error")
    for name, row in result.items():
        assert row[0] > row[1] > row[2]
        weight = model.get_submodule(name).weight
        assert result.sizes[name].tolist() == [
            math.ceil(weight.numel() * b / 8) + 4 * len(weight) for b in (2, 4, 8)
        ]
    assert packed_bytes(torch.zeros(3, 3), 3) == 4 + 12  # 27 bits need four bytes
    assert result.bytes_of({"conv1": 2, "fc": 8}) == result.sizes["conv1"][0] + result.sizes["fc"][2]
    assert result.cost_of({"conv1": 2, "fc": 8}) == pytest.approx(result["conv1"][0] + result["fc"][2])


def test_language_model_with_a_group_wise_quantizer_on_named_layers():
    model = seeded(lambda: TransformerLM(vocabulary=50, width=32, heads=4, layers=2))
    tokens = torch.randint(0, 50, (6, 16), generator=torch.Generator().manual_seed(0))
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][:3]
    seen = []

    def group_wise(weight, bits):
        seen.append((weight.shape, bits))
        return torch.cat([rounded_weight(part, bits) for part in weight.split(16, 1)], 1)

    def size(weight, bits):
        return weight.numel() * bits // 8 + weight.numel() // 16 * 2

    result = bit_sensitivity(model, [tokens[:2], tokens[2:]], layers=names, quantize=group_wise, size=size)
    assert list(result) == names and len(seen) == 3 * 5 and result.bits == (2, 3, 4, 6, 8)
    assert all((row >= 0).all() and row[0] > row[-1] for row in result.values())
    weight = model.get_submodule(names[0]).weight
    assert result.sizes[names[0]][0] == weight.numel() // 4 + weight.numel() // 8


def test_the_loss_itself_can_be_the_cost():
    model, x = small_cnn(), images()
    y = torch.arange(40) % 10
    result = bit_sensitivity(
        model, x, bits=(2,), cost=lambda _, outputs: float(F.cross_entropy(outputs, y)), layers=["fc"]
    )
    other = copy.deepcopy(model).eval()
    other.fc.weight.data = by_hand(other.fc.weight.detach(), 2)
    with torch.no_grad():
        assert result["fc"][0] == pytest.approx(float(F.cross_entropy(other(x), y)), rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5))
def test_costs_are_zero_for_equal_outputs_and_positive_else(seed, shift):
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(seed))
    assert divergence(logits, logits) == 0 == squared_error(logits, logits)
    assert divergence(logits, logits + shift) == pytest.approx(0, abs=1e-9)  # a softmax sees no shift
    assert divergence(logits, -logits) > 0 and squared_error(logits, -logits) == pytest.approx(4)


BITS = (2, 3, 4, 8)


@st.composite
def tables(draw):
    names = [f"layer {i}" for i in range(draw(st.integers(1, 5)))]
    # a few values, so that ties are common; costs need not fall with the bits
    row = st.lists(st.one_of(st.floats(-1, 5), st.integers(0, 3).map(float)), min_size=4, max_size=4)
    costs = {name: np.array(draw(row)) for name in names}
    weights = {name: draw(st.integers(1, 60)) for name in names}
    sizes = {n: np.array([math.ceil(w * b / 8) + 4 for b in BITS]) for n, w in weights.items()}
    return BitSensitivity(BITS, costs, sizes)


def brute_force(table, budget):
    best = math.inf
    for choice in product(BITS, repeat=len(table)):
        allocation = dict(zip(table, choice, strict=True))
        if table.bytes_of(allocation) <= budget:
            best = min(best, table.cost_of(allocation))
    return best


@settings(deadline=None, max_examples=50)
@given(table=tables(), share=st.floats(0, 1.1))
def test_no_allocation_within_the_budget_costs_less(table, share):
    least, most = (table.bytes_of(dict.fromkeys(table, b)) for b in (2, 8))
    budget = round(least + share * (most - least))
    chosen = allocate_bits(table, budget_bytes=budget)
    assert list(chosen) == list(table) and table.bytes_of(chosen) <= budget
    assert table.cost_of(chosen) == pytest.approx(brute_force(table, budget), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(table=tables())
def test_a_larger_budget_never_costs_more(table):
    least, most = (table.bytes_of(dict.fromkeys(table, b)) for b in (2, 8))
    costs = [
        table.cost_of(allocate_bits(table, budget_bytes=budget))
        for budget in range(least, most + 1, max(1, (most - least) // 7))
    ]
    assert all(later <= earlier + 1e-9 for earlier, later in zip(costs, costs[1:], strict=False))


def integer_program(table, budget):
    """The least cost by scipy's branch and bound: one choice a layer, all bytes within the budget."""
    cost, size = (np.concatenate([rows[n] for n in table]) for rows in (table.costs, table.sizes))
    one_each = np.kron(np.eye(len(table)), np.ones(len(table.bits)))
    rules = [LinearConstraint(one_each, 1, 1), LinearConstraint(size[None], 0, budget)]
    found = milp(
        cost,
        constraints=rules,
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    assert found.success
    return found.fun


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_layers_stay_exact_and_beat_uniform_bits(seed):
    g = np.random.default_rng(seed)
    bits = (2, 3, 4, 6, 8)
    weights = {f"layer {i}": int(n) for i, n in enumerate(g.integers(100, 300_000, 21))}
    sizes = {n: np.array([math.ceil(w * b / 8) for b in bits]) for n, w in weights.items()}
    costs = {n: 1000 * g.lognormal(0, 2) * 4.0 ** -np.array(bits) for n in weights}
    table = BitSensitivity(bits, costs, sizes)
    budget = table.bytes_of(dict.fromkeys(table, 4))
    chosen = allocate_bits(table, budget_bytes=budget)
    assert table.bytes_of(chosen) <= budget
    assert table.cost_of(chosen) < table.cost_of(dict.fromkeys(table, 4))
    assert table.cost_of(chosen) == pytest.approx(integer_program(table, budget), rel=1e-6)


class Shortcuts(nn.Module):
    """Equal layers of unequal weight: each block adds a tenth of what the one before adds."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        for i, block in enumerate(self.blocks):
            nn.init.normal_(block.weight, std=0.3 * 0.1**i)

    def forward(self, x):
        for block in self.blocks:
            x = x + F.relu(block(x))
        return x


def test_an_allocation_runs_in_integers_and_beats_uniform_bits_of_the_same_bytes(tmp_path):
    model = seeded(Shortcuts)
    generator = torch.Generator().manual_seed(2)
    x, held_out = torch.randn(300, 32, generator=generator), torch.randn(300, 32, generator=generator)
    table = bit_sensitivity(model, x, bits=(2, 3, 4, 5, 6, 8), cost="squared_error")
    budget = table.bytes_of(dict.fromkeys(table, 4))
    chosen = allocate_bits(table, budget_bytes=budget)
    with torch.no_grad():
        reference = model(held_out)
    error = {}
    for name, bits in (("uniform", dict.fromkeys(table, 4)), ("chosen", chosen)):
        static = quantize_static(model, x, weight_bits=bits)
        error[name] = squared_error(reference, static.integers(held_out))
        assert list(static.weight_bits.values()) == list(bits.values())
        save_static(static, tmp_path / name)
    assert list(chosen.values()) == sorted(chosen.values(), reverse=True) and chosen["blocks.0"] > 4
    assert error["chosen"] < 0.5 * error["uniform"]
    assert (tmp_path / "chosen").stat().st_size <= (tmp_path / "uniform").stat().st_size + 64  # padding


def test_bad_input_is_refused():
    model, x = small_cnn(), images(4)
    with pytest.raises(ValueError, match="bits must hold"):
        bit_sensitivity(model, x, bits=())
    with pytest.raises(ValueError, match="cost='kl'"):
        bit_sensitivity(model, x, cost="kl")
    with pytest.raises(ValueError, match="'bn9'"):
        bit_sensitivity(model, x, layers=["bn9"])
    with pytest.raises(ValueError, match="'bn1'"):
        bit_sensitivity(model, x, layers=["bn1"])
    with pytest.raises(ValueError, match="no convolution"):
        bit_sensitivity(nn.Flatten(), x)
    with pytest.raises(ValueError, match="no example"):
        bit_sensitivity(model, x[:0])
    with pytest.raises(ValueError, match="NaN"):
        bit_sensitivity(model, torch.full((2, 1, 28, 28), math.nan))
    with pytest.raises(ValueError, match="calibration is NoneType"):
        bit_sensitivity(model, None)
    before = copy.deepcopy(model.state_dict())
    for cost in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"the cost of 'conv1' at 2 bits is {cost}"):
            bit_sensitivity(model, x, cost=lambda a, b, cost=cost: cost)
    with pytest.raises(ValueError, match="shape"):
        bit_sensitivity(model, x, quantize=lambda w, b: w[:1])
    with pytest.raises(RuntimeError):
        bit_sensitivity(model, x, cost=_fails)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


def _fails(reference, outputs):
    raise RuntimeError("a cost that fails must leave the model as it was")


def test_an_impossible_budget_says_what_is_possible():
    table = BitSensitivity((2, 8), {"a": np.ones(2)}, {"a": np.array([100, 400])})
    assert allocate_bits(table, budget_bytes=100) == {"a": 2}
    with pytest.raises(ValueError, match="below 100, the least"):
        allocate_bits(table, budget_bytes=99)
    with pytest.raises(ValueError, match="NaN"):
        allocate_bits(BitSensitivity((2,), {"a": np.array([np.nan])}, {"a": np.array([1])}), budget_bytes=9)
