"""How the capstone is measured: the grader builds its own network and counts, whatever the answer claims.

An answer is a plain description with weights, no module:

    {"layers": [{"kind": "flatten"}, {"kind": "linear", "outputs": 10}],
     "weights": {"1.weight": ..., "1.bias": ...}}                # "<place in the list>.weight", as nn.Sequential says

The grader builds these layers itself, loads the weights, counts the MACs of one image with `dca_lab.measure` and
measures the accuracy on digits that were held back. Then

    share of the points = size share * accuracy share
    size share     1 up to FULL MACs, 0 from NONE MACs on, and between them a straight line in log(MACs)
    accuracy share 1 from FLOOR on, 0 from FLOOR - RAMP down, and a straight line between

Nothing here depends on the clock, so the same answer always earns the same. What this file is *not*: secret. You may
read it and call it; it contains no answer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from dca_lab.grading.exercise import Case, Score

FULL, NONE = 4_000, 20_000  # MACs of one image
FLOOR, RAMP = 0.90, 0.01  # accuracy on held-out digits
CLASSES, IMAGE = 10, (1, 8, 8)

# What a layer may say, and its bounds: enough for this task, and small enough to build before anything is checked.
KINDS = {
    "conv": {
        "channels": (1, 256),
        "kernel": (1, 8),
        "stride": (1, 8),
        "padding": (0, 7),
        "groups": (1, 256),
    },
    "pool": {"size": (1, 8)},
    "relu": {},
    "flatten": {},
    "linear": {"outputs": (1, 1024)},
}
MOST_LAYERS, MOST_WEIGHTS = 20, 200_000


class AnswerError(ValueError):
    """The answer cannot be measured; the text says why, `mistake` names it."""

    def __init__(self, mistake: str, text: str):
        super().__init__(text)
        self.mistake = mistake


def judge_design(answer: Any, case: Case) -> Score:
    """Score what `design` returned; `case.held` has "images" (n, 1, 8, 8) of bytes and "labels" (n,)."""
    from dca_lab import measure

    try:
        network = build(answer)
    except AnswerError as refusal:
        return Score(0.0, str(refusal), refusal.mistake)
    macs = int(measure.count_macs(network, torch.zeros(1, *IMAGE)))
    if macs >= NONE:
        text = f"Your network does {macs:,} MACs an image. From {NONE:,} on there are no points: make it narrower."
        return Score(0.0, text, "too_large")

    images = torch.as_tensor(np.asarray(case.held["images"]), dtype=torch.float32) / 255
    labels = torch.as_tensor(np.asarray(case.held["labels"]), dtype=torch.int64)
    with torch.inference_mode():
        guesses = torch.cat([network(part).argmax(1) for part in images.split(500)])
    accuracy = float((guesses == labels).float().mean())
    return score(macs, accuracy)


def score(macs: int, accuracy: float) -> Score:
    """The points of a network with these two figures, and what to try next.

    Examples
    --------
    >>> score(4_000, 0.92).fraction, score(20_000, 0.95).fraction, score(2_000, 0.80).fraction
    (1.0, 0.0, 0.0)
    """
    size = 1.0 if macs <= FULL else math.log(NONE / macs) / math.log(NONE / FULL)
    right = 1.0 if accuracy >= FLOOR else (accuracy - (FLOOR - RAMP)) / RAMP
    fraction = max(size, 0.0) * max(right, 0.0)
    text = f"{accuracy:.1%} of the held-out digits right with {macs:,} MACs an image: {fraction:.0%} of the points."
    if accuracy < 0.25:
        hint = " That is close to guessing. Did you return the weights after training, and labels as they came?"
        return Score(fraction, text + hint, "untrained")
    if accuracy < FLOOR:
        hint = f" The floor is {FLOOR:.0%}: train longer, with a falling learning rate, or add hidden units."
        return Score(fraction, text + hint, "floor_missed")
    if macs > FULL:
        hint = f" The floor is met. For all points come down to {FULL:,} MACs: where are most of yours?"
        return Score(fraction, text + hint)
    return Score(fraction, text)


def build(answer: Any) -> nn.Sequential:
    """The described network with the weights of the answer, or `AnswerError` with the reason."""
    if not isinstance(answer, dict) or set(answer) != {"layers", "weights"}:
        raise AnswerError(
            "no_description",
            'Return a dict with two entries, "layers" and "weights", and no module.',
        )
    layers, weights = answer["layers"], answer["weights"]
    if not isinstance(layers, list | tuple) or not isinstance(weights, dict):
        raise AnswerError(
            "no_description",
            '"layers" must be a list of dicts, and "weights" a dict of arrays.',
        )
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise AnswerError(
            "no_description", f'"layers" must have 1 to {MOST_LAYERS} entries.'
        )

    network, x, used = nn.Sequential(), torch.zeros(1, *IMAGE), set()
    for place, layer in enumerate(layers):
        module = _module(layer, place, x)
        for name, parameter in module.named_parameters():
            used.add(f"{place}.{name}")
            parameter.data = _weights(weights, f"{place}.{name}", parameter.shape)
        with torch.inference_mode():
            try:
                x = module(x)
            except (RuntimeError, ValueError):
                text = f"Layer {place} ({layer['kind']}) cannot take an input of shape {tuple(x.shape[1:])}."
                raise AnswerError("does_not_fit", text) from None
        network.append(module)
    if x.shape != (1, CLASSES):
        text = f"The last layer must give {CLASSES} numbers an image; yours gives the shape {tuple(x.shape[1:])}."
        raise AnswerError("does_not_fit", text)
    if set(weights) != used:
        text = '"weights" has entries that belong to no layer: the names count all layers, "1.weight" is of the second.'
        raise AnswerError("wrong_names", text)
    return network.eval()


def _module(layer: Any, place: int, x: torch.Tensor) -> nn.Module:
    """One layer of the grader's own network for the input `x`."""
    kind = layer.get("kind") if isinstance(layer, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise AnswerError(
            "no_description",
            f"Layer {place} has no known kind. There are: {', '.join(KINDS)}.",
        )
    if set(layer) != {"kind", *KINDS[kind]}:
        text = f"Layer {place} ({kind}) needs exactly these entries: {', '.join(['kind', *KINDS[kind]])}."
        raise AnswerError("no_description", text)
    for name, (least, most) in KINDS[kind].items():
        if type(layer[name]) is not int or not least <= layer[name] <= most:
            text = f"Layer {place} ({kind}): {name} must be a whole number from {least} to {most}."
            raise AnswerError("no_description", text)

    if kind == "pool":
        return nn.AvgPool2d(layer["size"])
    if kind == "relu":
        return nn.ReLU()
    if kind == "flatten":
        return nn.Flatten()
    if (kind == "conv") != (x.ndim == 4):
        need = (
            "a map, so put it before the flatten"
            if kind == "conv"
            else "a flat input: put a flatten before it"
        )
        raise AnswerError("does_not_fit", f"Layer {place} ({kind}) needs {need}.")
    try:
        if kind == "linear":
            _bounded(place, layer["outputs"] * x.shape[1])
            return nn.Linear(x.shape[1], layer["outputs"])
        _bounded(place, layer["channels"] * x.shape[1] * layer["kernel"] ** 2)
        options = {name: layer[name] for name in ("stride", "padding", "groups")}
        return nn.Conv2d(x.shape[1], layer["channels"], layer["kernel"], **options)
    except ValueError as error:
        if isinstance(error, AnswerError):
            raise
        raise AnswerError(
            "does_not_fit",
            f"Layer {place} ({kind}): groups must divide both channel counts.",
        ) from None


def _bounded(place: int, numbers: int) -> None:
    if numbers > MOST_WEIGHTS:
        raise AnswerError(
            "too_large",
            f"Layer {place} alone has more than {MOST_WEIGHTS:,} weights: make it narrower.",
        )


def _weights(weights: dict, name: str, shape: torch.Size) -> torch.Tensor:
    """One finite float32 tensor of the answer, with the shape that the layer needs."""
    if name not in weights:
        text = f'"weights" lacks {name!r}. The names are those of nn.Sequential(...).state_dict(), relu and pool counted.'
        raise AnswerError("wrong_names", text)
    try:
        tensor = torch.as_tensor(weights[name]).detach().to(torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        text = f"{name} is no array of numbers that float32 can hold."
        raise AnswerError("wrong_shape", text) from None
    if tensor.shape != shape:
        text = f"{name} has the shape {tuple(tensor.shape)}; the layer that you describe needs {tuple(shape)}."
        raise AnswerError("wrong_shape", text)
    if not tensor.isfinite().all():
        text = f"{name} contains NaN or infinity: lower the learning rate, and look at the loss while you train."
        raise AnswerError("not_finite", text)
    return tensor.contiguous()
