"""From a float network to a file that runs in int8: quantize statically, write QDQ, open in ONNX Runtime.

    network, examples -> `quantize_static` -> steps -> `write_qdq` -> file -> `Session`

Of three executions of the same steps, `StaticModel.simulate` shows what quantization costs, `integers` what
the arithmetic is, and the session here what it gains in seconds. They agree, up to a level where a sum lies
between two levels, on one condition: the processor adds as integers add. x86 processors without VNNI do not
(`saturation`), and there the weights are given 7 bits, which costs little accuracy and no speed.

What this is *not*: a training method. When 8 bits lose too much, see `equalize`, `adaround` and `qat`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dca_lab.deploy import Session
from dca_lab.files import require_folder

from . import _processor
from .qdq import write_qdq
from .saturation import can_saturate
from .static import StaticModel, quantize_static


def export_int8(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor] | None,
    path: str | Path,
    *,
    reduce_range: bool | None = None,
    threads: int = 1,
    **options: Any,
) -> Session:
    """Quantize a network, write it as an ONNX file, and open the file in ONNX Runtime.

    Parameters
    ----------
    model : nn.Module
        A float network, or a graph from `prepare`; or a `StaticModel`, which is written as it is.
    calibration : Tensor or iterable of Tensor
        As for `quantize_static`; not used, and None, for a `StaticModel`.
    path : str or Path
        The file, ``.onnx`` by custom, in a folder that exists. It is there whole or not at all.
    reduce_range : bool, optional
        Weights of 7 bits, +-63. By default only where the processor needs it: x86 without VNNI. A file that is
        to run elsewhere is safe with True.
    threads : int
        Of the session.
    **options
        For `quantize_static`: observer, activation_bits, weight_bits, per_channel and so on.

    Returns
    -------
    Session
        Takes float32 (B, ...), gives float32.

    Raises
    ------
    QuantizationError
        A ValueError: a layer that cannot be quantized, or calibration data that are empty or not finite.
    FileNotFoundError
        If the folder does not exist.
    ValueError
        For settings that do not fit, such as `options` beside a `StaticModel`.

    Warns
    -----
    RuntimeWarning
        If a `StaticModel` has 8-bit weights whose sums can saturate on this processor.

    Examples
    --------
    >>> import tempfile, torch
    >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    >>> x = torch.rand(16, 1, 8, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = export_int8(model, x, f"{folder}/int8.onnx")
    >>> session(x).shape, session.node_types()["QLinearConv"]
    (torch.Size([16, 3]), 1)
    """
    path = require_folder(path)  # before minutes of calibration
    narrow = _processor.wants_reduced_range() if reduce_range is None else bool(reduce_range)
    if isinstance(model, StaticModel):
        if options or calibration is not None:
            given = [*options, *(["calibration"] if calibration is not None else [])]
            raise ValueError(f"a StaticModel is quantized already: leave out {', '.join(given)}")
        check_range(model, required=reduce_range is True, warn=narrow)
        static = model
    else:
        static = quantize_static(model, calibration, reduce_range=narrow, **options)
    return Session(write_qdq(static, path), threads=threads)


def check_range(static: StaticModel, *, required: bool, warn: bool) -> None:
    """Refuse or report layers whose sums may saturate where pairs are added in 16 bits."""
    weights = {step.name: step.weight for step in static.steps if step.weight is not None}
    wide = [name for name, weight in weights.items() if int(weight.to(int).abs().max()) > 63]
    if required and wide:
        raise ValueError(
            f"reduce_range=True, but the weights of {wide[0]!r} have 8 bits: quantize with reduce_range=True"
        )
    # channels last, as the kernels read them
    rows = {name: weights[name].movedim(1, -1).flatten(1) for name in wide}
    risky = [name for name, weight in rows.items() if bool(can_saturate(weight).any())]
    if warn and risky:
        warnings.warn(
            f"the sums of {', '.join(risky)} can saturate on this processor, which has no VNNI: "
            "quantize with reduce_range=True",
            RuntimeWarning,
            stacklevel=3,
        )
