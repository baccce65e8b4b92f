"""Multiply-accumulates of a forward pass: the arithmetic that a network asks for, whatever machine runs it.

    MACs(model, x) = sum over the layers that run of their formula (`formulas`);   FLOPs = 2 * MACs

The formulas are written by hand and checked in the tests against
``torch.utils.flop_counter.FlopCounterMode``, which counts at a level below the layers. Bias adds,
normalisation, activations, softmax and pooling are not counted.

What this is *not*: time. Two models of equal MACs can differ tenfold in seconds: see `latency` and
`roofline`.

References
----------
Sze, Chen, Yang, Emer, "Efficient Processing of Deep Neural Networks: A Tutorial and Survey", Proc. IEEE
105(12), 2017.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .trace import trace


def macs_per_layer(model: nn.Module, example_input: Any) -> dict[str, int]:
    """MACs by the qualified name of the layer, in the order of first execution.

    A layer that runs several times gets the sum. A matrix product made by a bare function is named after the
    layer that called it: ``blocks.0.attention.scaled_dot_product_attention``. An embedding appears with 0.

    Parameters
    ----------
    model : nn.Module
    example_input : Tensor or tuple of Tensor
        The batch is part of the cost: 64 images cost 64 times one.

    Raises
    ------
    ValueError
        If `model` is not a module, or multiplies with a function that has no formula.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 24 * 24, 10))
    >>> macs_per_layer(model, torch.zeros(1, 1, 28, 28))
    {'0': 86400, '3': 34560}
    """
    total: dict[str, int] = {}
    for row in trace(model, example_input):
        total[row.name] = total.get(row.name, 0) + row.macs
    return total


def count_macs(model: nn.Module, example_input: Any) -> int:
    """MACs of one forward pass on `example_input`. Arguments and errors as in `macs_per_layer`.

    Examples
    --------
    >>> import torch
    >>> count_macs(nn.Linear(784, 300), torch.zeros(64, 784)) == 64 * 784 * 300
    True
    """
    return sum(macs_per_layer(model, example_input).values())
