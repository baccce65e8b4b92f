"""Networks that are hard for int8: ours, refined, beside ONNX Runtime's min-max `quantize_static`.

    ratio = executed error of ours / executed error of the peer, for each seed

The networks and why they are hard are in `hard_networks`. The same network once more without planted factors says how
much of the difficulty was put in. Both libraries get the same 256 images; the peer runs with one scale a weight
tensor (its default) and one a channel, and the better of the two is the opponent. What this is *not*: a comparison
with the peer's other calibration methods, or with its own equalisation for transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.common import OURS, Goal, goals_table
from bench.quantization.executed import CALIBRATION, FEW, executed, mean, of, quality_table
from bench.quantization.hard_networks import HARD, train_hard
from bench.quantization.ours import INT8_OURS, REFINED
from bench.quantization.peers import INT8_PEERS, ORT, ORT_CHANNEL
from dca_lab.data import as_tensors, load

TITLE = "Static int8 where it is hard: the executed error beside that of min-max"
QUANTIZERS = {**INT8_OURS, **{name: INT8_PEERS[name] for name in (ORT, ORT_CHANNEL)}}
CASES = {name: (name, True) for name in HARD} | {"hardswish, nothing planted": ("hardswish", False)}


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each network, seed and variant."""
    rows = []
    data = as_tensors(load("fashion"), train=512 if quick else 8000, test=256 if quick else None)
    for case, (name, planted) in list(CASES.items())[2 if quick else 0 : 3 if quick else None]:
        for seed in range(seeds):
            model = train_hard(name, *data[:2], seed=seed, epochs=1 if quick else 3, planted=planted)
            tick(f"{case}, seed {seed}: trained")
            options = {"base": {"case": case, "seed": seed}, "calibration": FEW if quick else CALIBRATION}
            with executed(model, QUANTIZERS, data, tick=tick, **options) as (found, _):
                rows += found
    return rows


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return (1 if quick else len(CASES)) * seeds * (1 + len(QUANTIZERS))


def error_ratios(rows: list[dict[str, Any]], case: str, ours: str, peer: str) -> list[float]:
    """Error of ours over that of the peer, one value for each seed in which both ran.

    Examples
    --------
    >>> row = {"case": "a", "seed": 0, "error": None}
    >>> pair = [{**row, "variant": "x", "relative_error": 0.1}, {**row, "variant": "y", "relative_error": 0.4}]
    >>> error_ratios(pair, "a", "x", "y")
    [0.25]
    """
    mine, other = ({r["seed"]: r["relative_error"] for r in of(rows, case, name)} for name in (ours, peer))
    return [mine[seed] / other[seed] for seed in mine if seed in other]


def goals(rows: list[dict[str, Any]], case: str) -> list[Goal]:
    """The worst seed's error ratio beside each form of the peer, and the mean drop."""
    result = []
    for peer in (ORT, ORT_CHANNEL):
        found = error_ratios(rows, case, REFINED, peer)
        result.append(
            Goal(f"error over {peer}, largest of the seeds", max(found, default=None), "<=", 0.5, digits=2)
        )
    drop = mean(of(rows, case, REFINED), "drop_points")
    return [*result, Goal("accuracy drop, points", drop, "<=", 0.5)]


def report(rows: list[dict[str, Any]]) -> str:
    """A table and the goals for each network, and the ratios by seed."""
    parts = []
    for case in dict.fromkeys(row["case"] for row in rows):
        parts += [quality_table(rows, case), goals_table(goals(rows, case))]
        for ours in (OURS, REFINED):
            for peer in (ORT, ORT_CHANNEL):
                listed = ", ".join(f"{ratio:.2f}" for ratio in error_ratios(rows, case, ours, peer))
                parts[-1] += f"\nerror of {ours} over {peer}, by seed: {listed or 'not measured'}"
    return "\n\n".join(parts)
