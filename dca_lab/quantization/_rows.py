"""A convolution as a matrix product: each output position is one row of inputs, as many rows as positions.

    y[r, o] = sum_k x[r, k] w[o, k],      k over (channel of the group, kernel row, kernel column)

Least squares and adaptive rounding then treat convolutions and linear layers alike. It is *not* how layers are
executed: the rows repeat each input kh * kw times.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .steps import Step


def input_rows(step: Step, x: Tensor) -> Tensor:
    """What each output of a layer reads: (groups, R, K), K = weights of one output channel.

    Parameters
    ----------
    step : Step
        A "conv2d" or "linear".
    x : Tensor
        (N, I, H, W) or (N, I).

    Examples
    --------
    >>> import torch
    >>> conv = {"padding": (1, 1, 1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 2}
    >>> step = Step("c", "conv2d", ("input",), None, weight=torch.zeros(4, 1, 3, 3), attributes=conv)
    >>> input_rows(step, torch.zeros(5, 2, 8, 8)).shape
    torch.Size([2, 320, 9])
    """
    if step.op == "linear":
        return x.flatten(0, -2)[None]
    settings = step.attributes
    top, bottom, left, right = settings["padding"]
    padded = F.pad(x, (left, right, top, bottom))
    patches = F.unfold(padded, step.weight.shape[2:], settings["dilation"], 0, settings["stride"])
    return patches.unflatten(1, (settings["groups"], -1)).permute(1, 0, 3, 2).flatten(1, 2)


def output_rows(step: Step, y: Tensor) -> Tensor:
    """The outputs of a layer, row for row with `input_rows`: (groups, R, O / groups).

    Examples
    --------
    >>> import torch
    >>> step = Step("fc", "linear", ("input",), None, weight=torch.zeros(4, 3))
    >>> output_rows(step, torch.zeros(5, 4)).shape
    torch.Size([1, 5, 4])
    """
    if step.op == "linear":
        return y.flatten(0, -2)[None]
    return y.unflatten(1, (step.attributes["groups"], -1)).flatten(3).permute(1, 0, 3, 2).flatten(1, 2)


def weight_rows(step: Step, weight: Tensor) -> Tensor:
    """A weight (O, I / groups, ...) as (groups, O / groups, K).

    Examples
    --------
    >>> import torch
    >>> step = Step("fc", "linear", ("input",), None, weight=torch.zeros(4, 3))
    >>> weight_rows(step, step.weight).shape
    torch.Size([1, 4, 3])
    """
    return weight.flatten(1).unflatten(0, (step.attributes.get("groups", 1), -1))
