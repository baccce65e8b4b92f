"""The rows of a convolution against torch's convolution, and two networks that advance together."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.quantization._lockstep import lockstep
from dca_lab.quantization._rows import input_rows, output_rows, weight_rows
from dca_lab.quantization.graph import prepare
from dca_lab.quantization.static import quantize_static


@settings(deadline=None, max_examples=20)
@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
)
def test_rows_times_weights_are_the_convolution(groups, kernel, stride, padding, dilation):
    conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias=False)
    x = torch.randn(3, 4, 7, 6)
    step = quantize_static(nn.Sequential(conv, nn.ReLU(), nn.Flatten()), x).steps[0]
    with torch.no_grad():
        product = input_rows(step, x) @ weight_rows(step, conv.weight).transpose(1, 2)
        assert torch.allclose(product, output_rows(step, conv(x)), atol=1e-5)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.head((x + self.b(x)).mean((2, 3)))


def test_each_layer_is_shown_its_quantized_input_and_its_float_output():
    model, x, shown = Block().eval(), torch.rand(5, 1, 6, 6), {}
    static, graph = quantize_static(model, x), prepare(model, x)

    def listen(step, inputs, output):
        shown[step.name] = inputs, output
        return step

    same = lockstep(graph, static, x, listen, title="test")
    values, handles, outputs = static.simulate(x, every=True), [], {}
    for name in ("a", "b", "head"):
        note = lambda module, args, y, name=name: outputs.__setitem__(name, y)  # noqa: E731
        handles.append(getattr(model, name).register_forward_hook(note))
    with torch.no_grad():
        model(x)
    assert list(shown) == ["a", "b", "head"]
    for step in static.steps:
        if step.weight is not None:
            inputs, output = shown[step.name]
            assert torch.equal(inputs, values[step.inputs[0]])
            assert torch.allclose(output, outputs[step.name], atol=1e-6)
    assert torch.equal(same(x), static(x))


def test_the_layers_behind_read_the_revised_layer():
    model, x = Block().eval(), torch.rand(5, 1, 6, 6)
    static, read = quantize_static(model, x), {}

    def silence_the_first(step, inputs, output):
        read[step.name] = inputs
        if step.name != "a":
            return step
        return type(step)(**{**vars(step), "weight": step.weight * 0, "bias": step.bias * 0})

    revised = lockstep(prepare(model, x), static, x, silence_the_first, title="test")
    assert not read["b"].any() and torch.equal(revised.steps[0].weight, static.steps[0].weight * 0)
    assert bool(static.steps[0].weight.any())
