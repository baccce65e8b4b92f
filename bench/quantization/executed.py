"""One trained network, several quantizers: what their files really compute.

    error = ||q - f|| / ||f|| over the test images;   drop = accuracy of f - accuracy of q, in points

f are the logits of the float network in torch, q those of the file that the quantizer wrote, run by the library it
was written for. Everyone gets the same network and the same calibration images. What this is *not*: the simulated
error. Overflow and wrong kernels count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from bench.common import failure, spread
from bench.quantization.peers import Executable, predict_in_batches

EAGER = "torch eager"
CALIBRATION, FEW = 256, 32  # images; the second where only the code is tried
Quantizer = Callable[[nn.Module, Tensor, Path], Executable]
Run = Callable[[Tensor], Tensor]


@contextmanager
def executed(
    model: nn.Module,
    quantizers: Mapping[str, Quantizer],
    data: Sequence[Tensor],
    *,
    base: Mapping[str, Any],
    tick: Callable[[str], None],
    calibration: int = CALIBRATION,
) -> Iterator[tuple[list[dict[str, Any]], dict[str, Run]]]:
    """Rows (`base`, bytes, accuracy, drop, error) and what runs, by variant; the files are there inside.

    `data` is x, y of training and x, y of testing; the first `calibration` images of training calibrate.
    """
    x, _, x_test, y_test = data
    with torch.no_grad():
        wanted = predict_in_batches(model.eval(), x_test)
    accuracy = _accuracy(wanted, y_test)
    rows: list[dict[str, Any]] = [{**base, "variant": EAGER, "error": None, "accuracy": accuracy}]
    runs: dict[str, Run] = {EAGER: model}
    with tempfile.TemporaryDirectory() as folder:
        for number, (variant, quantize) in enumerate(quantizers.items()):
            row = {**base, "variant": variant, "error": None}
            try:
                place = Path(folder) / str(number)
                place.mkdir()
                made = quantize(model, x[:calibration], place)
                with torch.no_grad():
                    found = predict_in_batches(made.run, x_test)
                row |= {"bytes": made.bytes, "accuracy": _accuracy(found, y_test)}
                row["drop_points"] = 100 * (accuracy - row["accuracy"])
                row["relative_error"] = float((found - wanted).norm() / wanted.norm())
                runs[variant] = made.run
            except Exception as error:  # noqa: BLE001  (whatever a library raises is its result)
                row["error"] = failure(error)
            rows.append(row)
            tick(variant)
        yield rows, runs


def _accuracy(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(1) == y).double().mean())


def of(rows: Sequence[Mapping[str, Any]], case: str, variant: str) -> list[Mapping[str, Any]]:
    """The rows of a variant that ran.

    Examples
    --------
    >>> of([{"case": "a", "variant": "b", "error": None}, {"case": "a", "variant": "b", "error": "no"}], "a", "b")
    [{'case': 'a', 'variant': 'b', 'error': None}]
    """
    return [r for r in rows if r["case"] == case and r["variant"] == variant and not r["error"]]


def mean(rows: Sequence[Mapping[str, Any]], column: str, scale: float = 1.0) -> float | None:
    """Mean of a column; None without rows.

    Examples
    --------
    >>> mean([{"a": 1}, {"a": 2}], "a", scale=100), mean([], "a")
    (150.0, None)
    """
    values = [row[column] for row in rows if column in row]
    return scale * sum(values) / len(values) if values else None


def quality_table(rows: Sequence[Mapping[str, Any]], case: str) -> str:
    """Error, accuracy, drop and bytes of each variant of a case: mean (lowest to highest) over the seeds."""
    table = []
    columns = (("relative_error", 3, 100), ("accuracy", 2, 100), ("drop_points", 2, 1), ("bytes", 0, 1))
    for variant in dict.fromkeys(row["variant"] for row in rows if row["case"] == case):
        mine = [row for row in rows if row["case"] == case and row["variant"] == variant]
        good = of(rows, case, variant)
        cells = [
            spread((row[column] for row in good if column in row), digits, scale)
            for column, digits, scale in columns
        ]
        errors = [row["error"] for row in mine if row["error"]]
        table.append([variant, *cells, errors[0][:60] if errors else ""])
    headers = [case, "error %", "accuracy %", "drop, points", "bytes of the file", ""]
    return tabulate(table, headers, disable_numparse=True)
