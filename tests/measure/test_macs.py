"""The formulas against torch's flop counter, which counts one level lower: FLOPs = 2 * MACs."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from dca_lab import models
from dca_lab.measure import LayerCost, count_macs, macs_per_layer, trace
from dca_lab.measure.formulas import LAYERS, function_macs, layer_formula


def flops(model, *inputs):
    """The oracle. Attention and recurrent layers take their plain paths: it cannot see into fused ones."""
    model.eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
        with FlopCounterMode(display=False) as counter:
            model(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_agrees_with_the_flop_counter(name, batch):
    model, x = models.build(name, seed=0), models.example_input(name, batch)
    counted = flops(model, x)
    assert counted > 0
    assert 2 * count_macs(model, x) == counted


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_random_convolutions_agree_with_the_flop_counter(data):
    draw = data.draw
    dims, transposed = draw(st.sampled_from([1, 2])), draw(st.booleans())
    groups = draw(st.sampled_from([1, 2, 3]))
    options = dict(
        kernel_size=draw(st.integers(1, 4)),
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )
    kinds = {
        (1, False): nn.Conv1d,
        (2, False): nn.Conv2d,
        (1, True): nn.ConvTranspose1d,
        (2, True): nn.ConvTranspose2d,
    }
    layer = kinds[dims, transposed](
        groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), **options
    )
    x = torch.zeros(
        draw(st.integers(1, 2)), layer.in_channels, *[draw(st.integers(8, 11)) for _ in range(dims)]
    )
    assert 2 * count_macs(layer, x) == flops(layer, x)


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from([nn.RNN, nn.GRU, nn.LSTM]),
    inputs=st.integers(1, 6),
    hidden=st.integers(2, 7),
    layers=st.integers(1, 3),
    both=st.booleans(),
    first=st.booleans(),
    project=st.booleans(),
)
def test_recurrent_layers_agree_with_the_flop_counter(kind, inputs, hidden, layers, both, first, project):
    extra = {"proj_size": hidden - 1} if project and kind is nn.LSTM else {}
    model = kind(inputs, hidden, layers, bidirectional=both, batch_first=first, **extra)
    x = torch.zeros(4, 3, inputs)
    assert 2 * count_macs(model, x) == flops(model, x)


@settings(deadline=None, max_examples=25)
@given(
    heads=st.integers(1, 3),
    length=st.integers(1, 6),
    source=st.integers(1, 6),
    first=st.booleans(),
    own_widths=st.booleans(),
    bias_kv=st.booleans(),
    zero=st.booleans(),
)
def test_multihead_attention_agrees_with_the_flop_counter(
    heads, length, source, first, own_widths, bias_kv, zero
):
    width, batch = 4 * heads, 2
    widths = {"kdim": 5, "vdim": 7} if own_widths else {}
    layer = nn.MultiheadAttention(
        width, heads, batch_first=first, add_bias_kv=bias_kv, add_zero_attn=zero, **widths
    )
    shape = (lambda n, d: (batch, n, d)) if first else (lambda n, d: (n, batch, d))
    q = torch.zeros(shape(length, width))
    k = torch.zeros(shape(source, layer.kdim))
    v = torch.zeros(shape(source, layer.vdim))
    # gradients on: without them a fused kernel runs, which the counter cannot see into
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        layer(q, k, v)
    assert 2 * count_macs(layer, (q, k, v)) == counter.get_total_flops()


def test_packed_sequences_count_only_their_own_steps():
    layer = nn.GRU(3, 5)
    packed = pack_padded_sequence(torch.zeros(7, 2, 3), [7, 4])
    assert count_macs(layer, packed) == (7 + 4) * 3 * 5 * (3 + 5)


def test_cells_and_bilinear():
    assert count_macs(nn.LSTMCell(3, 5), torch.zeros(2, 3)) == 2 * 4 * 5 * (3 + 5)
    layer = nn.Bilinear(3, 4, 5)
    assert count_macs(layer, (torch.zeros(2, 3), torch.zeros(2, 4))) == 2 * 5 * (3 * 4 + 4)


class Products(nn.Module):
    """Every way to write the same product of (2, 4, 6) and (2, 6, 5)."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, a, b):
        return {
            "operator": lambda: a @ b,
            "reflected": lambda: b.__rmatmul__(a),
            "matmul": lambda: torch.matmul(a, other=b),
            "method": lambda: a.matmul(b),
            "bmm": lambda: torch.bmm(a, b),
            "baddbmm": lambda: torch.baddbmm(torch.zeros(1), a, b),
            "einsum": lambda: torch.einsum("bij, bjk -> bik", a, b),
            "einsum list": lambda: torch.einsum("bij,bjk->bik", [a, b]),
            "linear": lambda: torch.stack([F.linear(x, weight=y.T) for x, y in zip(a, b, strict=True)]),
            "mm": lambda: torch.stack([x.mm(y) for x, y in zip(a, b, strict=True)]),
            "addmm": lambda: torch.stack(
                [torch.addmm(x.new_zeros(1), x, y) for x, y in zip(a, b, strict=True)]
            ),
            "mv": lambda: torch.stack([torch.stack([x.T @ r for r in y]) for x, y in zip(b, a, strict=True)]),
        }[self.how]()


@pytest.mark.parametrize(
    "how",
    "operator,reflected,matmul,method,bmm,baddbmm,einsum,einsum list,linear,mm,addmm,mv".split(","),
)
def test_bare_products_are_seen(how):
    a, b = torch.zeros(2, 4, 6), torch.zeros(2, 6, 5)
    model = Products(how)
    assert torch.allclose(model(a + 1, b + 2), torch.full((2, 4, 5), 12.0))
    assert count_macs(model, (a, b)) == 2 * 4 * 6 * 5


def test_functional_convolutions_agree_with_the_flop_counter():
    class Functional(nn.Module):
        def forward(self, x, w, t):
            return F.conv_transpose2d(F.conv2d(x, w, stride=2), t, stride=2)

    inputs = torch.zeros(2, 3, 9, 9), torch.zeros(4, 3, 3, 3), torch.zeros(4, 2, 2, 2)
    assert 2 * count_macs(Functional(), inputs) == flops(Functional(), *inputs)


@pytest.mark.parametrize("call", [lambda x: torch.tensordot(x, x, 2), lambda x: torch.cdist(x, x)])
def test_a_product_without_formula_is_an_error_and_not_a_zero(call):
    class Odd(nn.Module):
        def forward(self, x):
            return call(x)

    with pytest.raises(ValueError, match="no formula"):
        count_macs(Odd(), torch.zeros(3, 3))


def test_names_repeats_and_embeddings():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 4)
            self.step = nn.Linear(4, 4)

        def forward(self, tokens):
            x = self.table(tokens)
            x = self.step(self.step(x))
            return F.scaled_dot_product_attention(x, x, x)

    expected = {"table": 0, "step": 2 * 5 * 16, "scaled_dot_product_attention": 2 * 5 * 5 * 4}
    assert macs_per_layer(Twice(), torch.zeros(1, 5, dtype=torch.long)) == expected
    inside = macs_per_layer(nn.Sequential(nn.Identity(), Twice()), torch.zeros(1, 5, dtype=torch.long))
    assert set(inside) == {"1.table", "1.step", "1.scaled_dot_product_attention"}


def test_attention_counts_scores_and_weighted_sum_with_wider_values():
    class Attend(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, value=v)

    q, k, v = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 4)
    assert count_macs(Attend(), (q, k, v)) == 2 * 3 * 5 * 7 * (8 + 4)
    assert 2 * count_macs(Attend(), (q, k, v)) == flops(Attend(), q, k, v)


def test_masks_do_not_change_the_count_and_the_model_is_left_alone():
    model = models.build("small-cnn", seed=0).train()
    model.eval()
    next(model.modules()).training = True  # a mixture of modes must survive
    before = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    x = models.example_input("small-cnn", 2)
    dense = count_macs(model, x)
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert count_macs(model, x) == dense


def test_hooks_are_removed_when_the_model_fails():
    model = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError):
        count_macs(model, torch.zeros(1, 5))
    assert not model[0]._forward_hooks
    seen = []

    class See(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with See():
        torch.ones(2).add(1)
    assert seen  # torch functions are not left disabled
    assert count_macs(model, torch.zeros(1, 3)) == 12


def test_transformer_layer_of_torch_is_not_hidden_by_its_fast_path():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    projections, attention, mlp = 4 * 5 * 64, 2 * 5 * 5 * 8, 2 * 5 * 8 * 16
    assert count_macs(layer, torch.zeros(1, 5, 8)) == projections + attention + mlp


class Adapted(nn.Linear):
    """A linear layer with a low-rank path beside it, as a subclass."""

    def __init__(self, inputs, outputs, rank):
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, rank), nn.Linear(rank, outputs)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


def test_a_subclass_with_its_own_forward_is_watched_inside():
    layer, x = Adapted(8, 6, 2), torch.zeros(3, 8)
    assert macs_per_layer(layer, x) == {"linear": 3 * 48, "down": 3 * 16, "up": 3 * 12}
    assert 2 * count_macs(layer, x) == flops(layer, x)


def test_what_multiplies_nothing_has_no_formula():
    assert (
        layer_formula(nn.ReLU())
        is layer_formula(nn.BatchNorm2d(3))
        is layer_formula(Adapted(2, 2, 1))
        is None
    )
    assert function_macs("relu", (torch.zeros(3),), torch.zeros(3)) is None
    with pytest.raises(ValueError, match="two operands"):
        function_macs("einsum", ("...i,...i->...", torch.zeros(3), torch.zeros(3)), torch.zeros(()))
    assert LayerCost("n", "k", macs=3, weight_bytes=0, activation_bytes=0, seconds=0.0).intensity == 0.0


def test_a_registered_formula_stands_for_the_whole_inside(monkeypatch):
    monkeypatch.setitem(LAYERS, Adapted, lambda layer, inputs, output: 7)
    rows = macs_per_layer(nn.Sequential(Adapted(8, 6, 2), nn.Linear(6, 2)), torch.zeros(3, 8))
    assert rows == {"0": 7, "1": 3 * 12}


def test_parametrised_layers_keep_their_formula():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
    assert macs_per_layer(layer, torch.zeros(3, 8)) == {"": 3 * 48}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_script_modules_and_functions_are_refused():
    with pytest.raises(ValueError, match="ScriptModule"):
        count_macs(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="torch.nn.Module"):
        count_macs(torch.relu, torch.zeros(1))


def test_trace_gives_bytes_and_order():
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 5))
    ticks = iter(range(1000))
    rows = trace(model, torch.zeros(4, 2, 8, 8), clock=lambda: float(next(ticks)))
    assert [(row.name, row.kind) for row in rows] == [("0", "Conv2d"), ("3", "Linear")]
    assert rows[0].weight_bytes == 4 * 3 * 2 * 9
    assert rows[0].activation_bytes == 4 * 4 * (2 * 64 + 3 * 36)
    assert rows[1].bytes == 4 * (5 * 108 + 5) + 4 * 4 * (108 + 5)
    assert rows[1].intensity == pytest.approx(2 * 4 * 108 * 5 / rows[1].bytes)
    assert all(
        row.seconds == 1.0 for row in rows
    )  # nothing reads the clock between a layer's start and its end
