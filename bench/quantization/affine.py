"""Is the error of the affine grid what theory says? Its power on uniform values, and its largest value anywhere.

    SQNR = 20 log10(steps) dB for values that fill a centred range;   |x - q(x)| <= scale / 2 in every range

The power is an average and is held against the formula. The bound is held against the worst inputs that we know:
both ends of the range, the middle between two levels and the floats beside it, in ranges of 2^-146 to 2^120 in
size: centred, one-sided, nearly empty. torch's own ``fake_quantize_per_tensor_affine`` gets the same inputs on
the same grids; it multiplies by a rounded 1 / scale, and a middle may fall to the wrong side. What this is *not*: a
proof. The proof is in the chapter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from bench.common import OURS, Goal, goals_table
from dca_lab.quantization.affine import affine_params, fake_quantize, levels
from dca_lab.quantization.error import sqnr, sqnr_uniform

TITLE = "Affine grid: SQNR of uniform values beside the formula, and the largest error over half a step"
BITS = range(2, 9)
PEER = "torch"
_GRIDS = {  # kind: lowest value, highest value, symmetric
    "centred": (-1.0, 1.0, False),
    "one-sided": (0.0, 1.0, False),
    "symmetric": (-1.0, 1.0, True),
}


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each number of bits, kind of grid and library, and one for each library's largest error."""
    rows = []
    count, ranges = (100_000, 200) if quick else (2_000_000, 20_000)
    for bits in BITS:
        for kind, (low, high, symmetric) in _GRIDS.items():
            theory = sqnr_uniform(bits, symmetric=symmetric, one_sided=kind == "one-sided")
            measured: dict[str, list[float]] = {OURS: [], PEER: []}
            for seed in range(seeds):
                generator = torch.Generator().manual_seed(seed)
                x = low + (high - low) * torch.rand(count, generator=generator)
                for library, y in _both(x, low, high, bits=bits, symmetric=symmetric).items():
                    measured[library].append(sqnr(x, y))
            for library, values in measured.items():
                row = {"bits": bits, "kind": kind, "library": library, "error": None, "theory_db": theory}
                rows.append({**row, "sqnr_db": values})
        rows += _largest_errors(bits, ranges, seeds)
        tick(f"{bits} bits")
    return rows


def _both(x: Tensor, low: float, high: float, *, bits: int, symmetric: bool) -> dict[str, Tensor]:
    """x rounded by ours and by torch, on the grid that ours chose."""
    scale, zero_point = affine_params(low, high, bits, symmetric)
    q_min, q_max = levels(bits, signed=symmetric, symmetric=symmetric)
    peer = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), q_min, q_max)
    return {OURS: fake_quantize(x, scale, zero_point, bits=bits, symmetric=symmetric), PEER: peer}


def _largest_errors(bits: int, ranges: int, seeds: int) -> list[dict[str, Any]]:
    """For each library the largest |x - q(x)| / scale, over values inside their range."""
    largest, count = {OURS: 0.0, PEER: 0.0}, 0
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(ranges // seeds):
            low, high = _awkward_range(generator)
            symmetric = bool(torch.rand(1, generator=generator) < 0.25)
            scale, zero_point = affine_params(low, high, bits, symmetric)
            x = _awkward_values(low, high, scale, generator)
            count += len(x)
            for library, y in _both(x, low, high, bits=bits, symmetric=symmetric).items():
                error = (x.double() - y.double()).abs().max() / scale.double()
                largest[library] = max(largest[library], float(error))
    row = {"bits": bits, "kind": "adversarial", "error": None, "values": count}
    return [{**row, "library": library, "largest_error": value} for library, value in largest.items()]


def _awkward_range(generator: torch.Generator) -> tuple[float, float]:
    """Ends of random sign and of sizes that differ by up to 2^20, as float32 holds them."""
    base = float(torch.empty(1).uniform_(-126, 120, generator=generator))
    ends = torch.randn(2, generator=generator) * 2.0 ** (
        base + torch.empty(2).uniform_(-20, 0, generator=generator)
    )
    return float(ends.min()), float(ends.max())


def _awkward_values(low: float, high: float, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Ends, random values, and middles between two levels with the floats above and below; all inside."""
    start, end = min(low, 0.0), max(high, 0.0)
    span = torch.tensor(end - start)
    inside = start + span * torch.rand(32, generator=generator)
    middles = ((inside / scale).floor() + 0.5) * scale
    x = torch.cat([torch.tensor([low, high, 0.0]), inside, middles])
    up, down = torch.full_like(x, torch.inf), torch.full_like(x, -torch.inf)
    x = torch.cat([x, x.nextafter(up), x.nextafter(down)])
    return x[(x >= start) & (x <= end)]


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return len(BITS)


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """SQNR within 0.5 dB of the formula, and scale/2 never exceeded."""
    mine = [row for row in rows if row["library"] == OURS]
    away = [abs(v - row["theory_db"]) for row in mine if "sqnr_db" in row for v in row["sqnr_db"]]
    largest = [row["largest_error"] for row in mine if "largest_error" in row]
    return [
        Goal("largest |SQNR - formula| in dB, 2 to 8 bits, uniform values", max(away), "<=", 0.5),
        Goal("largest |x - q(x)| / scale", max(largest), "<=", 0.5, digits=9),
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """The formula, what ours and torch measured, and their largest errors, by bits."""
    table = []
    for bits in BITS:
        cells: list[Any] = [bits]
        for kind in _GRIDS:
            found = {row["library"]: row for row in rows if (row["bits"], row["kind"]) == (bits, kind)}
            cells.append(f"{found[OURS]['theory_db']:.2f}")
            cells.append(f"{np.mean(found[OURS]['sqnr_db']):.2f}")
        found = {row["library"]: row for row in rows if (row["bits"], row["kind"]) == (bits, "adversarial")}
        cells += [f"{found[name]['largest_error']:.9f}" for name in (OURS, PEER)]
        table.append([*cells, f"{found[OURS]['values']:,}"])
    headers = ["bits", *(f"{kind}: {what}" for kind in _GRIDS for what in ("formula", "dB"))]
    headers += [f"largest error / scale, {OURS}", f"{PEER}", "values"]
    return tabulate(table, headers, disable_numparse=True) + "\n\n" + goals_table(goals(rows))
