"""Training on the grid: how much of what post-training quantization loses at 4 and 2 bits comes back on MNIST?

    train in fp32 -> quantize to b bits (post-training)
                  -> prepare_qat (LSQ) -> train on -> convert -> evaluate the integers

LeNet-5 (Caffe's), b bits for weights and activations, with the first and the last layer at 8 bits as is usual, and
also with every layer at b bits (the pixels keep their 8). Post-training is tried twice: rounding to nearest, and with
refitting and adaptive rounding. The control is the fp32 network trained on for the same epochs, and drops are counted
from the better of the two. Accuracies of the quantized networks are those of the converted integer network. No peer:
torch's own quantization-aware training has no learned steps below 8 bits that run. What this is *not*: a search for
the best settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tabulate import tabulate
from torch import Tensor, nn

from bench.common import Goal, cosine, failure, goals_table, spread
from bench.quantization.executed import mean
from dca_lab.data import as_tensors, load
from dca_lab.models import build
from dca_lab.quantization.qat import convert, prepare_qat
from dca_lab.quantization.refine import quantize_best
from dca_lab.quantization.static import quantize_static
from dca_lab.training import evaluate, fit

TITLE = "Quantization-aware training: LeNet-5 on MNIST at 4 and 2 bits"
BITS = (4, 2)
LIMITS = {4: 0.5, 2: 2.0}  # points
FLOAT, CONTROL = "fp32", "fp32, trained on"
POST, REFINED, QAT, QAT_ALL = "post-training", "post-training, refined", "QAT", "QAT, all layers"
CALIBRATION = 256


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each seed, method and number of bits."""
    rows = []
    data = as_tensors(load("mnist"), train=300 if quick else 20000, test=200 if quick else None)
    epochs, more = (1, 1) if quick else (3, 3)
    for seed in range(seeds):
        model = build("lenet-5", seed=seed)
        fit(model, *data[:2], epochs=epochs, seed=seed, schedule=cosine, progress=False)
        rows.append({"seed": seed, "method": FLOAT, "bits": 32, "error": None})
        rows[-1]["accuracy"] = evaluate(model, *data[2:])
        tick(f"seed {seed}: trained")
        for method, bits in METHODS:
            row = {"seed": seed, "method": method, "bits": bits, "error": None}
            try:
                made = _made(method, bits, model, data, seed=seed, epochs=more, quick=quick)
                row["accuracy"] = evaluate(made, *data[2:])
            except Exception as error:  # noqa: BLE001  (a failure is a result)
                row["error"] = failure(error)
            rows.append(row)
            tick(f"seed {seed}: {method}, {bits} bits")
    return rows


METHODS = [(CONTROL, 32), *((m, b) for b in BITS for m in (POST, REFINED, QAT, QAT_ALL))]


def _made(
    method: str,
    bits: int,
    model: nn.Module,
    data: tuple[Tensor, ...],
    *,
    seed: int,
    epochs: int,
    quick: bool,
) -> nn.Module:
    """The network that a method gives; `model` is not changed."""
    x, y, calibration = data[0], data[1], data[0][:CALIBRATION]
    if method in (POST, REFINED):
        # the same layers keep 8 bits as in training: the first, the last, and the grids that only they read
        widths = {"conv1": 8, "conv2": bits, "fc1": bits, "fc2": 8}
        grids = convert(prepare_qat(model, calibration, weight_bits=bits, activation_bits=bits)).grids
        options = {"weight_bits": widths, "grids": {k: g for k, g in grids.items() if g is not None}}
        if method == POST:
            return quantize_static(model, calibration, **options)
        # Not equalized: channels of other sizes would need other grids.
        return quantize_best(model, calibration, equalized=False, iterations=5 if quick else 200, **options)
    if method == CONTROL:
        trained = build("lenet-5", seed=seed)
        trained.load_state_dict(model.state_dict())
    else:
        keep = {"input": 8} if method == QAT_ALL else "first and last"
        trained = prepare_qat(model, calibration, weight_bits=bits, activation_bits=bits, keep=keep)
    fit(trained, x, y, epochs=epochs, seed=1000 + seed, schedule=cosine, progress=False)
    return trained if method == CONTROL else convert(trained)


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return seeds * (1 + len(METHODS))


def drops(rows: list[dict[str, Any]], method: str, bits: int) -> list[dict[str, Any]]:
    """Points below the fp32 network of the same seed, trained on or not, whichever is better.

    Examples
    --------
    >>> full = {"seed": 0, "method": FLOAT, "bits": 32, "error": None, "accuracy": 0.75}
    >>> drops([full, {**full, "method": QAT, "bits": 4, "accuracy": 0.5}], QAT, 4)
    [{'drop': 25.0}]
    """
    good = [row for row in rows if not row["error"]]
    full: dict[int, float] = {}
    for row in good:
        if row["bits"] == 32:
            full[row["seed"]] = max(row["accuracy"], full.get(row["seed"], 0.0))
    found = [row for row in good if (row["method"], row["bits"]) == (method, bits)]
    return [{"drop": 100 * (full[row["seed"]] - row["accuracy"])} for row in found]


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """The mean drop of QAT at each number of bits, in both forms."""
    return [
        Goal(
            f"{method}, {bits} bits: points below fp32",
            mean(drops(rows, method, bits), "drop"),
            "<=",
            LIMITS[bits],
        )
        for bits in BITS
        for method in (QAT, QAT_ALL)
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """Accuracy and drop of each method: mean (lowest to highest) over the seeds; then the goals."""
    table = []
    for method, bits in [(FLOAT, 32), *METHODS]:
        mine = [row for row in rows if (row["method"], row["bits"]) == (method, bits)]
        errors = [row["error"] for row in mine if row["error"]]
        accuracy = spread((row["accuracy"] for row in mine if "accuracy" in row), scale=100)
        drop = spread(each["drop"] for each in drops(rows, method, bits))
        table.append([method, bits, accuracy, drop, errors[0][:60] if errors else ""])
    headers = ["", "bits", "accuracy %", "points below fp32", ""]
    return tabulate(table, headers, disable_numparse=True) + "\n\n" + goals_table(goals(rows))
