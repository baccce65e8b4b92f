"""An ONNX graph under construction: nodes, constants, and the two conversions between levels and floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from .model import StaticModel


class Graph:
    """What the writers of the steps add to. The tensor called like a step holds its levels, uint8."""

    def __init__(self, static: StaticModel):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.grids = static.grids
        probe = static.simulate(torch.zeros(1, *static.input_shape), every=True)
        self.shapes = {name: tuple(value.shape[1:]) for name, value in probe.items()}  # of one example

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: str) -> str:
        """Add a constant; returns its name."""
        self.constants[name] = numpy_helper.from_array(np.asarray(value, dtype=dtype), name)
        return name

    def index(self, value: int) -> str:
        """A constant vector of one whole number, the same for all who need it; returns its name."""
        return self.constant(f"index.{value}", [value], "int64")

    def grid(self, name: str) -> list[str]:
        """Scale and zero point of a step's levels."""
        grid = self.grids[name]
        return [
            self.constant(f"{name}.scale", grid.scale, "float32"),
            self.constant(f"{name}.zero_point", grid.zero_point, "uint8"),
        ]

    def quantize(self, source: str, name: str, *, lowest: int = 0, output: str | None = None) -> str:
        """Levels of the step `name`, at least `lowest`, from the floats `source`; returns their name."""
        highest, output = self.grids[name].highest, output or name
        if lowest == 0 and highest == 255:  # a byte's own limits come for free
            return self.node("QuantizeLinear", [source, *self.grid(name)], output)
        levels = self.node("QuantizeLinear", [source, *self.grid(name)], f"{name}.unclamped")
        bounds = [
            self.constant(f"{name}.lowest", lowest, "uint8"),
            self.constant(f"{name}.highest", highest, "uint8"),
        ]
        return self.node("Clip", [levels, *bounds], output)

    def dequantize(self, name: str, reader: str) -> str:
        """Floats of the step `name`. Each reader has its own node: a fused operator swallows it."""
        return self.node("DequantizeLinear", [name, *self.grid(name)], f"{reader}.from.{name}")
