"""The whole of post-training quantization in its order: equalize, refit, round adaptively, quantize.

    prepare -> equalize -> grids -> refit (or bias correction) -> adaround -> quantize_static

The order matters: equalisation changes which grids are right, so it comes first; the grids are then chosen once
and kept; what is fitted to quantized inputs needs these grids; and rounding is last, around the fitted weights
but towards the outputs of the float network. Each part can be left out, which is how one finds out what it
brings. It is *not* a search: the settings are the same for every network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from .adaround import adaround
from .bias_correction import bias_correction
from .calibration import calibration_batches
from .equalize import equalize
from .graph import prepare
from .refit import refit
from .static import StaticModel, quantize_static

CORRECTIONS = {"refit": refit, "bias": bias_correction}


def quantize_best(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    equalized: bool = True,
    correction: str | None = "refit",
    iterations: int = 200,
    seed: int = 0,
    **options: Any,
) -> StaticModel:
    """Quantize a trained network with everything that needs no labels.

    Parameters
    ----------
    model : nn.Module
        Plain, or a graph from `prepare`; not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches; a few hundred typical inputs.
    equalized : bool
        Whether channels are given equal ranges first.
    correction : "refit", "bias" or None
        Fit weights and biases, or biases alone, to the quantized inputs.
    iterations : int
        Of `adaround` a layer; 0 rounds to nearest.
    seed : int
        Of `adaround`.
    **options
        Of `quantize_static`, such as ``weight_bits=4`` or ``reduce_range=True``.

    Returns
    -------
    StaticModel
        Also for `export_int8`.

    Raises
    ------
    QuantizationError, ValueError
        As `quantize_static`; and for a correction that does not exist.

    Examples
    --------
    >>> import torch
    >>> x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> quantize_best(model, x, iterations=20, weight_bits=4).integers(x).shape
    torch.Size([16, 3])
    """
    if correction is not None and correction not in CORRECTIONS:
        raise ValueError(f"correction={correction!r}: choose one of {', '.join(CORRECTIONS)}, or None")
    batches = calibration_batches(calibration)
    exact = equalize(model, batches) if equalized else prepare(model, batches[0])
    first = quantize_static(exact, batches, **options)
    chosen = {name: grid for name, grid in first.grids.items() if grid is not None}
    options = {**options, "grids": chosen}
    fitted = exact if correction is None else CORRECTIONS[correction](exact, batches, **options)
    if iterations:
        codes = adaround(fitted, batches, reference=exact, iterations=iterations, seed=seed, **options)
        options["weight_codes"] = codes
    return quantize_static(fitted, batches, **options)
