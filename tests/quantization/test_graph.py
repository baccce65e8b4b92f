"""Tracing, exact simplification, and refusals that name the layer."""

import copy

import pytest
import torch
from static_networks import MAKERS, inputs, network
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from dca_lab.models import GRUClassifier, TransformerLM
from dca_lab.quantization.graph import Planned, QuantizationError, plan, prepare
from dca_lab.quantization.graph.fold import fold_all, fold_batchnorm
from dca_lab.quantization.graph.functions import FUNCTIONS, MATTERS, apply
from dca_lab.quantization.graph.ops import describe, kind, refuse_modules
from dca_lab.quantization.graph.settings import layer_name
from dca_lab.quantization.graph.tidy import drop_identities, name_flattenings, out_of_place, unshare


@pytest.mark.parametrize("name", MAKERS)
def test_a_prepared_network_computes_what_the_model_computes(name):
    model, x = network(name)
    before = copy.deepcopy(model.state_dict())
    graph = prepare(model.train(), x[:1])
    with torch.no_grad():
        expected = model.eval()(x)
        assert torch.allclose(graph(x), expected, atol=1e-5)
        assert torch.allclose(graph(x[:3]), expected[:3], atol=1e-5)  # any batch size
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    leaves = [m for m in graph.modules() if not list(m.children())]
    assert not [m for m in leaves if isinstance(m, (nn.BatchNorm2d, nn.Dropout, nn.Identity))]


@pytest.mark.parametrize("name", MAKERS)
def test_preparing_twice_changes_nothing(name):
    model, x = network(name)
    once = prepare(model, x)
    twice = prepare(once, x)
    assert [n.name for n in once.graph.nodes] == [n.name for n in twice.graph.nodes]
    assert torch.equal(once(x), twice(x)) and twice is not once


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 5, 2), nn.Conv2d(3, 5, 2, bias=False), nn.Linear(3, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_folding_equals_the_layer_and_the_norm(layer, affine):
    generator = torch.Generator().manual_seed(2)
    vectors = isinstance(layer, nn.Linear)
    norm = (nn.BatchNorm1d if vectors else nn.BatchNorm2d)(5, affine=affine).eval()
    norm.running_mean = torch.randn(5, generator=generator)
    norm.running_var = torch.rand(5, generator=generator) + 0.1
    if affine:
        norm.weight.data = torch.randn(5, generator=generator)
        norm.bias.data = torch.randn(5, generator=generator)
    x = torch.randn(7, 3, generator=generator) if vectors else torch.randn(7, 3, 4, 4, generator=generator)
    weight, bias = fold_batchnorm(layer.weight, layer.bias, norm)
    folded = F.linear(x, weight, bias) if vectors else F.conv2d(x, weight, bias)
    assert torch.allclose(folded, norm(layer(x)), atol=1e-5)


def test_a_norm_on_sequences_behind_a_linear_layer_is_not_folded_along_the_wrong_axis():
    class Sequences(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)

        def forward(self, x):
            return self.norm(self.fc(x))

    with pytest.raises(QuantizationError, match="'norm' follows no linear layer"):
        prepare(Sequences(), torch.zeros(2, 6, 4))
    assert prepare(Sequences(), torch.zeros(2, 4))(torch.zeros(3, 4)).shape == (3, 6)


class _One(nn.Module):
    """A network around one function; the named modules are its attributes."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


_REFUSED = {
    "branches on data": (_One(lambda s, x: x if x.sum() > 0 else -x), "cannot be traced.*branches"),
    "function of weights": (
        _One(lambda s, x: F.conv2d(x, s.conv.weight), conv=nn.Conv2d(1, 2, 3)),
        "'conv.weight'.*use a layer",
    ),
    "adds a constant": (_One(lambda s, x: x + 1), "'add'.*adds a constant"),
    "adds with broadcasting": (_One(lambda s, x: x + x.mean((2, 3), keepdim=True)), "unequal shape"),
    "multiplies": (_One(lambda s, x: x * x), "'mul'.*no integer form"),
    "joins examples": (_One(lambda s, x: torch.cat([x, x])), "'cat'.*joins examples"),
    "ceil mode": (_One(lambda s, x: F.max_pool2d(x, 3, ceil_mode=True)), "ceil_mode"),
    "uncounted padding": (nn.Sequential(nn.AvgPool2d(3, padding=1, count_include_pad=False)), "one size"),
    "unequal averages": (nn.Sequential(nn.AdaptiveAvgPool2d(5)), "'0'.*unequal size"),
    "mean of channels": (_One(lambda s, x: x.mean(1)), "height and width"),
    "mean of everything": (_One(lambda s, x: x.mean()), "height and width"),
    "reflecting": (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "'reflect'"),
    "batch statistics": (
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)),
        "statistics of its batch",
    ),
    "layer norm": (nn.Sequential(nn.LayerNorm(8)), "'0'.*LayerNorm.*dynamic"),
    "gru": (GRUClassifier(inputs=8), "'gru'.*dynamic"),
    "transformer": (TransformerLM(), "'token'.*dynamic"),
    "1-d convolution": (nn.Sequential(nn.Conv1d(1, 2, 3)), "Conv1d.*nn.Conv2d"),
    "softmax": (nn.Sequential(nn.Flatten(), nn.Softmax(1)), "return the logits"),
    "transpose": (_One(lambda s, x: x.transpose(1, 2)), "transpose"),
    "flatten too far": (_One(lambda s, x: x.flatten(2)), "flattening to"),
    "reshape across examples": (_One(lambda s, x: x.reshape(1, -1)), "reshape"),
    "two outputs": (_One(lambda s, x: (x, x)), "one output"),
    "another shape": (nn.Sequential(nn.Conv2d(5, 2, 3)), "does not accept an input of shape"),
    "no module": (lambda x: x, "expected a torch.nn.Module"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_what_has_no_integer_form_is_refused_by_name(case):
    model, message = _REFUSED[case]
    with pytest.raises(QuantizationError, match=f"(?s){message}"):
        prepare(model, torch.zeros(2, 1, 8, 8))


def test_an_input_that_does_not_fit_is_one_line_with_the_layer_and_what_it_wants(capfd):
    """ShapeProp of torch prints a traceback and raises another one."""
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    wanted = {
        (1, 9, 9): r"\(1, 1, 9, 9\).* layer '3' \(Linear\) wants \(..., 144\) and is given \(B, 196\)",
        (3, 8, 8): r"layer '0' \(Conv2d\) wants \(B, 1, H, W\) and is given \(B, 3, 8, 8\)",
    }
    cases = [(body, shape, message) for shape, message in wanted.items()]
    cases.append((_One(lambda s, x: x.view(x.shape[0], 5, 7)), (1, 9, 9), "'view'"))
    for model, shape, message in cases:
        with pytest.raises(QuantizationError, match=message) as caught:
            prepare(model, torch.zeros(2, *shape))
        assert "\n" not in str(caught.value) and caught.value.__suppress_context__
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("example", [torch.zeros(0, 1, 8, 8), torch.tensor(1.0), [1.0]])
def test_an_example_must_be_a_batch(example):
    with pytest.raises(QuantizationError, match="at least one example"):
        prepare(nn.Sequential(nn.Conv2d(1, 2, 3)), example)


def test_kinds_and_names():
    graph = prepare(network("hardswish")[0], inputs((3, 9, 9)))
    nodes = {n.name: n for n in graph.graph.nodes if n.op not in ("placeholder", "output")}
    assert {name: kind(node, graph) for name, node in nodes.items()} == {
        "stem": "conv2d",
        "hardswish": "lookup",
        "depthwise": "conv2d",
        "pointwise": "conv2d",
        "hardswish_1": "lookup",
        "add": "add",
        "mean": "mean",
        "fc": "linear",
    }
    assert describe(nodes["depthwise"], graph)[1]["padding"] == (1, 1, 1, 1)  # "same", resolved
    assert layer_name(nodes["stem"]) == "'stem'" and "hardswish" in layer_name(nodes["hardswish"])
    refuse_modules(graph)  # nothing to refuse


def test_equal_adaptive_windows_are_a_plain_pool():
    pool = prepare(nn.Sequential(nn.AdaptiveMaxPool2d((4, 2))), torch.zeros(1, 1, 8, 8))
    node = next(n for n in pool.graph.nodes if n.op == "call_module")
    op, settings = describe(node, pool)
    assert op == "max_pool2d" and settings["kernel_size"] == (2, 4) == settings["stride"]


def test_plan_of_the_residual_network():
    model, x = network("resnet18")
    source, layers = plan(prepare(model, x))
    by_name = {layer.name: layer for layer in layers}
    assert source.name == "input" and layers[0].inputs == ("input",)
    assert [layer.name for layer in layers if layer.is_output] == ["fc"] == [layers[-1].name]
    assert by_name["layer1_0_conv1"].relu and not by_name["layer1_0_conv2"].relu and by_name["add"].relu
    assert by_name["layer1_1_conv1"].inputs == ("add",)  # what the ReLU made is what the addition makes
    assert by_name["add_2"].inputs == ("layer2_0_conv2", "layer2_0_downsample_0")
    assert not [layer for layer in layers if layer.op == "relu"]


def test_plan_takes_a_relu_in_only_where_nobody_else_reads():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 1), nn.Linear(32, 3)

        def forward(self, x):
            y = self.conv(x)
            return self.fc((F.relu(y) + y).flatten(1))

    _, layers = plan(prepare(Two(), torch.zeros(1, 1, 4, 4)))
    assert [(layer.op, layer.relu) for layer in layers] == [
        ("conv2d", False), ("relu", False), ("add", False), ("flatten", False), ("linear", False)
    ]  # fmt: skip


def test_plan_follows_chains_and_knows_what_matters():
    _, layers = plan(prepare(*network("branches")))
    observed = {layer.name: layer.observed.name for layer in layers}
    assert observed["left"] == observed["right"] == observed["cat"] == "flatten"
    _, layers = plan(prepare(*network("hardswish")))
    matters = {layer.name: layer.matters for layer in layers}
    assert matters["stem"] == MATTERS["hardswish"] == matters["pointwise"]
    assert matters["depthwise"] == (-float("inf"), float("inf"))


@pytest.mark.parametrize("function", MATTERS)
def test_outside_of_what_matters_a_function_is_nearly_constant(function):
    low, high = MATTERS[function]
    x = torch.linspace(-50, 50, 20001)
    inside = x.clamp(low, high)
    assert function in FUNCTIONS
    assert (apply(function, x, {}) - apply(function, inside, {})).abs().max() < 2e-3


def test_shared_layers_become_two():
    graph = prepare(*network("inplace"))
    convs = [n.target for n in graph.graph.nodes if n.op == "call_module" and n.name.startswith("shared")]
    assert convs == ["shared", "shared_1"]
    assert not torch.equal(graph.shared.weight, graph.shared_1.weight)  # two batch-norms were folded in
    assert isinstance(graph, fx.GraphModule)


def _nodes(graph):
    return [n.target if isinstance(n.target, str) else n.target.__name__ for n in graph.graph.nodes][1:-1]


def test_identities_are_dropped():
    graph = fx.symbolic_trace(
        nn.Sequential(nn.Identity(), nn.Linear(2, 2), nn.Dropout(), nn.Dropout2d()).eval()
    )
    drop_identities(graph)
    assert _nodes(graph) == ["1"] and len(list(graph.children())) == 1


def test_in_place_operations_hand_their_result_to_later_readers():
    def forward(self, x):
        y = x * 1
        z = y + 0  # reads y before it is overwritten
        F.relu(y, inplace=True)
        y += 1
        return y - z

    model, x = _One(forward), torch.tensor([[-2.0, 3.0]])
    graph = fx.symbolic_trace(model)
    out_of_place(graph)
    assert torch.equal(graph(x.clone()), model(x.clone())) and torch.equal(
        graph(x), torch.tensor([[3.0, 1.0]])
    )
    assert x[0, 0] == -2
    relu = next(n for n in graph.graph.nodes if n.target is F.relu)
    assert [user.name for user in relu.users] == ["add_1"] and "iadd" not in _nodes(graph)


def test_unshare_keeps_what_has_no_state():
    act, layer = nn.ReLU(), nn.Linear(2, 2)
    graph = fx.symbolic_trace(nn.Sequential(layer, act, layer, act))
    unshare(graph)
    modules = [graph.get_submodule(n.target) for n in graph.graph.nodes if n.op == "call_module"]
    assert modules[0] is not modules[2] and modules[1] is modules[3]
    assert torch.equal(modules[0].weight, modules[2].weight)


@pytest.mark.parametrize(
    "reshape",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(-1, 12),
        lambda x: x.reshape(x.shape[0], 3 * 4),
        lambda x: torch.reshape(x, (-1, 12)),
        lambda x: x.flatten(1),
        lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
        lambda x: x.mean((2, 3), keepdim=True).squeeze(),
    ],
)
def test_every_spelling_of_a_flattening(reshape):
    model, x = _One(lambda s, x: reshape(x)), torch.randn(3, 3, 2, 2)
    graph = prepare(model, x)
    _, layers = plan(graph)
    assert [layer.op for layer in layers][-1] == "flatten" and torch.equal(graph(x), model(x))


def test_a_norm_read_beside_its_layer_is_not_folded():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            x = self.conv(x)
            return x + self.norm(x)

    model, x = Beside().eval(), torch.randn(2, 1, 3, 3)
    model.norm.running_mean += 1
    graph = prepare(model, x)
    assert isinstance(graph.norm, nn.Conv2d) and torch.allclose(graph(x), model(x), atol=1e-6)


def test_a_single_layer_is_a_network():
    graph = prepare(nn.Linear(2, 3), torch.zeros(1, 2))
    _, (layer,) = plan(graph)
    assert layer.op == "linear" and layer.is_output and isinstance(layer, Planned)


def test_shapes_are_needed_for_folding_and_flattening():
    graph = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Flatten()).eval())
    ShapeProp(graph).propagate(torch.zeros(2, 2))
    fold_all(graph)
    name_flattenings(graph)
    assert _nodes(graph)[0] == "0" and not [m for m in graph.modules() if isinstance(m, nn.BatchNorm1d)]
