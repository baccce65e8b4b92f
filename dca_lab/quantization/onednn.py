"""The steps of a quantized network on oneDNN's int8 kernels: the fast way where the processor multiplies matrices.

    int32 sums -> float32 scale, bias, + the other branch, ReLU -> one rounding -> uint8        (one kernel a layer)

PyTorch for x86 contains oneDNN, whose int8 convolutions use matrix instructions (AMX) where there are some; those of
ONNX Runtime do not. With many examples in a call that decides; with one, the calls from Python cost more than they
gain. A convolution whose output is only added to another tensor takes the addition in, and is rounded once, where
the steps round twice: E. Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD
Architectures", SC, 2018 (fusion of what follows). Everything that is no convolution, linear layer, addition or max
pooling runs as in `integer`. It is *not* a file: `export_int8` writes one, and the steps can be stored (`save_static`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _processor
from .export import check_range
from .graph import QuantizationError
from .integer import integer_step
from .model import StaticModel
from .steps import Grid, Step

Kernel = Callable[..., Tensor]


class OneDnnModel:
    """A quantized network that runs on oneDNN; made from its steps, called like a session.

    Parameters
    ----------
    static : StaticModel
        Its integers are used as they are.

    Raises
    ------
    QuantizationError
        A ValueError: this PyTorch has no such kernels (they are in the builds for x86).

    Warns
    -----
    RuntimeWarning
        If 8-bit weights have sums that can saturate on this processor.

    Examples
    --------
    >>> import pytest
    >>> from dca_lab.quantization import quantize_static
    >>> if not available(): pytest.skip("no oneDNN")
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 3))
    >>> x = torch.rand(16, 1, 8, 8)
    >>> OneDnnModel(quantize_static(network, x, reduce_range=True))(x).shape
    torch.Size([16, 3])
    """

    def __init__(self, static: StaticModel):
        if not available():
            raise QuantizationError(
                "this PyTorch has no int8 kernels of oneDNN (they are in its builds for x86): use export_int8"
            )
        check_range(static, required=False, warn=_processor.wants_reduced_range())
        self.static = static
        taken = {inner.name: add for add, inner in _fused(static).items()}
        self._program: list[tuple[str, tuple[str, ...], Kernel]] = []
        for step in static.steps:
            if step.name in taken:
                continue  # the addition that reads it computes it
            inner = next((s for s in static.steps if taken.get(s.name) == step.name), None)
            if inner is None:
                self._program.append((step.name, step.inputs, _kernel(step, static.sources(step))))
            else:
                other = next(name for name in step.inputs if name != inner.name)
                kernel = _with_sum(
                    inner,
                    static.sources(inner)[0],
                    step,
                    static.grids[other],
                    keep=_kept(static, other, step),
                )
                self._program.append((step.name, (*inner.inputs, other), kernel))

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits, float32 (B, ...), of inputs x, float32 (B, ...)."""
        return torch.cat([self._run(batch) for batch in self.static._batches(x)])

    def _run(self, x: Tensor) -> Tensor:
        levels = self.static.input_grid.quantize(x)
        if levels.dim() == 4:
            levels = levels.contiguous(memory_format=torch.channels_last)  # the order that the kernels read
        values = {"input": levels}
        for name, inputs, kernel in self._program:
            values[name] = kernel(*(values[source] for source in inputs))
        last = self.static.steps[-1]
        return values[last.name] if last.grid is None else self.static.real(last.name, values[last.name])


def available() -> bool:
    """Whether this PyTorch was built with the int8 kernels of oneDNN, and the processor is one that they are for.

    Examples
    --------
    >>> available() in (True, False)
    True
    """
    needed = ("qconv_prepack", "qconv_pointwise", "qlinear_prepack", "qlinear_pointwise")
    built = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.onednn, name) for name in needed)
    return built and _processor.is_x86()


def _readers(static: StaticModel, name: str) -> list[Step]:
    return [step for step in static.steps if name in step.inputs]


def _fused(static: StaticModel) -> dict[str, Step]:
    """Name of an addition -> the convolution that takes it in: one that nobody else reads."""
    by_name, order, fused = {step.name: step for step in static.steps}, list(static.grids), {}
    for step in static.steps:
        if step.op != "add" or len(set(step.inputs)) != 2:
            continue
        last = by_name.get(max(step.inputs, key=order.index))  # the other one is there when it is computed
        if last is None or last.op != "conv2d" or last.relu or last.grid.bits != 8:
            continue
        if len(_readers(static, last.name)) == 1:
            fused[step.name] = last
    return fused


def _kept(static: StaticModel, name: str, add: Step) -> bool:
    """Whether a tensor is needed after `add`, or another one may share its memory; else it is written over."""
    readers = _readers(static, name)
    maker = next((step.op for step in static.steps if step.name == name), "input")
    return (
        readers[-1] is not add
        or maker not in ("conv2d", "add")
        or any(step.op == "flatten" for step in readers)
    )


def _kernel(step: Step, sources: list[Grid]) -> Kernel:
    if step.op == "conv2d":
        return _convolution(step, sources[0])
    if step.op == "linear":
        return _linear(step, sources[0])
    if step.op == "add":
        return _addition(step, sources)
    if step.op == "max_pool2d":
        a = step.attributes  # in float32, which holds every level: bytes have no kernel
        return lambda x: F.max_pool2d(
            x.float(), a["kernel_size"], a["stride"], a["padding"], a["dilation"]
        ).byte()
    return lambda *inputs: integer_step(step, list(inputs), sources)


def _convolution(step: Step, source: Grid) -> Kernel:
    padded, before, after = _operands(step, source)

    def run(x: Tensor) -> Tensor:
        result = torch.ops.onednn.qconv_pointwise(padded(x), *before, *after, *_ending(step))
        return _ceiling(result, step.grid)

    return run


def _with_sum(step: Step, source: Grid, add: Step, other: Grid, *, keep: bool) -> Kernel:
    """A convolution and the addition that reads it, in one kernel, which writes over the tensor that it adds."""
    padded, before, (bias, *shape) = _operands(step, source)
    output = (add.grid.scale, add.grid.zero_point, torch.uint8, other.scale, other.zero_point)
    relu = "relu" if add.relu else None

    def run(x: Tensor, y: Tensor) -> Tensor:
        y = y.clone() if keep else y
        result = torch.ops.onednn.qconv2d_pointwise.binary(
            padded(x), *before, y, bias, *shape, *output, "sum", 1.0, relu, [], None
        )
        return _ceiling(result, add.grid)

    return run


def _operands(step: Step, source: Grid) -> tuple[Callable[[Tensor], Tensor], tuple, tuple]:
    """What pads the input; the arguments that follow it, up to the weights; and bias, stride, padding and so on."""
    settings, (top, bottom, left, right) = step.attributes, step.attributes["padding"]
    even = top == bottom and left == right
    padding = [top, left] if even else [0, 0]
    shape = (list(settings["stride"]), padding, list(settings["dilation"]), settings["groups"])
    grid = (source.scale, source.zero_point)
    packed = torch.ops.onednn.qconv_prepack(step.weight, step.weight_scale, *grid, *shape, None)

    def padded(x: Tensor) -> Tensor:  # with the level of zero
        return x if even else F.pad(x, (left, right, top, bottom), value=source.zero_point)

    return padded, (*grid, packed, step.weight_scale, _zeros(step)), (_real_bias(step, source), *shape)


def _linear(step: Step, source: Grid) -> Kernel:
    packed = torch.ops.onednn.qlinear_prepack(step.weight, None)
    before = (source.scale, source.zero_point, packed, step.weight_scale, _zeros(step))
    bias = _real_bias(step, source)

    def run(x: Tensor) -> Tensor:
        result = torch.ops.onednn.qlinear_pointwise(x.flatten(0, -2), *before, bias, *_ending(step))
        return _ceiling(result.unflatten(0, x.shape[:-1]), step.grid)

    return run


def _addition(step: Step, sources: list[Grid]) -> Kernel:
    """Two tensors of levels that no convolution takes in, added in float32."""
    first, second = (grid.scale / step.grid.scale for grid in sources)
    offset = step.grid.zero_point - sources[0].zero_point * first - sources[1].zero_point * second
    lowest = step.grid.zero_point if step.relu else 0

    def run(x: Tensor, y: Tensor) -> Tensor:
        total = x.float().mul_(first).add_(y, alpha=second).add_(offset)
        return total.round_().clamp_(lowest, step.grid.highest).to(torch.uint8)

    return run


def _zeros(step: Step) -> Tensor:
    """Zero points of the weights, which are symmetric."""
    return torch.zeros(len(step.weight_scale), dtype=torch.int32)


def _real_bias(step: Step, source: Grid) -> Tensor | None:
    return None if step.bias is None else (step.bias.double() * step.weight_scale * source.scale).float()


def _ending(step: Step) -> tuple:
    """What a kernel does with its sums: the output's scale, zero point and type, and ReLU."""
    to = (
        (1.0, 0, torch.float32) if step.grid is None else (step.grid.scale, step.grid.zero_point, torch.uint8)
    )
    return *to, "relu" if step.relu else "none", [], ""


def _ceiling(levels: Tensor, grid: Grid | None) -> Tensor:
    """Grids of fewer than 8 bits end below the byte at which the kernel clamps."""
    return levels if grid is None or grid.highest == 255 else levels.clamp_(max=grid.highest)
