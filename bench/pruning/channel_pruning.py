"""Channel pruning beside torch-pruning: same trained network, same ratio, same fine-tuning, same seeds.

    train -> remove half of each group -> re-estimate batch-norm -> evaluate -> fine-tune -> evaluate

For each seed one trained network is handed to all variants, so that differences between them are paired.
Both libraries score a channel by L2 magnitudes; random scores are the control that says what fine-tuning
alone achieves. A ratio of one half of even widths gives equal channel counts, so parameters agree exactly.
This is *not* a benchmark of training: the networks are small and the epochs few, both the same for
everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate
from torch import Tensor, nn

from bench.common import OURS, failure
from bench.pruning.libraries import LIBRARIES, PEER, Job
from dca_lab.data import as_tensors, load
from dca_lab.measure import count_macs, count_parameters, latency
from dca_lab.measure.pairs import interleave
from dca_lab.models import build
from dca_lab.pruning.batchnorm import reestimate_batchnorm
from dca_lab.training import evaluate, fit

TITLE = "Channel pruning: half of the channels of each group removed"
BATCHES = (1, 64)  # sizes for latency


@dataclass(frozen=True)
class Case:
    """A network and how long it is trained."""

    model: str
    options: dict[str, Any]
    epochs: int
    fine_tune: int
    train: int | None = None
    test: int | None = None


CASES: dict[str, Case] = {
    "SmallCNN": Case("small-cnn", {}, epochs=3, fine_tune=1),
    "ResNet18, width 16": Case("resnet-18", {"width": 16}, epochs=2, fine_tune=1),
}
QUICK: dict[str, Case] = {
    "SmallCNN": Case("small-cnn", {"channels": (8, 16)}, epochs=1, fine_tune=1, train=512, test=256),
    "ResNet18, width 4": Case("resnet-18", {"width": 4}, epochs=1, fine_tune=1, train=256, test=256),
}
VARIANTS: dict[str, tuple[str, str]] = {  # name: library, importance
    OURS: (OURS, "default"),
    PEER: (PEER, "default"),
    "random control": (OURS, "random"),
}


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each case, seed and variant; `tick` is told of each network that is done."""
    rows = []
    dataset = load("fashion")
    for name, case in (QUICK if quick else CASES).items():
        data = as_tensors(dataset, train=case.train, test=case.test)
        for seed in range(seeds):
            dense = build(case.model, seed=seed, **case.options)
            fit(dense, *data[:2], epochs=case.epochs, seed=seed, progress=False)
            tick(f"{name}, seed {seed}: trained")
            row = {"case": name, "seed": seed, "variant": "dense", "error": None, **_cost(dense, data[0])}
            rows.append({**row, "accuracy": evaluate(dense, *data[2:])})
            small: dict[str, nn.Module] = {}
            for variant, (library, importance) in VARIANTS.items():
                row = {"case": name, "seed": seed, "variant": variant, "error": None}
                try:
                    job = Job(importance=importance, seed=seed, keep=("fc",))
                    small[variant] = LIBRARIES[library](dense, data[0][:2], job)
                    row |= _recovered(small[variant], data, case, seed)
                except Exception as error:  # noqa: BLE001  (whatever a library raises is its result)
                    row["error"] = failure(error)
                    small.pop(variant, None)
                rows.append(row)
                tick(f"{name}, seed {seed}: {variant}")
            if seed == 0:
                _add_times(rows, name, dense, small, data[0], repeats=5 if quick else 30)
    return rows


def _cost(model: nn.Module, x: Tensor) -> dict[str, int]:
    return {"parameters": count_parameters(model), "macs": count_macs(model, x[:1])}


def _recovered(model: nn.Module, data: tuple, case: Case, seed: int) -> dict[str, Any]:
    """Accuracy after batch-norm re-estimation and after fine-tuning; the model is changed in place."""
    x, y, x_test, y_test = data
    reestimate_batchnorm(model, x[:2048])
    before = evaluate(model, x_test, y_test)
    fit(model, x, y, epochs=case.fine_tune, seed=1000 + seed, progress=False)
    return {
        **_cost(model, x),
        "accuracy_before_fine_tuning": before,
        "accuracy": evaluate(model, x_test, y_test),
    }


def _add_times(
    rows: list[dict[str, Any]],
    name: str,
    dense: nn.Module,
    small: dict[str, nn.Module],
    x: Tensor,
    *,
    repeats: int,
) -> None:
    """Speed-up over the dense network in interleaved rounds, and time to prune, into the rows of seed 0."""
    mine = {row["variant"]: row for row in rows if row["case"] == name and row["seed"] == 0}
    for batch in BATCHES:
        timed = latency({"dense": dense, **small}, x[:batch], repeats=repeats)
        for variant in timed.seconds:
            mine[variant][f"milliseconds_batch_{batch}"] = 1e3 * timed.median(variant)
            mine[variant][f"speedup_batch_{batch}"] = timed.ratio("dense", variant)
        if OURS in small and PEER in small:
            mine[OURS][f"speedup_over_peer_batch_{batch}"] = timed.ratio(PEER, OURS)
            mine[OURS][f"interval_over_peer_batch_{batch}"] = timed.ratio_interval(PEER, OURS)
    jobs = {v: (VARIANTS[v][0], Job(importance=VARIANTS[v][1], keep=("fc",))) for v in small}
    actions = {v: _bound(LIBRARIES[library], dense, x[:2], job) for v, (library, job) in jobs.items()}
    seconds, _ = interleave(actions, repeats=min(repeats, 7), clock=time.process_time)
    for variant, samples in seconds.items():
        mine[variant]["seconds_to_prune"] = float(np.median(samples))


def _bound(prune: Callable, model: nn.Module, x: Tensor, job: Job) -> Callable[[], nn.Module]:
    return lambda: prune(model, x, job)


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return len(QUICK if quick else CASES) * seeds * (1 + len(VARIANTS))


def gaps(rows: list[dict[str, Any]], case: str, column: str = "accuracy") -> list[float]:
    """Ours minus the peer, in points, one value for each seed in which both ran.

    Examples
    --------
    >>> row = {"case": "a", "seed": 0, "error": None}
    >>> gaps([{**row, "variant": OURS, "accuracy": 0.75}, {**row, "variant": PEER, "accuracy": 0.5}], "a")
    [25.0]
    """
    found = {(r["variant"], r["seed"]): r[column] for r in rows if r["case"] == case and column in r}
    both = [seed for variant, seed in found if variant == OURS and (PEER, seed) in found]
    return [100 * (found[OURS, seed] - found[PEER, seed]) for seed in both]


def _spread(rows: list[dict[str, Any]], column: str) -> str:
    values = [100 * row[column] for row in rows if column in row]
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


def report(rows: list[dict[str, Any]]) -> str:
    """A table a case: accuracies as mean (lowest to highest) over the seeds, and the paired differences."""
    parts = []
    for case in dict.fromkeys(row["case"] for row in rows):
        table = []
        for variant in ("dense", *VARIANTS):
            mine = [row for row in rows if row["case"] == case and row["variant"] == variant]
            errors = [row["error"] for row in mine if row["error"]]
            first = mine[0]
            cells = [f"{first[c]:,}" if c in first else "" for c in ("parameters", "macs")]
            times = [f"{first[c]:.2f}" if c in first else "" for c in map("speedup_batch_{}".format, BATCHES)]
            seconds = f"{1e3 * first['seconds_to_prune']:.0f}" if "seconds_to_prune" in first else ""
            accuracies = [_spread(mine, c) for c in ("accuracy_before_fine_tuning", "accuracy")]
            table.append([variant, *cells, *accuracies, *times, seconds, errors[0][:40] if errors else ""])
        headers = ["", "parameters", "MACs", "% before fine-tuning", "% after"]
        headers += [f"speed-up b{batch}" for batch in BATCHES] + ["CPU ms to prune", "error"]
        parts.append(f"{case}\n" + tabulate(table, headers, disable_numparse=True))
        for column, when in (("accuracy_before_fine_tuning", "before"), ("accuracy", "after")):
            values = gaps(rows, case, column)
            if values:
                listed = ", ".join(f"{value:+.2f}" for value in values)
                parts[-1] += f"\n{OURS} minus {PEER}, {when} fine-tuning, points by seed: {listed}"
                parts[-1] += f"; mean {np.mean(values):+.2f}"
        for row in rows:
            for batch in BATCHES if row["case"] == case else ():
                if (ratio := row.get(f"speedup_over_peer_batch_{batch}")) is not None:
                    low, high = row[f"interval_over_peer_batch_{batch}"]
                    parts[-1] += f"\nspeed of {OURS}'s network over {PEER}'s, batch {batch}: {ratio:.2f}"
                    parts[-1] += f" (95% interval {low:.2f} to {high:.2f})"
    return "\n\n".join(parts)
