"""Arrays as one safetensors blob: an index in JSON, then the raw bytes of every array.

Idea: the format of weight files without pickle also serves for single arrays on a wire. How: it is written here, which
takes a few lines, and read by the safetensors library, which checks types, shapes, overlaps and lengths.
What this is *not*: the structure around the arrays; that is the tree of `values.py`.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import safetensors
import torch

INDEX_LIMIT = 1 << 20  # bytes of the index

# What the blob calls a type. numpy has no bfloat16 and no 8-bit floats, torch has no big-endian numbers.
NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
}
NUMPY |= {"I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"}
TORCH = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32}
TORCH |= {"I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
TORCH |= {"F64": torch.float64, "C64": torch.complex64, "U16": torch.uint16, "U32": torch.uint32}
TORCH |= {"U64": torch.uint64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
NUMPY_NAME = {np.dtype(code): name for name, code in NUMPY.items()}
TORCH_NAME = {dtype: name for name, dtype in TORCH.items()}


class BadValue(ValueError):  # noqa: N818 (the name says what is wrong)
    """Not a value that may travel, or bytes that do not describe one."""


def from_numpy(array: np.ndarray) -> tuple[str, list[int], bytes]:
    """Type, shape and bytes of an array; BadValue for one that holds no plain numbers."""
    name = NUMPY_NAME.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise BadValue(f"an array of {array.dtype} cannot be sent: use numbers of at most 64 bits")
    return name, list(array.shape), array.astype(NUMPY[name], copy=False).tobytes()


def from_torch(tensor: torch.Tensor) -> tuple[str, list[int], bytes]:
    """Type, shape and bytes of a tensor; BadValue for a sparse or a quantized one."""
    name = TORCH_NAME.get(tensor.dtype)
    if name is None or tensor.layout != torch.strided:
        raise BadValue(
            f"a tensor of {tensor.dtype}, {tensor.layout} cannot be sent: use a dense one of plain numbers"
        )
    if not tensor.numel():
        return name, list(tensor.shape), b""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return (
        name,
        list(tensor.shape),
        flat.view(torch.uint8).numpy().tobytes(),
    )  # numpy has no bfloat16: as bytes


def write(arrays: dict[str, dict]) -> bytes:
    """The blob for arrays of the form ``{"dtype": ..., "shape": ..., "data": ...}``; nothing for none."""
    if not arrays:
        return b""
    index, at = {}, 0
    for name, array in arrays.items():
        end = at + len(array["data"])
        index[name] = {"dtype": array["dtype"], "shape": array["shape"], "data_offsets": [at, end]}
        at = end
    head = json.dumps(index, separators=(",", ":")).encode("ascii")
    head += b" " * (-len(head) % 8)
    if len(head) > INDEX_LIMIT:
        raise BadValue("too many arrays: join them into a few")
    return b"".join([struct.pack("<Q", len(head)), head, *(array["data"] for array in arrays.values())])


def read(blob: bytes) -> dict[str, dict]:
    """The arrays in a blob from a stranger; raises whatever it likes if the bytes are not one."""
    if not blob:
        return {}
    if len(blob) < 8 or struct.unpack_from("<Q", blob)[0] > INDEX_LIMIT:
        raise BadValue("the index of the arrays is too long")
    return dict(safetensors.deserialize(bytes(blob)))  # checks types, shapes, overlaps and lengths


def to_array(tag: str, stored: dict) -> Any:
    """The bytes ("B"), numpy array ("A") or tensor ("T") that was stored; it may be written to."""
    name, shape, data = stored["dtype"], stored["shape"], stored["data"]
    if tag == "B":
        if name != "U8" or len(shape) != 1:
            raise BadValue("bytes are stored as one row of U8")
        return bytes(data)
    if len(shape) > 32:
        raise BadValue("an array with more than 32 axes")
    if tag == "A":
        return np.frombuffer(bytearray(data), dtype=NUMPY[name]).reshape(shape)
    dtype = TORCH[name]
    return (
        torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)
        if data
        else torch.empty(shape, dtype=dtype)
    )
