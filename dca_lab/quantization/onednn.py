"""The steps of a quantized network on oneDNN's int8 kernels: the fast way where the processor multiplies matrices.

    int32 sums -> float32 scale, bias, + the other branch, ReLU -> one rounding -> uint8        (one kernel a layer)

PyTorch for x86 contains oneDNN, whose int8 convolutions use matrix instructions (AMX) where there are some; those of
ONNX Runtime do not. With many examples in a call that decides; with one, the calls from Python cost more than they
gain. A convolution whose output is only added to another tensor takes the addition in, and is rounded once, where
the steps round twice: E. Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD
Architectures", SC, 2018 (fusion of what follows). What has no kernel here (tables, concatenations, averages over
windows) runs as in `integer`. It is *not* a file: `export_int8` writes one, and the steps can be stored (`save_static`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _processor
from ._onednn_kernels import Kernel, convolution_and_sum, kernel_of
from .export import check_range
from .graph import QuantizationError
from .model import StaticModel
from .steps import Step


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
    >>> from torch import nn
    >>> from dca_lab.quantization import quantize_static
    >>> network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    >>> x = torch.rand(16, 1, 8, 8)
    >>> static = quantize_static(network, x, reduce_range=True)
    >>> (OneDnnModel(static) if available() else static)(x).shape
    torch.Size([16, 3])
    """

    def __init__(self, static: StaticModel):
        if not available():
            raise QuantizationError(
                "this PyTorch has no int8 kernels of oneDNN (they are in its builds for x86): use export_int8"
            )
        check_range(static, required=False, warn=_processor.wants_reduced_range())
        self.static = static
        fused = _fused(static)
        taken = {inner.name: add for add, inner in fused.items()}
        self._program: list[tuple[str, tuple[str, ...], Kernel]] = []
        for step in static.steps:
            if step.name in taken:
                continue  # the addition that reads it computes it
            inner = fused.get(step.name)
            if inner is None:
                self._program.append((step.name, step.inputs, kernel_of(step, static.sources(step))))
            else:
                other = next(name for name in step.inputs if name != inner.name)
                kernel = convolution_and_sum(
                    inner,
                    static.sources(inner)[0],
                    step,
                    static.grids[other],
                    keep=_kept(static, other, step, taken),
                )
                self._program.append((step.name, (*inner.inputs, other), kernel))

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits, float32 (B, ...), of inputs x, float32 (B, ...)."""
        parts = [self._run(batch) for batch in self.static._batches(x)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, x: Tensor) -> Tensor:
        grid = self.static.input_grid  # `grid.quantize` looks at x more often, and small networks notice
        if not math.isfinite(float(x.sum())):
            raise QuantizationError("x has values that are NaN or infinite")
        levels = (x / grid.scale).round_().add_(grid.zero_point).clamp_(0, grid.highest).to(torch.uint8)
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


def _kept(static: StaticModel, name: str, add: Step, taken: dict[str, str]) -> bool:
    """Whether a tensor is read at or after `add`, or another one may share its memory; else `add` writes over it.

    A convolution that an addition takes in reads its input when that addition runs, which may be this one.
    """
    order = list(static.grids).index
    readers = [step for step in _readers(static, name) if step is not add]
    when = [order(taken.get(step.name, step.name)) for step in readers]
    maker = next((step.op for step in static.steps if step.name == name), "input")
    return (
        any(place >= order(add.name) for place in when)
        or maker not in ("conv2d", "add")
        or any(step.op == "flatten" for step in readers)
    )
