"""A quantized network as a file: int8 weights take one byte each, weights of fewer bits are packed without a gap.

    safetensors: "<step>.weight" (int8, or uint8 bytes of packed codes), ".weight_scale" (float32, one an output
    channel), ".bias" (int32), ".table" (uint8); the steps themselves as JSON in the header

What is read back runs to the same integers, bit by bit. safetensors holds an 8-byte length, a JSON header and
raw numbers, and loading it executes nothing. It is *not* an exchange format: other programs read the ONNX file
that the exporter writes.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dca_lab.files import replacing

from .model import StaticModel
from .packing import pack, unpack
from .steps import Grid, Step

_FORMAT = "dca-lab static quantization, format 1"


def save_static(model: StaticModel, path: str | os.PathLike) -> int:
    """Write a quantized network; the file is either whole or not there.

    Parameters
    ----------
    model : StaticModel
    path : path
        Of the file, usually ``*.safetensors``; its folder must exist.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> from dca_lab.quantization.static import quantize_static
    >>> static = quantize_static(nn.Sequential(nn.Linear(100, 300)), torch.rand(8, 100))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save_static(static, f"{folder}/a.safetensors")
    ...     load_static(f"{folder}/a.safetensors").weight_bits
    {'_0': 8}
    >>> 30_000 + 8 * 300 < size < 30_000 + 8 * 300 + 1000
    True
    """
    tensors: dict[str, Tensor] = {}
    described: list[dict[str, Any]] = []
    for step in model.steps:
        attributes = dict(step.attributes)
        if "table" in attributes:
            tensors[f"{step.name}.table"] = attributes.pop("table")
        entry = {"name": step.name, "op": step.op, "inputs": step.inputs, "relu": step.relu}
        entry |= {"grid": step.grid and asdict(step.grid), "attributes": attributes}
        if step.weight is not None:
            entry |= {"weight_bits": step.weight_bits, "shape": list(step.weight.shape)}
            tensors[f"{step.name}.weight"] = _packed(step)
            tensors[f"{step.name}.weight_scale"] = step.weight_scale.contiguous()
            if step.bias is not None:
                tensors[f"{step.name}.bias"] = step.bias.contiguous()
        described.append(entry)
    content = {"input_grid": asdict(model.input_grid), "input_shape": model.input_shape, "steps": described}
    metadata = {"format": _FORMAT, "model": json.dumps(content, separators=(",", ":"))}
    path = Path(path)
    try:
        with replacing(path) as beside:
            save_file(tensors, str(beside), metadata)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    return path.stat().st_size


def load_static(path: str | os.PathLike) -> StaticModel:
    """Read what `save_static` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    StaticModel

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged, or none of this kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}): write it again") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} holds no statically quantized network of this version: write it again")
    try:
        content = json.loads(metadata["model"])
        steps = [_step(entry, tensors) for entry in content["steps"]]
        return StaticModel(steps, Grid(**content["input_grid"]), content["input_shape"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is incomplete ({error!r}): write it again") from error


def _packed(step: Step) -> Tensor:
    """8-bit codes as they are; fewer bits as unsigned codes, shifted up by the highest, without a gap."""
    if step.weight_bits == 8:
        return step.weight.contiguous()
    shift = 2 ** (step.weight_bits - 1) - 1
    return pack((step.weight.to(torch.int16) + shift).to(torch.uint8), step.weight_bits)


def _step(entry: dict[str, Any], tensors: dict[str, Tensor]) -> Step:
    name = entry["name"]
    attributes = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["attributes"].items()}
    if entry["op"] == "lookup":
        attributes["table"] = tensors[f"{name}.table"]
    fields: dict[str, Any] = {}
    if "shape" in entry:
        bits, shape = entry["weight_bits"], entry["shape"]
        weight = tensors[f"{name}.weight"]
        if bits < 8:
            codes = unpack(weight, bits, torch.Size(shape).numel()).to(torch.int16)
            weight = (codes - (2 ** (bits - 1) - 1)).to(torch.int8).reshape(shape)
        fields = {"weight": weight, "weight_bits": bits, "weight_scale": tensors[f"{name}.weight_scale"]}
        fields["bias"] = tensors.get(f"{name}.bias")
    grid = entry["grid"] and Grid(**entry["grid"])
    inputs = tuple(entry["inputs"])
    return Step(name, entry["op"], inputs, grid, relu=entry["relu"], attributes=attributes, **fields)
