"""Seconds and bytes at work, for all variants of one framework side by side: inference, a training step, peak memory.

    ratio = median over rounds of  seconds(original, round) / seconds(variant, round)

An inference ratio can be read in two ways, and the table prints both: over the *eager* original, which is what a user of
the framework starts from, and over the original in the *same* back end, which is what the technique itself brings.
Peak memory is that of a fresh process: by how much its resident memory rises, at its highest, while the network is
loaded and answers a batch. What this is *not*: a profile; where the time goes is a matter of the chapter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dca_lab import measure

from .resident import growth
from .results_recipe import Recipe

BATCHES = (1, 256)


def inference(
    subjects: Mapping[tuple[str, str], Callable], inputs: Callable[[int], Any], *, best: str, repeats: int
) -> list[dict[str, Any]]:
    """Time every variant in every back end on batches of 1 and 256.

    Parameters
    ----------
    subjects : dict of (variant, back end) to callable
        With ("original", "eager") and ("original", `best`) among them.
    inputs : callable
        ``inputs(batch)`` makes what the subjects take.
    best : str
        The fastest float back end.
    repeats : int
        Rounds.

    Returns
    -------
    list of dict
        variant, backend, batch, seconds of one call (median), and how many times faster it is than the original:
        over_eager with its interval (95 %), over_best, and over_same, where the original has that back end.
    """
    names = {" ".join(key): key for key in subjects}
    rows = []
    for batch in BATCHES:
        x = inputs(batch)
        timed = measure.latency({name: subjects[key] for name, key in names.items()}, x, repeats=repeats)
        for name, (variant, backend) in names.items():
            row = {"variant": variant, "backend": backend, "batch": batch, "seconds": timed.median(name)}
            row["over_eager"] = timed.ratio("original eager", name)
            row["over_eager_interval"] = _finite(timed.ratio_interval("original eager", name))
            row["over_best"] = timed.ratio(f"original {best}", name)
            if ("original", backend) in subjects:
                row["over_same"] = timed.ratio(f"original {backend}", name)
            rows.append(row)
    return rows


def training(steps: Mapping[str, Callable[[], Any]], *, repeats: int) -> dict[str, dict[str, Any]]:
    """Time one training step of each variant, interleaved: seconds, and how many times faster than the original's."""
    timed = measure.latency(dict(steps), repeats=repeats)
    return {
        name: {
            "seconds": timed.median(name),
            "over_original": timed.ratio("original", name),
            "interval": _finite(timed.ratio_interval("original", name)),
        }
        for name in steps
    }


def memory(
    framework: str, variant: str, backend: str, *, seed: int, recipe: Recipe, place: Path
) -> int | None:
    """Bytes by which a fresh process grows while it loads a network and answers a batch of 256; None off Linux."""
    question = json.dumps([framework, variant, backend, seed, asdict(recipe), str(place)])
    command = [sys.executable, "-m", __name__, question]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{variant} in {backend} could not be measured: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _finite(interval: tuple[float, float]) -> list[float] | None:
    """The interval, or None where there were too few rounds for one."""
    return list(interval) if np.isfinite(interval).all() else None


def _grow(framework: str, variant: str, backend: str, seed: int, recipe: dict, place: str) -> int | None:
    """The measurement itself, in a process that has done nothing else."""
    module = import_module(f"dca_lab.studies.results_{framework}_speed")
    x = module.inputs(BATCHES[-1])
    module.warm_up(backend)  # what the framework needs for any network is no network's

    def load_and_run() -> None:
        run = module.runner(seed, variant, backend, Recipe(**recipe), Path(place))
        for _ in range(3):
            run(x)

    return growth(load_and_run)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(_grow(*json.loads(sys.argv[1]))))
