"""How the last exercise is measured: codes become a file, and the file a network again.

The grader packs the codes itself, bit by bit, writes a file, reads that file back, puts
the weights that it finds into *its own* network (Linear, ReLU, Linear) and counts right
answers on pictures that `compress` has not seen. The size is what the file system says.

The file, little-endian: for each weight tensor one byte for the bits, one that says
whether zero points follow, two for the number of scales; the scales as 16-bit floats;
zero points and codes, packed with `bits` bits each, lowest bit first. Then the biases as
16-bit floats. What this file is *not*: an answer. It is handed out with the lab.
"""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path

import numpy as np

from dca_lab.grading.exercise import Score

FULL, NONE = 0.12, 0.40  # all and no points: share of the float32 file's bytes
FINE, LOST = 0.02, 0.04  # all and no points: accuracy lost against the float network


class MalformedError(ValueError):
    """An answer of which no file can be made: (name of the mistake, text)."""


def share_of_points(size: float, lost: float) -> float:
    """The curve; `size` as a share of the float32 file. Each halving is worth the same.

    >>> [round(share_of_points(size, 0.0), 2) for size in (0.1, 0.12, 0.26, 0.4, 1)]
    [1.0, 1.0, 0.36, 0.0, 0.0]
    >>> [round(share_of_points(0.1, lost), 2) for lost in (-0.001, 0.02, 0.03, 0.1)]
    [1.0, 1.0, 0.5, 0.0]
    """
    small = math.log(NONE / size) / math.log(NONE / FULL)
    right = (LOST - lost) / (LOST - FINE)
    return min(max(small, 0.0), 1.0) * min(max(right, 0.0), 1.0)


def numbers(entry: dict, what: str, name: str, top: int | None = None) -> np.ndarray:
    """One field as finite numbers; with `top` they must be whole and 0 to `top`."""
    value = entry[what]
    try:
        array = np.asarray(value.double() if hasattr(value, "double") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" or not array.size or not np.isfinite(array).all():
        raise MalformedError("not_numbers", f"{name}: {what} must be finite numbers.")
    if top is None:
        return array.astype(np.float64)
    if (array != np.rint(array)).any():
        text = f"{name}: {what} must be whole: store levels, not what they stand for."
        raise MalformedError("not_whole", text)
    if array.min() < 0 or array.max() > top:
        text = f"{name}: {what} must be 0 to {top}; signed levels need the zero point."
        raise MalformedError("outside_of_the_levels", text)
    return array.astype(np.uint8)


def one_per_part(array: np.ndarray, weight: np.ndarray, what: str) -> np.ndarray:
    """Scales or zero points as (out, groups), or (1, 1) for the whole tensor."""
    rows, columns = weight.shape
    if array.size == 1:
        return array.reshape(1, 1)
    grid = array[:, None] if array.ndim == 1 else array
    if grid.ndim != 2 or len(grid) != rows or columns % grid.shape[1]:
        text = f"{what} has shape {array.shape}. It needs (), ({rows},) or ({rows}, groups)"
        raise MalformedError("wrong_shape", f"{text}, where groups divides {columns}.")
    return grid


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Whole numbers below 2**bits without gaps, lowest bit first.

    >>> pack(np.array([1, 2, 15], dtype=np.uint8), 4).hex()
    '210f'
    """
    each = np.unpackbits(codes.reshape(-1, 1), axis=1, bitorder="little")[:, :bits]
    return np.packbits(each, bitorder="little").tobytes()


def unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack`: `count` numbers."""
    packed = np.frombuffer(data, dtype=np.uint8)
    each = np.unpackbits(packed, count=bits * count, bitorder="little")
    return np.packbits(each.reshape(count, bits), axis=1, bitorder="little").ravel()


def packed(entry: dict, weight: np.ndarray, name: str) -> bytes:
    """One weight tensor as it stands in the file; MalformedError if that cannot be."""
    if not isinstance(entry, dict) or not {"bits", "codes", "scale"} <= set(entry):
        raise MalformedError("missing_entry", f"{name} needs bits, codes and scale.")
    bits = numbers(entry, "bits", name)
    if bits.size != 1 or bits.item() not in range(2, 9):
        raise MalformedError("impossible_bits", f"{name}: bits must be 2 to 8.")
    bits = int(bits.item())
    codes = numbers(entry, "codes", name, 2**bits - 1)
    if codes.shape != weight.shape:
        text = f"{name}: codes have shape {codes.shape}, the weight {weight.shape}."
        raise MalformedError("wrong_shape", text)
    scale = one_per_part(numbers(entry, "scale", name), weight, f"{name}, scale")
    with np.errstate(over="ignore"):
        scale = scale.astype("<f2")
    if not (np.isfinite(scale) & (scale > 0)).all():
        text = f"{name}: scales must be above 0 and fit 16-bit floats (6e-8 to 65504)."
        raise MalformedError("impossible_scale", text)
    zero = b""
    if entry.get("zero_point") is not None:
        points = numbers(entry, "zero_point", name, 2**bits - 1)
        points = one_per_part(points, weight, f"{name}, zero_point")
        if points.size not in (1, scale.size):
            text = f"{name}: give as many zero points as scales, or one."
            raise MalformedError("wrong_shape", text)
        zero = pack(np.broadcast_to(points, scale.shape).copy(), bits)
    head = struct.pack("<BBH", bits, bool(zero), scale.size)
    return head + scale.tobytes() + zero + pack(codes, bits)


def read(data: bytes, shapes: dict[str, tuple]) -> dict[str, np.ndarray]:
    """The weights and biases that a file holds, as float32."""
    at, found = 0, {}

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    for name, (rows, columns) in ((n, s) for n, s in shapes.items() if len(s) == 2):
        bits, has_zero, scales = struct.unpack("<BBH", take(4))
        grid = (1, 1) if scales == 1 else (rows, scales // rows)
        scale = np.frombuffer(take(2 * scales), "<f2").reshape(grid).astype(np.float32)
        zero = np.full(grid, 2 ** (bits - 1))  # of the symmetric grid: costs nothing
        if has_zero:
            zero = unpack(take((scales * bits + 7) // 8), bits, scales).reshape(grid)
        codes = unpack(take((rows * columns * bits + 7) // 8), bits, rows * columns)
        levels = codes.reshape(*grid, -1) if scales > 1 else codes.reshape(1, 1, -1)
        values = scale[..., None] * (levels - zero[..., None].astype(np.float32))
        found[name] = values.reshape(rows, columns)
    for name, (size,) in ((n, s) for n, s in shapes.items() if len(s) == 1):
        found[name] = np.frombuffer(take(2 * size), "<f2").astype(np.float32)
    return found


def accuracy(state: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """The share of right answers of the network with these weights."""
    h = np.maximum(x @ state["fc1.weight"].T + state["fc1.bias"], 0)
    logits = h @ state["fc2.weight"].T + state["fc2.bias"]
    return float((logits.argmax(axis=1) == y).mean())


def through_a_file(answer, state: dict) -> tuple[int, dict[str, np.ndarray]]:
    """The bytes of the answer's file, and the network that is read back from it."""
    weights = [name for name, value in state.items() if value.ndim == 2]
    if not isinstance(answer, dict) or set(answer) != set(weights):
        text = f"Return a dict with the entries {' and '.join(weights)}, and no others."
        raise MalformedError("wrong_entries", text)
    biases = [v.astype("<f2").tobytes() for v in state.values() if v.ndim == 1]
    tensors = [packed(answer[name], state[name], name) for name in weights]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.bin"
        path.write_bytes(b"".join(tensors + biases))
        shapes = {name: value.shape for name, value in state.items()}
        return path.stat().st_size, read(path.read_bytes(), shapes)


def judge_file(answer, case) -> Score:
    """The points; `case.held` has the network ("state") and pictures ("x", "y")."""
    state = {name: np.asarray(value) for name, value in case.held["state"].items()}
    x, y = np.asarray(case.held["x"]), np.asarray(case.held["y"])
    try:
        size, found = through_a_file(answer, state)
    except MalformedError as error:
        mistake, text = error.args
        return Score(0.0, text, mistake)
    lost = accuracy(state, x, y) - accuracy(found, x, y)
    small = size / sum(value.nbytes for value in state.values())
    fraction = share_of_points(small, lost)
    text = f"{size:,} bytes, {small:.1%} of the float32 file; "
    text += f"{100 * max(lost, 0):.1f} points of accuracy lost."
    norm = np.linalg.norm
    off = {n: norm(found[n] - state[n]) / norm(state[n]) for n in answer}
    worst = max(off, key=off.get)
    if lost > FINE and off[worst] > 0.9:
        text += f" {worst} is not itself: compare it with scale * (codes - zero_point)."
        text += " The zero point that you leave out is 2**(bits - 1)."
        return Score(fraction, text, "not_the_weight")
    if lost > FINE:
        text += f" More than {100 * FINE:.0f} cost points. {worst} is farthest off"
        text += f" ({off[worst]:.0%}): another range, or a bit more?"
        return Score(fraction, text, "too_few_levels")
    if fraction < 1:
        text += f" All points need {FULL:.0%}: codes, scales or zero points?"
        return Score(fraction, text, "file_too_large")
    return Score(1.0, text)
