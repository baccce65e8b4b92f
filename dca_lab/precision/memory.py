r"""Bytes that a forward pass keeps for the backward pass: what mixed precision halves on any processor.

The gradient of a product needs its factors, so a training step keeps the input of each layer until its backward
pass; for a batch of B examples that is far more than the weights. Torch hands every tensor that it keeps to a hook
(``torch.autograd.graph.saved_tensors_hooks``), where its bytes are counted, each piece of memory once. Not everything
is halved: the indices of a max-pool are 64-bit integers, batch normalisation keeps statistics in float32. And
autocast keeps a 16-bit copy of each weight besides.

What this file is *not*: the peak memory of a step (workspace, gradients and optimizer state come on top), nor
``dca_lab.measure.peak_memory``, which is about inference.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dca_lab.precision.mixed import DTYPES


@dataclass(frozen=True)
class SavedBytes:
    """What is kept between the forward and the backward pass, besides the weights themselves.

    Attributes
    ----------
    activations : int
        Bytes that grow with the batch: inputs of layers (the network's input too), indices, statistics.
    weight_copies : int
        Bytes of 16-bit copies of weights.

    Examples
    --------
    >>> SavedBytes(activations=100, weight_copies=20).total
    120
    """

    activations: int
    weight_copies: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.activations + self.weight_copies


def saved_bytes(model: nn.Module, x: Tensor, *, dtype: torch.dtype = torch.float32) -> SavedBytes:
    """Bytes that training `model` keeps for the backward pass of the batch x.

    Parameters
    ----------
    model : nn.Module
        With float32 weights; not changed.
    x : Tensor
        (B, ...), one batch.
    dtype : torch.dtype
        ``torch.float32``, or what autocast computes in: ``torch.bfloat16``, ``torch.float16``.

    Returns
    -------
    SavedBytes

    Raises
    ------
    ValueError
        When the dtype is another.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.Linear(300, 10))
    >>> saved_bytes(model, torch.zeros(7, 100)).activations == 7 * (100 + 300) * 4
    True
    >>> saved_bytes(model, torch.zeros(7, 100), dtype=torch.bfloat16).activations == 7 * (100 + 300) * 2
    True
    """
    if dtype not in (torch.float32, *DTYPES):
        raise ValueError(f"dtype={dtype}: choose torch.float32, torch.float16 or torch.bfloat16")
    model = copy.deepcopy(model).train()  # batch normalisation would move its running statistics
    x = x.detach().clone()  # a slice would count with all of the memory that it is a slice of
    weights = {_address(weight) for weight in [*model.parameters(), *model.buffers()]}
    casts = _Casts(weights)
    saved: dict[int, Tensor] = {}  # kept until the end: memory that is freed may be given out again

    def pack(tensor: Tensor) -> Tensor:
        saved[_address(tensor)] = tensor
        return tensor

    mixed = nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype=dtype)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), casts, mixed, hooks:
        output = model(x)
    activations = sum(_bytes(saved[at]) for at in saved.keys() - weights - casts.copies.keys())
    weight_copies = sum(_bytes(saved[at]) for at in saved.keys() & casts.copies.keys())
    del output
    return SavedBytes(activations=activations, weight_copies=weight_copies)


class _Casts(TorchDispatchMode):
    """Notes which pieces of memory are casts of weights: the hook of saved tensors cannot tell."""

    def __init__(self, weights: set[int]):
        super().__init__()
        self.weights = weights
        self.copies: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and _address(args[0]) in self.weights:
            self.copies[_address(result)] = result
        return result


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
