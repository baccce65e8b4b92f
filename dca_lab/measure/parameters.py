"""How many numbers a network stores, and how many of them are not zero.

The first cost of a network is the count of its parameters; pruning sets some of them to zero:

    sparsity = 1 - (non-zero parameters) / (parameters)

A weight that two layers share is one weight and counts once. What this is *not*: a size. Zeros cost as many
bytes and as many multiplications as other numbers until the file format or the kernel uses them; for bytes
see `storage`, for multiplications `macs`.

References
----------
Denil et al., "Predicting Parameters in Deep Learning", NeurIPS 2013 (how redundant the parameters are).
"""

from __future__ import annotations

from torch import nn

from ._running import require_module


def _parameters(model: nn.Module, weights_only: bool) -> list[nn.Parameter]:
    require_module(model)
    return [
        p for p in model.parameters() if p.dim() >= 2 or not weights_only
    ]  # .parameters() yields shared ones once


def count_parameters(model: nn.Module, *, weights_only: bool = False) -> int:
    """Count the parameters; a parameter that several layers share counts once.

    Parameters
    ----------
    model : nn.Module
    weights_only : bool
        Count only tensors of two dimensions or more: the matrices and kernels, without biases and norm
        scales.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `model` is not a module, or has lazy parameters whose shape is not known yet.

    Examples
    --------
    >>> from torch import nn
    >>> count_parameters(nn.Linear(784, 300))          # 784 * 300 weights and 300 biases
    235500
    """
    return sum(parameter.numel() for parameter in _parameters(model, weights_only))


def count_nonzero(model: nn.Module, *, weights_only: bool = False) -> int:
    """Count the parameters whose value is not exactly 0 (a NaN is not 0). Arguments as in `count_parameters`.

    Examples
    --------
    >>> from torch import nn
    >>> layer = nn.Linear(4, 2)
    >>> _ = nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    >>> count_nonzero(layer)
    8
    """
    return sum(int(parameter.detach().count_nonzero()) for parameter in _parameters(model, weights_only))


def sparsity(model: nn.Module, *, weights_only: bool = False) -> float:
    """Share of parameters that are exactly zero, in [0, 1]; 0.0 for a model without parameters.

    Fresh biases are zero too: `weights_only=True` looks at matrices and kernels alone.

    Examples
    --------
    >>> from torch import nn
    >>> layer = nn.Linear(4, 2)
    >>> _ = nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    >>> sparsity(layer), sparsity(layer, weights_only=True)
    (0.2, 0.0)
    """
    total = count_parameters(model, weights_only=weights_only)
    if total == 0:
        return 0.0
    return (total - count_nonzero(model, weights_only=weights_only)) / total
