"""How the capstone is measured: the bytes of a real file, and the accuracy of what is read back from it.

The grader writes the returned weights into a file of its own sparse format, reads that file into its own network

    64 pixels -> fc1 -> ReLU -> fc2 -> ReLU -> fc3 -> 10 classes

and measures the accuracy on digits that were held back. The two hidden widths are those of the returned arrays, so
units may be removed as well as weights. A tensor in the file is

    rows, columns (2 bytes each) | one bit for each number: is it there? | those that are not zero, float16

    share of the points = size share * accuracy share
    size share     1 up to FULL bytes, 0 from NONE bytes on, and between them a straight line in log(bytes)
    accuracy share 1 as long as at most LOSS of accuracy is lost, 0 from LOSS + RAMP on, between them a straight line

Nothing here depends on the clock, so the same answer always earns the same. What this file is *not*: secret. You may
read it and call it; it contains no answer.
"""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dca_lab.grading.exercise import Case, Score

FULL, NONE = 4_000, 13_500  # bytes of the file
# accuracy that may be lost, and how fast the points fall beyond it
LOSS, RAMP = 0.03, 0.03
NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias")
INPUTS, CLASSES, WIDEST = 64, 10, 1024
MAGIC = b"DCASPARS"


class AnswerError(ValueError):
    """The answer cannot be measured; the text says why, `mistake` names it."""

    def __init__(self, mistake: str, text: str):
        super().__init__(text)
        self.mistake = mistake


def judge_compress(answer: Any, case: Case) -> Score:
    """Score what `compress` returned; `case.held` has "images", "labels" and the "dense" accuracy before."""
    try:
        state = checked(answer)
    except AnswerError as refusal:
        return Score(0.0, str(refusal), refusal.mistake)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.sparse"
        write(path, state)
        size, state = path.stat().st_size, read(path)
    lost = float(case.held["dense"]) - accuracy(
        state, case.held["images"], case.held["labels"]
    )
    return score(size, lost)


def score(size: int, lost: float) -> Score:
    """The points of a file of `size` bytes that lost this much accuracy, and what to try next.

    Examples
    --------
    >>> score(4_000, 0.01).fraction, score(14_000, 0.0).fraction, score(2_000, 0.50).fraction
    (1.0, 0.0, 0.0)
    """
    small = 1.0 if size <= FULL else math.log(NONE / size) / math.log(NONE / FULL)
    right = 1.0 if lost <= LOSS else (LOSS + RAMP - lost) / RAMP
    fraction = max(small, 0.0) * max(right, 0.0)
    change = (
        f"{100 * lost:.1f} points of accuracy lost" if lost > 0 else "no accuracy lost"
    )
    text = f"A file of {size:,} bytes, {change}: {fraction:.0%} of the points."
    if size >= NONE:
        hint = " Nothing was saved. Only exact zeros are left out of the file: did training revive them?"
        return Score(fraction, text + hint, "nothing_saved")
    if lost > 0.5:
        hint = " The network guesses. Did it train with the masks on, and did the biases stay?"
        return Score(fraction, text + hint, "guesses")
    if lost > LOSS:
        hint = f" At most {100 * LOSS:.0f} points may be lost: train on after pruning, or prune a little less."
        return Score(fraction, text + hint, "too_much_lost")
    if size > FULL:
        hint = f" Accuracy is left to spend. For all points come down to {FULL:,} bytes: prune more, then train on."
        return Score(fraction, text + hint)
    return Score(fraction, text)


def checked(answer: Any) -> dict[str, np.ndarray]:
    """The six arrays as float32, their shapes fitting each other, or `AnswerError` with the reason."""
    if not isinstance(answer, dict) or set(answer) != set(NAMES):
        text = f"Return a dict with exactly these six names: {', '.join(NAMES)}."
        raise AnswerError("not_a_state", text)
    state = {}
    for name in NAMES:
        try:
            array = torch.as_tensor(answer[name]).detach().to(torch.float32).numpy()
        except (TypeError, ValueError, RuntimeError, OverflowError):
            text = f"{name} is no array of numbers that float32 can hold."
            raise AnswerError("not_a_state", text) from None
        if (
            not np.isfinite(array).all()
            or np.abs(array).max(initial=0) > np.finfo(np.float16).max
        ):
            text = f"{name} has NaN, infinity or a number beyond float16: look at the loss while you train."
            raise AnswerError("not_finite", text)
        state[name] = array
    first, second = (
        len(state[name]) if state[name].ndim == 1 else 0
        for name in ("fc1.bias", "fc2.bias")
    )
    wanted = (
        (first, INPUTS),
        (first,),
        (second, first),
        (second,),
        (CLASSES, second),
        (CLASSES,),
    )
    for name, shape in zip(NAMES, wanted, strict=True):
        if state[name].shape != shape or not all(0 < n <= WIDEST for n in shape):
            text = f"{name} has the shape {state[name].shape}; beside the other arrays it must be {shape}."
            raise AnswerError(
                "wrong_shape",
                text
                + " A removed unit goes from its row, its bias and the next columns.",
            )
    return state


def write(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write the six arrays into one sparse file."""
    parts = [MAGIC]
    for name in NAMES:
        # Rounded first: a number too small for float16 is a zero of the file too.
        table = np.atleast_2d(state[name]).astype("<f2")
        there = table != 0
        parts += [
            struct.pack("<HH", *table.shape),
            np.packbits(there).tobytes(),
            table[there].tobytes(),
        ]
    path.write_bytes(b"".join(parts))


def read(path: Path) -> dict[str, np.ndarray]:
    """Read what `write` wrote, as float32."""
    data, at, state = path.read_bytes(), len(MAGIC), {}
    for name in NAMES:
        rows, columns = struct.unpack_from("<HH", data, at)
        at += 4
        bits = np.frombuffer(data, np.uint8, count=(rows * columns + 7) // 8, offset=at)
        at += len(bits)
        there = np.unpackbits(bits, count=rows * columns).astype(bool)
        values = np.frombuffer(data, "<f2", count=int(there.sum()), offset=at)
        at += values.nbytes
        table = np.zeros(rows * columns, np.float32)
        table[there] = values
        state[name] = table if name.endswith("bias") else table.reshape(rows, columns)
    return state


def accuracy(state: dict[str, np.ndarray], images: Any, labels: Any) -> float:
    """Share of the images, bytes of shape (n, 64), that the network reads as their labels say."""
    x = torch.as_tensor(np.asarray(images), dtype=torch.float32) / 255
    fc1, b1, fc2, b2, fc3, b3 = (
        torch.as_tensor(np.asarray(state[name])).float() for name in NAMES
    )
    with torch.inference_mode():
        hidden = F.relu(F.linear(F.relu(F.linear(x, fc1, b1)), fc2, b2))
        guesses = F.linear(hidden, fc3, b3).argmax(1)
    return float(
        (guesses == torch.as_tensor(np.asarray(labels), dtype=torch.int64))
        .float()
        .mean()
    )
