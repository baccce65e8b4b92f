r"""SmoothQuant: move the outliers of the activations into the weights, where each channel's share is easy to hold.

With int8 activations one scale serves a whole tensor. A channel a hundred times larger than the others takes the
range, and the others share one or two of the 256 levels. Weights have a scale for each row and have room to spare. Hence

.. math:: W x = (W\,\mathrm{diag}(s))\,(x / s), \qquad
   s_j = \frac{\max |X_j|^{\alpha}}{\max |W_{\cdot j}|^{1 - \alpha}},

folded into the LayerNorm before, so that the float function stays the same. At :math:`\alpha = 1/2` activations and weights
of a channel have the same largest magnitude; 0 leaves all the difficulty to the activations, 1 to the weights.

G. Xiao, J. Lin, M. Seznec, H. Wu, J. Demouth, S. Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for
Large Language Models", ICML 2023, equation 4.

What this file is *not*: it rounds nothing (`quantize_dynamic` does, afterwards), and where activations have no outliers,
as in small models, there is little to gain. `plant_outliers` makes such channels, to have something to look at.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from dca_lab.quantization._calibration import input_statistics
from dca_lab.quantization._checks import is_whole
from dca_lab.quantization._folding import Pairs, checked_pairs, fold, norm_pairs


def smooth(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    alpha: float = 0.5,
    pairs: Pairs | None = None,
) -> nn.Module:
    """A float copy that computes the same function, with activations that are easier to quantize.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches (B, ...). No labels.
    alpha : float
        In [0, 1]: how much of the difficulty moves into the weights.
    pairs : mapping, optional
        Name of a LayerNorm -> names of the linear layers that read it. Default: what tracing finds.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        alpha outside [0, 1], no pair, empty calibration, NaN.

    References
    ----------
    Xiao et al., ICML 2023.

    Examples
    --------
    >>> model = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3))
    >>> x = torch.randn(20, 8)
    >>> even = smooth(model, x)
    >>> torch.allclose(even(x), model(x), atol=1e-5)
    True
    >>> columns = even[1].weight.abs().amax(0)  # as large as the activations, channel by channel
    >>> torch.allclose(columns, even[0](x).abs().amax(0), rtol=1e-4)
    True
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r} must be in [0, 1]: 0.5 shares the difficulty evenly")
    pairs = checked_pairs(model, norm_pairs(model) if pairs is None else pairs)
    found = input_statistics(model, calibration, layers=[linears[0] for linears in pairs.values()])
    copy = deepcopy(model)
    for previous, linears in pairs.items():
        activations = found[linears[0]].largest
        columns = [model.get_submodule(name).weight.detach().double().abs().amax(0) for name in linears]
        weights = torch.stack(columns).amax(0)
        scale = activations**alpha / weights ** (1 - alpha)
        # A channel that is always 0, in the activations or in the weights, adds nothing and keeps its size.
        fold(copy, previous, linears, torch.where((activations > 0) & (weights > 0), scale, 1.0))
    return copy


def plant_outliers(
    model: nn.Module,
    *,
    channels: int,
    factor: float,
    generator: torch.Generator,
    pairs: Pairs | None = None,
) -> nn.Module:
    """A float copy that computes the same function, with a few activation channels `factor` times larger.

    Large language models grow such channels by themselves; small ones do not. Here they are put in on purpose, by scaling
    a LayerNorm up and the columns that read it down: what a method gains on them is true of planted ones.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    channels : int
        How many of each norm's channels, drawn at random.
    factor : float
        Above 0; 30 to 100 is what large models show.
    generator : torch.Generator
    pairs : mapping, optional
        As for `smooth`.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        More channels than there are or no whole number of them, or a factor that is not positive.

    Examples
    --------
    >>> model = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3))
    >>> loud = plant_outliers(model, channels=1, factor=50, generator=torch.Generator().manual_seed(0))
    >>> sorted(loud[0].weight.tolist())[-2:]
    [1.0, 50.0]
    """
    if not factor > 0:
        raise ValueError(f"factor={factor!r} must be positive: 50 makes a channel fifty times larger")
    copy = deepcopy(model)
    for previous, linears in checked_pairs(model, norm_pairs(model) if pairs is None else pairs).items():
        width = len(model.get_submodule(previous).weight)
        if not is_whole(channels) or not 0 <= channels <= width:
            raise ValueError(f"channels={channels!r}: give a whole number; {previous!r} has {width}")
        scale = torch.ones(width).double()
        scale[torch.randperm(width, generator=generator)[:channels]] = 1 / factor
        fold(copy, previous, linears, scale)
    return copy
