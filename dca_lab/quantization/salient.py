"""Which input channels matter? Round every weight except those of a few channels, and see what each choice saves.

    keep the share of input channels with the largest   mean |x_j|  |  norm of column j  |  random number

The experiment that motivates AWQ (section 3.1 of J. Lin et al., "AWQ: Activation-aware Weight Quantization for On-Device
LLM Compression and Acceleration", MLSys 2024): in large models one channel in a hundred, chosen by its activations, saves
most of what rounding loses, and chosen by its weights hardly anything. It is *emulated*, and not a method: the returned
model holds floats. Mixed rows of codes and floats would be slow, which is why AWQ scales channels instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from dca_lab.quantization._calibration import input_statistics
from dca_lab.quantization.nearest import quantize_groupwise

CHOICES = ("activation", "weight", "random")


def keep_channels(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    by: str = "activation",
    share: float = 0.01,
    bits: int = 3,
    group_size: int | None = 64,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A copy with rounded linear layers (as floats), except the chosen input channels, which are float16.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches (B, ...).
    by : {"activation", "weight", "random"}
        What chooses the channels of each layer.
    share : float
        In (0, 1]; each layer keeps max(1, round(share * I)) channels.
    bits, group_size
        As for `quantize_groupwise`.
    generator : torch.Generator, optional
        Needed by "random", unused otherwise.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        An unknown choice, a share outside (0, 1], or "random" without a generator.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(100, 2, bias=False))
    >>> kept = keep_channels(model, torch.randn(9, 100), share=0.03)
    >>> same = kept[0].weight == model[0].weight.half().float()
    >>> int(same.all(0).sum()) >= 3
    True
    """
    if by not in CHOICES:
        raise ValueError(f"by={by!r}: choose one of {CHOICES}")
    if not 0 < share <= 1:
        raise ValueError(f"share={share!r} must be in (0, 1]: the share of input channels that is kept")
    if by == "random" and generator is None:
        raise ValueError('by="random" needs generator=torch.Generator().manual_seed(...)')
    copy = deepcopy(model)
    for name, seen in input_statistics(model, calibration).items():
        layer = copy.get_submodule(name)
        weight = layer.weight.detach()
        if by == "activation":
            score = seen.mean
        elif by == "weight":
            score = weight.norm(dim=0)
        else:
            score = torch.rand(weight.shape[1], generator=generator)
        kept = score.topk(max(1, round(share * weight.shape[1]))).indices
        rounded = quantize_groupwise(weight, bits=bits, group_size=group_size).dequantize()
        rounded[:, kept] = weight[:, kept].half().float()
        layer.weight = nn.Parameter(rounded)  # a new one: the old one may be shared with an embedding
    return copy
