"""Bytes of a model as a file: it is written, and the file system says how large it is.

The format is safetensors: an 8-byte length, a JSON header that names each tensor with its type, shape and
place, then the raw numbers. A fp32 weight takes 4 bytes whether it is zero or not: a pruned model is exactly
as large as the dense one until its channels are removed or its zeros are coded. `size_compressed` shows what
a general-purpose compressor already makes of the zeros.

What this is *not*: a compressed format of its own; those come with `coding`.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_model
from torch import nn

from ._running import require_module


def _write(model: nn.Module, path: Path) -> None:
    require_module(model)
    tensors = model.state_dict().values()
    # safetensors knows dense tensors only; anything else (sparse, packed) goes into torch's zip format
    plain = all(
        isinstance(t, torch.Tensor) and t.layout == torch.strided and not t.is_quantized for t in tensors
    )
    try:
        if plain:
            save_model(model, str(path))  # stores a tensor that several names share once
        else:
            torch.save(model.state_dict(), path)
    except (SafetensorError, RuntimeError) as error:
        raise OSError(f"{path} could not be written: {error}") from error


def size_on_disk(model: nn.Module, path: str | os.PathLike | None = None) -> int:
    """Write the model's state (parameters and buffers) and return the bytes of that file.

    Parameters
    ----------
    model : nn.Module
        A tensor shared by several layers is stored once. Sparse or otherwise packed tensors, which
        safetensors cannot hold, are written by ``torch.save``.
    path : path, optional
        Keep the file here (its folder must exist); without it a temporary file is written and removed.

    Returns
    -------
    int
        Bytes, header included, as ``os.stat`` says.

    Raises
    ------
    ValueError
        If `model` is not a module.
    OSError
        If the file cannot be written (no such folder, disk full).

    Examples
    --------
    >>> from torch import nn
    >>> 4 * 235500 <= size_on_disk(nn.Linear(784, 300)) <= 4 * 235500 + 400
    True
    """
    if path is not None:
        _write(model, Path(path))
        return Path(path).stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        _write(model, file)
        return file.stat().st_size


def size_compressed(model: nn.Module, *, level: int = 9) -> int:
    """Bytes of the same file after DEFLATE (what zip, gzip and HTTP use): zeros nearly vanish, random digits
    do not.

    Parameters
    ----------
    model : nn.Module
    level : int
        1 (fast) to 9 (small).

    Examples
    --------
    >>> from torch import nn
    >>> layer = nn.Linear(784, 300)
    >>> _ = nn.init.zeros_(layer.weight)
    >>> size_compressed(layer) < size_on_disk(layer) / 100
    True
    """
    if level not in range(1, 10):
        raise ValueError(f"level={level!r}: give 1 (fast) to 9 (small)")
    squeeze, size = zlib.compressobj(level), 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        _write(model, file)
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                size += len(squeeze.compress(block))
    return size + len(squeeze.flush())
