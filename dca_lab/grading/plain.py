"""Values as plain arrays: what counts as a number, and how a value is shown in a message.

Numbers are Python's, numpy's scalars and arrays, torch's tensors, and nested lists of these that make a regular array.
Types are compared exactly, since a subclass may lie about its values; tensors of every floating-point type become
float64, which is exact. What this is *not*: a comparison; that is `compare.py`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

_SCALARS = {kind for kind in np.sctypeDict.values() if issubclass(kind, (np.number, np.bool))}
_NUMBERS = {bool, int, float, complex, np.ndarray, *_SCALARS}  # exactly these: a subclass may lie


MOST = 1 << 24  # numbers of one array: 8-bit ones become eight times as large


class UnfitError(TypeError):
    """Not a number, text, list, tuple or dictionary."""


def is_tensor(value: Any) -> bool:
    """Whether it is exactly a torch tensor or parameter."""
    torch = sys.modules.get("torch")  # without torch in this process nothing is a tensor
    return torch is not None and type(value) in (torch.Tensor, torch.nn.Parameter)


def kind_of(value: Any) -> str:
    """One of number, sequence, dict, str, bytes, none and other, by the exact type."""
    kind = type(value)
    if kind in _NUMBERS or is_tensor(value):
        return "number"
    names = {
        list: "sequence",
        tuple: "sequence",
        dict: "dict",
        str: "str",
        bytes: "bytes",
        type(None): "none",
    }
    return names.get(kind, "other")


def array_of(value: Any) -> np.ndarray:
    """The numbers of `value` as a plain array of bool, integer, float or complex; UnfitError where that is impossible."""
    if is_tensor(value):
        return _from_tensor(value)
    if type(value) is int and not -(2**63) <= value < 2**64:
        try:
            return np.array(float(value))
        except OverflowError:
            raise UnfitError(f"it is an integer of {value.bit_length()} bits") from None
    kind = kind_of(value)
    if kind == "number":
        array = np.asarray(value)
        if array.size > MOST:
            raise UnfitError(f"it is an array of {array.size:,} numbers")
        if array.dtype.kind not in "biufc":
            raise UnfitError(f"it is an array of {array.dtype}")
        return array.astype(np.float64) if array.dtype.kind == "f" else array
    if kind != "sequence":
        raise UnfitError(f"it is {named(value)}")
    if all(type(item) in (bool, int, float) for item in value):
        array = np.array(value)  # the common case, quickly
        if array.dtype.kind in "biuf":
            return array
    rows = [array_of(item) for item in value]
    if any(row.shape != rows[0].shape for row in rows):
        raise UnfitError(f"it is {named(value)} of several shapes")
    return np.stack(rows) if rows else np.zeros(0)


def array_or_none(value: Any) -> np.ndarray | None:
    """`array_of`, or None for what is no array of numbers."""
    try:
        return array_of(value)
    except UnfitError:
        return None


def _from_tensor(tensor: Any) -> np.ndarray:
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided or tensor.device.type == "meta" or tensor.is_quantized:
        raise UnfitError(f"it is a tensor of {tensor.dtype}, {tensor.layout}, and not one of plain numbers")
    if tensor.numel() > MOST:
        raise UnfitError(f"it is a tensor of {tensor.numel():,} numbers")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype.is_floating_point:
        plain = plain.to(torch.float64)  # exact, also for bfloat16, which numpy does not have
    elif plain.dtype.is_complex:
        plain = plain.to(torch.complex128)
    return plain.numpy()


def named(value: Any) -> str:
    """What it is, in words for a message."""
    if value is None:
        return "None"
    kind = kind_of(value)
    if kind == "number":
        try:
            shape = array_of(value).shape
        except UnfitError:
            return f"a {type(value).__name__}"
        return f"an array of shape {shape}" if shape else "a number"
    names = {"dict": "a dictionary", "str": "text", "bytes": "bytes"}
    return names.get(kind, f"a {type(value).__name__}")


def show(value: Any, longest: int = 80) -> str:
    """A short text of a value for a message, on one line.

    Examples
    --------
    >>> show(np.float32(0.1)), show([1, 2])
    ('0.1', '[1, 2]')
    """
    if isinstance(value, (np.ndarray, np.generic)) or is_tensor(value):
        array = np.asarray(_from_tensor(value) if is_tensor(value) else value)
        if array.ndim == 0:
            return f"{array.item():.6g}" if array.dtype.kind == "f" else str(array.item())
        text = np.array2string(array, separator=", ", precision=6, threshold=12, edgeitems=3)
    elif type(value) in (list, tuple):
        inner = ", ".join(show(item, longest) for item in value[:12]) + (", ..." if len(value) > 12 else "")
        text = f"[{inner}]" if type(value) is list else f"({inner}{',' if len(value) == 1 else ''})"
    elif type(value) is dict:
        text = (
            "{" + ", ".join(f"{key!r}: {show(item, longest)}" for key, item in list(value.items())[:6]) + "}"
        )
    else:
        text = (
            repr(value)
            if type(value) in (bool, int, float, complex, str, bytes, type(None))
            else type(value).__name__
        )
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 4] + " ..."
