r"""Which weights matter, judged from the weights and the activations that they multiply: Wanda.

A weight that always multiplies a small input changes little, however large it is. Wanda scores

.. math:: S_{ij} = |W_{ij}| \cdot \lVert x_j \rVert_2,

with :math:`x_j` all values of input feature j over the calibration rows (and tokens), and compares within
each output row: use it with ``rowwise_masks`` (scope "row"). It is the diagonal OBS saliency of the
layer's own squared error: pruning :math:`W_{ij}` alone changes the layer's output by exactly
:math:`S_{ij}` in the L2 norm.

M. Sun, Z. Liu, A. Bair, J. Z. Kolter, "A Simple and Effective Pruning Approach for Large Language
Models", ICLR 2024.

What this file is *not*: it looks at no label and no loss (scores_gradient.py does), and it scores linear
layers only.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dca_lab.pruning._probe import batches, unchanged
from dca_lab.pruning.masks import prunable


def activation_norms(
    model: nn.Module,
    x: Tensor,
    *,
    layers: Iterable[str] | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    r"""The norm :math:`\lVert x_j \rVert_2` of each input feature of the linear layers, over all rows.

    Parameters
    ----------
    model : nn.Module
    x : Tensor, (N, ...)
        Calibration inputs; a hundred rows are usually enough.
    layers : iterable of str, optional
        Names of linear weights; default those of every linear layer that the forward pass calls.
    batch_size : int
        Rows at a time; the result does not depend on it beyond rounding.

    Returns
    -------
    dict[str, Tensor]
        Name of the weight -> (I,), float64.

    Raises
    ------
    ValueError
        If ``layers`` names a weight that is not of a linear layer, or one whose layer was never called.

    Examples
    --------
    >>> activation_norms(nn.Linear(2, 3), torch.tensor([[3.0, 1.0], [4.0, 0.0]]))["weight"].tolist()
    [5.0, 1.0]
    """
    weights = prunable(model, layers)
    name_of = {id(weight): name for name, weight in weights.items()}
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    wrong = [name for name, weight in weights.items() if id(weight) not in linear]
    if layers is not None and wrong:
        raise ValueError(f"{wrong} are not weights of linear layers: Wanda scores linear layers only")
    squares: dict[str, Tensor] = {}

    def collect(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        name = name_of.get(id(module.weight))
        if name is not None:
            values = arguments[0].detach().double().flatten(0, -2)  # (rows, I)
            squares[name] = squares.get(name, 0) + values.square().sum(0)

    handles = [m.register_forward_pre_hook(collect) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        with unchanged(model), torch.no_grad():
            for inputs, _ in batches(x, x, batch_size):
                model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if layers is not None and (silent := [name for name in weights if name not in squares]):
        raise ValueError(f"the forward pass never called the layers of {silent}")
    if not squares:
        raise ValueError(f"the forward pass of {type(model).__name__} calls no linear layer")
    return {name: squares[name].sqrt() for name in weights if name in squares}


def wanda(
    model: nn.Module,
    x: Tensor,
    *,
    layers: Iterable[str] | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    r"""The score :math:`|W_{ij}| \cdot \lVert x_j \rVert_2` of each weight of the linear layers.

    Parameters and errors as in :func:`activation_norms`.

    Returns
    -------
    dict[str, Tensor]
        Name -> (O, I), the weight's dtype.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -3.0]]))
    >>> wanda(layer, torch.tensor([[3.0, 1.0], [4.0, 0.0]]))["weight"].tolist()
    [[5.0, 3.0]]
    """
    norms = activation_norms(model, x, layers=layers, batch_size=batch_size)
    weights = prunable(model, norms)
    return {name: weights[name].detach().abs() * norm.to(weights[name].dtype) for name, norm in norms.items()}
