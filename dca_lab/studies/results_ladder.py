"""A ladder from the original to nonsense: fewer filters and fewer bits, each rung a real ONNX file.

    rung = (filters kept, bits a weight)     32 filters, 32 bits -> ... -> 1 filter, 1 bit

Every pruned network is fine-tuned to the original's answers; every rung below 32 bits is then quantized *without*
training, so that a reader can watch where rounding alone breaks the answer. All of these run in int8 kernels: codes of
fewer than 8 bits lie in a byte each, since ONNX Runtime has no narrower convolution. The rung says so (``emulated``),
and gives the bytes of its file beside those that its codes would take without gaps (``bytes_packed``). 1 bit is a sign
and a scale a filter (`quantization.binarize`). What this is *not*: the best network of each size; see the chapters on
quantization-aware training for what 2 bits can do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dca_lab.deploy import Session, export_onnx
from dca_lab.quantization import binarize, export_int8, quantize_static
from dca_lab.training import evaluate

from .results_recipe import Recipe
from .results_torch import prune
from .results_train import EXAMPLE, train

# share of the filters that is removed, bits a weight
RUNGS = (
    (0.0, 32),
    (0.0, 8),
    (0.5, 8),
    (0.75, 8),
    (0.75, 4),
    (0.875, 4),
    (0.875, 3),
    (0.9375, 4),
    (0.9375, 3),
    (0.9375, 2),
    (0.96875, 2),
    (0.96875, 1),
)


def ladder(
    original: nn.Module,
    x: Tensor,
    y: Tensor,
    x_test: Tensor,
    y_test: Tensor,
    *,
    recipe: Recipe,
    seed: int,
    place: Path,
    teacher: Callable[[Tensor], Tensor],
) -> list[dict[str, Any]]:
    """Write the rungs and say what each is.

    Parameters
    ----------
    original : nn.Module
        A trained `DigitCNN`.
    x, y, x_test, y_test : Tensor
        Digits for fine-tuning and calibration, and those that the accuracy is counted on.
    recipe : Recipe
    seed : int
    place : Path
        Folder that gets ``ladder-00.onnx`` and so on.
    teacher : callable
        Gives the original's logits.

    Returns
    -------
    list of dict
        file, label, filters, sparsity (share of the filters removed), bits, emulated, accuracy, bytes, bytes_packed.
    """
    networks, rungs = {recipe.filters: original}, []
    for number, (sparsity, bits) in enumerate(RUNGS):
        kept = max(1, round(recipe.filters * (1 - sparsity)))
        if kept not in networks:
            networks[kept] = prune(original, kept)
            tune = {
                "recipe": recipe,
                "seed": seed,
                "epochs": max(1, recipe.tune_epochs // 2),
                "lr": recipe.tune_lr,
            }
            train(networks[kept], x, y, teacher=teacher, **tune)
        name = f"ladder-{number:02d}"
        session = _write(networks[kept], bits, x[: recipe.calibration], place / f"{name}.onnx")
        weights = sum(p.numel() for p in networks[kept].parameters() if p.dim() > 1)
        rungs.append(
            {
                "file": name,
                "label": f"{kept} filter{'s' * (kept > 1)}, {bits} bit{'s' * (bits > 1)}",
                "filters": kept,
                "sparsity": 1 - kept / recipe.filters,
                "bits": bits,
                "emulated": bits < 8,
                "accuracy": evaluate(session, x_test, y_test),
                "bytes": session.bytes,
                "bytes_packed": session.bytes - max(0, weights - -(-weights * bits // 8)) * (bits < 8),
            }
        )
    return rungs


def _write(network: nn.Module, bits: int, calibration: Tensor, file: Path) -> Session:
    """The network as a file with weights of so many bits; 32 is float."""
    if bits == 32:
        return export_onnx(network, EXAMPLE, file)
    if bits > 1:  # 7 of 8 bits are used: the file shall be right on processors without VNNI too
        return export_int8(network, calibration, file, weight_bits=bits, reduce_range=bits == 8)
    with torch.no_grad():
        signs = {name: binarize(getattr(network, name).weight) for name in ("conv", "fc")}
    codes = {name: (code, scale.flatten()) for name, (code, scale) in signs.items()}
    return export_int8(
        quantize_static(network, calibration, weight_codes=codes), None, file, reduce_range=True
    )
