r"""AWQ: enlarge the weights that meet large activations before rounding, so that they lose less, and clip the ranges.

With a factor :math:`s_j` for each input channel, :math:`W x = (W\,\mathrm{diag}(s))\,(x / s)`. Rounding moves a weight by
about half a step of its group; divided by :math:`s_j > 1` afterwards it is less, as long as the group's largest weight,
and with it the step, hardly grows. Three ideas of the paper and of the code that its authors released:

    scale  s = (mean |x_j|)^alpha, one exponent for the layers that read x, searched on their output (`awq_scale`)
    fold   x / s is made by the layer before, if that is exact (`_folding`); behind gelu, s is stored (`GroupWeights`)
    clip   each group's range, cut to what is best for the output, as a large weight makes a coarse grid (`awq_clip`)

J. Lin, J. Tang, H. Tang, S. Yang, W.-M. Chen, W.-C. Wang, G. Xiao, X. Dang, C. Gan, S. Han, "AWQ: Activation-aware Weight
Quantization for On-Device LLM Compression and Acceleration", MLSys 2024.

What this file is *not*: no weight is corrected for another's error (GPTQ does; the two combine: `quantize_gptq` of what
`scale_awq` returns). And the two halves are not equally about activations: without salient channels clipping is most of
what is gained, so that the control (`shuffle`) must clip, too, and clipping alone (``scale=False``) is the other control.
The scale is searched first and without clipping, as the authors do it: the pair need not be the best pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from dca_lab.quantization._calibration import input_batches, input_statistics, linear_layers
from dca_lab.quantization._folding import Pairs, attention_pairs, checked_pairs, fold, norm_pairs
from dca_lab.quantization.awq_clip import clip_weights
from dca_lab.quantization.awq_scale import awq_scales
from dca_lab.quantization.nearest import quantize_groupwise
from dca_lab.quantization.weight_only import replace_linears

__all__ = ["awq_scales", "clip_weights", "quantize_awq", "scale_awq"]

_FLOAT16 = (2.0**-14, 65504.0)  # its normal numbers


def scale_awq(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    bits: int = 4,
    group_size: int | None = 64,
    symmetric: bool = False,
    pairs: Pairs | None = None,
    shuffle: torch.Generator | None = None,
    steps: int = 20,
) -> nn.Module:
    """A float copy that computes the same function, with weights that lose less when they are rounded.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches (B, ...): windows of tokens for a language model. No labels.
    bits, group_size, symmetric
        What the weights will be rounded to.
    pairs : mapping, optional
        Name of a LayerNorm or linear layer -> names of the linear layers that read it. Default: what `norm_pairs`
        finds by tracing, and v -> out of each `CausalSelfAttention`.
    shuffle : torch.Generator, optional
        The control: the measured salience is handed to the channels at random, and all else is the same, the search for
        the exponent included.
    steps : int
        As for `awq_scales`.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        No pair is found or one is wrong, empty calibration, NaN.

    Examples
    --------
    >>> model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 4))
    >>> x = torch.randn(50, 32)
    >>> torch.allclose(scale_awq(model, x, bits=3, group_size=32)(x), model(x), atol=1e-5)
    True
    """
    pairs = _pairs(model, pairs)
    found = input_statistics(model, calibration, layers=[linears[0] for linears in pairs.values()])
    copy = deepcopy(model)
    options = {"bits": bits, "group_size": group_size, "symmetric": symmetric, "steps": steps}
    for previous, linears in pairs.items():
        seen = found[linears[0]]  # all of them read the same
        weights = [model.get_submodule(name).weight for name in linears]
        try:
            scale, _ = awq_scales(weights, seen.hessian, _shuffled(seen.mean, shuffle), **options)
        except ValueError as error:
            raise ValueError(f"layers {linears}: {error}") from error
        fold(copy, previous, linears, scale)
    return copy


def quantize_awq(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    bits: int = 4,
    group_size: int | None = 64,
    pairs: Pairs | None = None,
    shuffle: torch.Generator | None = None,
    scale: bool = True,
    store_scales: bool = True,
    clip: bool = True,
    rest: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy with packed linear layers: scaled, clipped, and rounded to nearest.

    Parameters
    ----------
    model, calibration, bits, group_size, pairs, shuffle
        As for `scale_awq`; every linear layer must be called on the calibration data.
    scale : bool
        False: no scales at all, which leaves clipping.
    store_scales : bool
        Layers of no pair, such as the one behind gelu, get a stored float16 scale for each input: two bytes an input.
    clip : bool
        Clip the ranges of all linear layers.
    rest : torch.dtype
        As for `quantize_weights`.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        As `scale_awq`; and for a layer that is never called or cannot be quantized, by name.

    Examples
    --------
    >>> model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 4))
    >>> quantize_awq(model, torch.randn(50, 32), bits=3, group_size=32)[1]
    PackedLinear(in_features=32, out_features=4, bias=True, bits=3, group_size=32)
    """
    batches = input_batches(calibration)
    grid, stored, found = {"bits": bits, "group_size": group_size}, set(), {}
    if scale:
        pairs = _pairs(model, pairs)
        model = scale_awq(model, batches, pairs=pairs, shuffle=shuffle, **grid)
        if store_scales:
            stored = linear_layers(model).keys() - {name for linears in pairs.values() for name in linears}
    statistics = input_statistics(model, batches) if stored or clip else {}
    for name, layer in linear_layers(model).items():
        weight, input_scale = layer.weight.detach().double(), None
        try:
            if name in stored:
                seen = statistics[name]
                factor, _ = awq_scales([weight], seen.hessian, _shuffled(seen.mean, shuffle), **grid)
                # In float16 before it is used, since that is what will divide; any positive number is exact.
                input_scale = factor.clamp(*_FLOAT16).half()
                weight = weight * input_scale
            if clip:
                hessian = statistics[name].hessian
                if input_scale is not None:
                    hessian = hessian / torch.outer(input_scale.double(), input_scale.double())
                weight = clip_weights(weight, hessian, **grid)
            found[name] = replace(quantize_groupwise(weight, **grid), input_scale=input_scale)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
    return replace_linears(model, found, rest=rest)


def _pairs(model: nn.Module, pairs: Pairs | None) -> dict[str, list[str]]:
    return checked_pairs(model, norm_pairs(model) | attention_pairs(model) if pairs is None else pairs)


def _shuffled(salience: Tensor, generator: torch.Generator | None) -> Tensor:
    return salience if generator is None else salience[torch.randperm(len(salience), generator=generator)]
