"""Does a pruned network compute what is left of the original? A check that believes neither library.

    error = max |small(x) - masked(x)|

`masked` is the original with zeros in the channels that are gone (filters, biases, batch-norm scales and
shifts). What is gone is read off the parameters themselves: all weights are random, and an output row of a
weight is gone when its values are no longer in the small network. A removal that follows every dependency
has an error of rounding size; an offset by one channel has an error of the size of the output. This is
*not* for trained networks with equal or zero weights, whose rows cannot be told apart.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def _values(small: nn.Module, name: str) -> Tensor:
    """What is left of a parameter; where a library put another layer in its place, all of that layer."""
    found = dict(small.named_parameters())
    while name:
        mine = [value.flatten() for key, value in found.items() if key == name or key.startswith(name + ".")]
        if mine:
            return torch.cat(mine)
        name = name.rpartition(".")[0]
    return torch.zeros(0)


def masked(model: nn.Module, small: nn.Module) -> nn.Module:
    """A copy of `model` with zeros where output channels are missing in `small`.

    Examples
    --------
    >>> large, small = nn.Linear(2, 3), nn.Linear(2, 2)
    >>> small.load_state_dict({name: value[:2] for name, value in large.state_dict().items()})
    <All keys matched successfully>
    >>> masked(large, small)(torch.ones(1, 2))[0, 2].item()
    0.0
    """
    whole = copy.deepcopy(model)
    with torch.no_grad():
        for path, module in whole.named_modules():
            if isinstance(module, nn.LayerNorm):  # a zero scale would not take the channel out of the mean
                continue
            for stem in ("", "in_proj_"):  # the second is nn.MultiheadAttention's own
                weight = getattr(module, f"{stem}weight", None)
                if not isinstance(weight, nn.Parameter):
                    continue
                rows = weight.movedim(1 if isinstance(module, (nn.ConvTranspose2d, nn.Embedding)) else 0, 0)
                left = torch.isin(rows, _values(small, f"{path}.{stem}weight".lstrip(".")))
                gone = left.reshape(len(left), -1).double().mean(1) < 0.1  # two random values may be equal
                rows[gone] = 0
                if (bias := getattr(module, f"{stem}bias", None)) is not None:
                    bias[gone] = 0
    return whole


def difference(small: nn.Module, model: nn.Module, x: Any) -> float:
    """The largest difference between the outputs of `small` and of the masked `model`; ValueError for shapes."""
    with torch.no_grad():
        found, expected = small.eval()(x), masked(model, small)(x)
    if found.shape != expected.shape:
        raise ValueError(f"the output has shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    return float((found - expected).abs().max())
