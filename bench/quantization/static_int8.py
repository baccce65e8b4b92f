"""Post-training static int8: ours beside ONNX Runtime's own and torchao's, on the same trained networks.

    train -> quantize with 256 training images -> run the file -> compare its logits with the float network's

    error = ||q - f|| / ||f|| over the test images;   drop = accuracy of f - accuracy of q, in points

Errors are of what is *executed*, so that overflow and wrong kernels count. Speeds are medians of paired ratios in
interleaved rounds, one thread. "Refined" adds equalisation, refitting and adaptive rounding: another choice of
integers, the same graph and speed. "oneDNN" runs the steps of the plain one on other kernels; a peer's speed is held
against the faster of the two at that batch size, which the goal names. The full-width ResNet-18 is trained on half of
the images for one epoch, and not refined. What this is *not*: a claim about processors with other instructions:
oneDNN, here and behind torchao, uses matrix instructions (AMX) where there are some, and ONNX Runtime's convolutions
do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate
from torch import Tensor

from bench.common import OURS, Goal, cosine, goals_table
from bench.quantization.executed import CALIBRATION, EAGER, FEW, Run, executed, mean, of, quality_table
from bench.quantization.ours import (
    INT8_OURS,
    ONEDNN,
    ORT_FLOAT,
    REFINED,
    float_session,
    int8_machine,
    on_onednn,
)
from bench.quantization.peers import INT8_PEERS, ORT, ORT_CHANNEL, TORCHAO
from dca_lab.data import as_tensors, load
from dca_lab.measure import bound, latency, machine
from dca_lab.models import build
from dca_lab.training import fit

TITLE = "Static int8: the executed error, accuracy, speed and bytes"
BATCHES = (1, 64)  # sizes for latency
VARIANTS = {ORT_FLOAT: float_session, **INT8_OURS, ONEDNN: on_onednn, **INT8_PEERS}


@dataclass(frozen=True)
class Case:
    """A network, how long it is trained, and how many of the seeds."""

    model: str
    options: dict[str, Any]
    epochs: int
    train: int | None = None
    test: int | None = None
    seeds: int | None = None
    without: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """All but those left out."""
        return tuple(name for name in VARIANTS if name not in self.without)


CASES: dict[str, Case] = {
    "SmallCNN": Case("small-cnn", {}, epochs=3),
    "ResNet18, width 16": Case("resnet-18", {"width": 16}, epochs=2),
    # refining changes no kernel, and takes minutes a seed at this width
    "ResNet18, width 64": Case("resnet-18", {}, epochs=1, train=6144, test=2000, without=(REFINED,)),
}
QUICK: dict[str, Case] = {
    "SmallCNN": Case("small-cnn", {"channels": (4, 8)}, epochs=1, train=512, test=256, seeds=1),
}


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each case, seed and variant; speeds are in the rows of seed 0."""
    rows = []
    dataset = load("fashion")
    for name, case in (QUICK if quick else CASES).items():
        data = as_tensors(dataset, train=case.train, test=case.test)
        for seed in range(min(seeds, case.seeds or seeds)):
            model = build(case.model, seed=seed, **case.options)
            fit(model, *data[:2], epochs=case.epochs, seed=seed, schedule=cosine, progress=False)
            tick(f"{name}, seed {seed}: trained")
            chosen = {variant: VARIANTS[variant] for variant in case.variants}
            options = {"base": {"case": name, "seed": seed}, "calibration": FEW if quick else CALIBRATION}
            with executed(model, chosen, data, tick=tick, **options) as (found, runs):
                if seed == 0:
                    _add_times({row["variant"]: row for row in found}, runs, data[2], 5 if quick else 31)
            rows += found
    return rows


def _add_times(rows: dict[str, dict], runs: dict[str, Run], x: Tensor, repeats: int) -> None:
    """Interleaved rounds of everything that runs, and the share of the int8 bound, into the variants' rows."""
    quarter = int8_machine(machine())
    for batch in BATCHES:
        timed = latency(runs, x[:batch], repeats=repeats)
        least = None if quarter is None else bound(runs[EAGER], x[:batch], quarter)
        mine = [name for name in (OURS, ONEDNN) if name in runs]
        best = min(mine, key=timed.median, default=None)
        for variant, row in rows.items():
            if variant not in runs:
                continue
            row[f"milliseconds_batch_{batch}"] = 1e3 * timed.median(variant)
            row[f"over_eager_batch_{batch}"] = timed.ratio(EAGER, variant)
            if ORT_FLOAT in runs:
                row[f"over_ort_fp32_batch_{batch}"] = timed.ratio(ORT_FLOAT, variant)
            if least is not None and variant not in (EAGER, ORT_FLOAT):
                row[f"share_of_int8_bound_batch_{batch}"] = least / timed.median(variant)
            if mine and variant in INT8_PEERS:
                row[f"fastest_of_ours_batch_{batch}"] = best
                row[f"ours_over_it_batch_{batch}"] = timed.ratio(variant, best)
                row[f"ours_over_it_interval_batch_{batch}"] = timed.ratio_interval(variant, best)


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    cases = (QUICK if quick else CASES).values()
    return sum(min(seeds, case.seeds or seeds) * (1 + len(case.variants)) for case in cases)


def goals(rows: list[dict[str, Any]], case: str) -> list[Goal]:
    """The issue's goals for one case: means over the seeds, of the refined integers where there are some."""
    ours = REFINED if of(rows, case, REFINED) else OURS
    mine, floats = of(rows, case, ours), of(rows, case, ORT_FLOAT)
    share = mean(mine, "bytes") / mean(floats, "bytes") if mine and floats else None
    result = [
        Goal(f"{ours}: executed relative error, %", mean(mine, "relative_error", 100), "<=", 1.0),
        Goal(f"{ours}: accuracy drop, points", mean(mine, "drop_points"), "<=", 0.2),
        Goal("int8 file over fp32 file", share, "<=", 0.27, digits=4),
    ]
    for peer in (ORT, ORT_CHANNEL, TORCHAO):
        for batch in BATCHES:
            row = (of(rows, case, peer) or [{}])[0]
            ratio, interval = (row.get(f"ours_over_it_{what}batch_{batch}") for what in ("", "interval_"))
            what = f"{row.get(f'fastest_of_ours_batch_{batch}', OURS)}: speed over {peer}, batch {batch}"
            result.append(Goal(what, ratio, ">=", 1.0, digits=2, interval=interval))
    return result


def report(rows: list[dict[str, Any]]) -> str:
    """Two tables a case (quality over the seeds, speed of seed 0), then the goals."""
    parts = []
    columns = ("milliseconds", "over_eager", "over_ort_fp32", "share_of_int8_bound")
    names = [f"{column}_batch_{batch}" for batch in BATCHES for column in columns]
    what = ("ms", "over eager", "over ORT fp32", "of int8 bound")
    headers = ["", *(f"b{batch}: {text}" for batch in BATCHES for text in what)]
    for case in dict.fromkeys(row["case"] for row in rows):
        first = [row for row in rows if row["case"] == case and row["seed"] == 0]
        speeds = [[row["variant"], *(f"{row[n]:.3g}" if n in row else "" for n in names)] for row in first]
        parts.append(quality_table(rows, case))
        parts.append(tabulate(speeds, headers, disable_numparse=True))
        parts.append(goals_table(goals(rows, case)))
    return "\n\n".join(parts)
