"""A network quantized statically: its steps, and the two ways to run them.

`simulate` computes in float32 on the grids' values ("fake quantization"), `integers` in integers. Both follow
the same steps, so that a difference between them is a difference of arithmetic, not of numbers. What it is
*not*: fast; an exporter reads the steps and writes them for a library that is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .graph import QuantizationError
from .integer import integer_step, multipliers
from .simulate import simulate_step
from .steps import Grid, Step

_BATCH = 64  # examples at a time: bounds the memory of the matrices that convolutions are turned into


class StaticModel(nn.Module):
    """Steps that turn an input into logits; made by `quantize_static` or `load_static`.

    A module, so that ``evaluate`` and ``predict`` take it; it has no float parameters.

    Parameters
    ----------
    steps : sequence of Step
        In the order of execution; the last gives the result.
    input_grid : Grid
        Of the network's input.
    input_shape : sequence of int
        Shape of one example, without the batch.

    Examples
    --------
    >>> from dca_lab.quantization.static import quantize_static
    >>> x = torch.rand(8, 5, generator=torch.Generator().manual_seed(0))
    >>> static = quantize_static(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), x)
    >>> static(x).shape, static.integers(x).shape, static.integers(x, every=True)["_0"].dtype
    (torch.Size([8, 3]), torch.Size([8, 3]), torch.uint8)
    """

    def __init__(self, steps: Sequence[Step], input_grid: Grid, input_shape: Sequence[int]):
        super().__init__()
        self.steps = list(steps)
        self.input_grid = input_grid
        self.input_shape = tuple(input_shape)
        self.grids: dict[str, Grid | None] = {"input": input_grid} | {s.name: s.grid for s in self.steps}
        self._factors = {step.name: multipliers(step, self.sources(step)) for step in self.steps}

    @property
    def weight_bits(self) -> dict[str, int]:
        """Bits of the weights of each layer that has some."""
        return {step.name: step.weight_bits for step in self.steps if step.weight is not None}

    def forward(self, x: Tensor) -> Tensor:
        """The same as ``simulate(x)``."""
        return self.simulate(x)

    @torch.no_grad()
    def simulate(self, x: Tensor, *, every: bool = False) -> Tensor | dict[str, Tensor]:
        """Run in float32 on the grids' values: what the integers would give if float32 were exact.

        Parameters
        ----------
        x : Tensor
            (B, ...), float32.
        every : bool
            Return the output of every step by its name, and the quantized "input", instead of the last one.

        Returns
        -------
        Tensor or dict of Tensor
            float32.
        """
        parts = [self._simulate(batch) for batch in self._batches(x)]
        found = {name: torch.cat([part[name] for part in parts]) for name in self._wanted(every)}
        return found if every else found[self.steps[-1].name]

    @torch.no_grad()
    def integers(
        self,
        x: Tensor,
        *,
        saturate: bool = False,
        every: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Run in integers: 8-bit operands, 32-bit sums, fixed-point requantization; float only at both ends.

        Parameters
        ----------
        x : Tensor
            (B, ...), float32.
        saturate : bool
            Add the products of two neighbours in 16 bits with saturation, as the instruction vpmaddubsw does.
        every : bool
            Return the integers of every step by its name, "input" included: levels (uint8), and for a last
            layer without a grid its sums (int32).

        Returns
        -------
        Tensor or dict of Tensor
            Logits, float32; or the integers.
        """
        parts = [self._integers(batch, saturate) for batch in self._batches(x)]
        found = {name: torch.cat([part[name] for part in parts]) for name in self._wanted(every)}
        return found if every else self.real(self.steps[-1].name, found[self.steps[-1].name])

    def real(self, name: str, values: Tensor) -> Tensor:
        """What the integers of the step `name` stand for, float32."""
        step = next((step for step in self.steps if step.name == name), None)
        if (grid := self.grids[name]) is not None:
            return (values.to(torch.int32) - grid.zero_point) * torch.tensor(grid.scale)
        scale = step.weight_scale.double() * self.grids[step.inputs[0]].scale
        if step.op == "conv2d":
            scale = scale[:, None, None]
        return (values.double() * scale).float()

    def save(self, path: str | os.PathLike) -> int:
        """Write the network to a file that `load_static` reads; returns its bytes."""
        from .static_file import save_static

        return save_static(self, path)

    def sources(self, step: Step) -> list[Grid]:
        """The grids of what a step reads."""
        return [self.grids[name] for name in step.inputs]

    def _simulate(self, x: Tensor) -> dict[str, Tensor]:
        values = {"input": self.input_grid.fake_quantize(x)}
        for step in self.steps:
            values[step.name] = simulate_step(step, [values[n] for n in step.inputs], self.sources(step))
        return values

    def _integers(self, x: Tensor, saturate: bool) -> dict[str, Tensor]:
        values = {"input": self.input_grid.quantize(x)}
        for step in self.steps:
            values[step.name] = integer_step(
                step,
                [values[name] for name in step.inputs],
                self.sources(step),
                factors=self._factors[step.name],
                saturate=saturate,
            )
        return values

    def _wanted(self, every: bool) -> list[str]:
        return list(self.grids) if every else [self.steps[-1].name]

    def _batches(self, x: Tensor) -> Sequence[Tensor]:
        if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
            raise QuantizationError("x must be a tensor with at least one example in its first dimension")
        if tuple(x.shape[1:]) != self.input_shape:
            raise QuantizationError(
                f"examples of shape {tuple(x.shape[1:])} do not fit: the network was quantized for {self.input_shape}"
            )
        return x.split(_BATCH)
