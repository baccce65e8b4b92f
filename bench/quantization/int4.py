"""Weights of 4 and 3 bits in groups of 64: rounding beside other libraries, GPTQ, AWQ, perplexity, bytes, speed.

One language model, trained once (`language_model`), goes through all parts: `int4_quality` says what the rounding
costs, `int4_cost` what it saves. The seeds are those of the random controls. What this is *not*: several trained
models. The order of two methods whose perplexities differ by less than the controls do is not a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from bench.common import Goal, goals_table, spread
from bench.quantization import int4_cost as cost
from bench.quantization import int4_quality as quality
from bench.quantization.int4_quality import AWQ, AWQ_RANDOM, FLOAT, GPTQ, GPTQ_ORDER, RANDOM, RTN, SALIENT
from bench.quantization.language_model import plant_salience, train_language_model
from dca_lab.training.perplexity import perplexity

TITLE = "Weight-only: a language model's weights in 4 and 3 bits, groups of 64"
BITS = (4, 3)
PLANTED = "planted"  # part: the perplexities at 3 bits of the model with planted salience


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of six parts: "rtn", "layer", "perplexity", "planted", "bytes", "speed"."""
    trained = train_language_model(quick=quick)
    tick("trained")
    full = perplexity(trained.model, trained.x_test, trained.y_test)
    rows: list[dict[str, Any]] = [
        {"part": "perplexity", "method": FLOAT, "bits": 32, "seed": 0, "error": None, "perplexity": full}
    ]
    rows += quality.rtn_rows(trained.model)
    tick("round to nearest, beside others")
    for bits in BITS:
        rows += quality.layer_rows(trained, bits)
        tick(f"layers, {bits} bits")
        rows += quality.perplexity_rows(trained, bits, seeds, tick)
    planted = plant_salience(trained)
    same = {**rows[0], "part": PLANTED}
    rows.append(same | {"perplexity": perplexity(planted.model, planted.x_test, planted.y_test)})
    rows += quality.perplexity_rows(planted, 3, seeds, tick, part=PLANTED)
    rows += cost.byte_rows(trained)
    tick("bytes")
    rows += cost.speed_rows(trained, quick=quick)
    tick("speed")
    return rows


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return 4 + len(BITS) * 9 + 8


def _part(rows: list[dict[str, Any]], part: str, **wanted: Any) -> list[dict[str, Any]]:
    mine = [row for row in rows if row["part"] == part and not row["error"]]
    return [row for row in mine if all(row[key] == value for key, value in wanted.items())]


def error_ratio(rows: list[dict[str, Any]], bits: int, method: str, column: str) -> float | None:
    """Sum over the layers of the squared error of a method over that of RTN; None unless both have all layers.

    Examples
    --------
    >>> row = {"part": "layer", "bits": 4, "error": None}
    >>> error_ratio([{**row, "method": GPTQ, "e": 1.0}, {**row, "method": RTN, "e": 4.0}], 4, GPTQ, "e")
    0.25
    """
    mine, nearest = ([r[column] for r in _part(rows, "layer", bits=bits, method=m)] for m in (method, RTN))
    return sum(mine) / sum(nearest) if len(mine) == len(nearest) and sum(nearest) else None


def _perplexities(
    rows: list[dict[str, Any]], method: str, bits: int, part: str = "perplexity"
) -> list[float]:
    return [row["perplexity"] for row in _part(rows, part, method=method, bits=bits)]


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """The issue's goals. A method must be better than the best seed of its control, not than the mean."""
    result = []
    away = {
        library: max(row["largest_difference"] for row in found)
        for library in quality.RTN_PEERS
        if (found := _part(rows, "rtn", library=library))
    }
    nearest = min(away.values(), default=None)
    what = f"round-to-nearest: largest difference to {' or '.join(quality.RTN_PEERS)}"
    result.append(Goal(what, nearest, "<=", 1e-4, digits=7))
    for bits in BITS:
        for method in (GPTQ, GPTQ_ORDER):
            ratio = error_ratio(rows, bits, method, "squared_error_test")
            what = f"{method}, {bits} bits: squared output error (not its root) over RTN's, unseen text"
            result.append(Goal(what, ratio, "<=", 0.5))
    for part, text in (("perplexity", ""), (PLANTED, ", planted salience")):
        compared = (RTN, GPTQ, AWQ, AWQ_RANDOM, SALIENT, RANDOM)
        best = {m: min(_perplexities(rows, m, 3, part), default=None) for m in compared}
        for first, second in ((GPTQ, RTN), (AWQ, RTN), (AWQ, AWQ_RANDOM), (SALIENT, RANDOM)):
            what = f"3 bits{text}: perplexity of {first} minus that of {second}"
            measured = None not in (best[first], best[second])
            difference = best[first] - best[second] if measured else None
            result.append(Goal(what, difference, "<", 0.0, digits=4))
    four = _part(rows, "bytes", bits=4)
    share = four[0]["bytes"] / four[0]["bytes_fp32"] if four and four[0]["read_back_equal"] else None
    return [*result, Goal("int4 file over fp32 file, read back equal", share, "<=", 0.16)]


def report(rows: list[dict[str, Any]]) -> str:
    """A table for each part, then the goals."""
    parts = []
    table = []
    for row in (row for row in rows if row["part"] == "rtn"):
        cells = [row["library"], row["bits"], "symmetric" if row["symmetric"] else "asymmetric"]
        found = [f"{row[c]:.3g}" for c in ("largest_difference",) if c in row]
        if "weights" in row:
            found += [f"{row['weights_that_differ']} of {row['weights']}", row["ties_among_them"]]
        table.append([*cells, *(found or ["", row["error"]])])
    headers = [
        "round to nearest beside",
        "bits",
        "grid",
        "largest difference",
        "weights beyond 1e-4",
        "of them ties",
    ]
    parts.append(tabulate(table, headers, disable_numparse=True))
    table = []
    for bits in BITS:
        for method in (GPTQ, GPTQ_ORDER):
            for text in ("calibration", "test"):
                ratio = error_ratio(rows, bits, method, f"squared_error_{text}")
                found = ["", ""] if ratio is None else [f"{ratio:.3f}", f"{ratio**0.5:.3f}"]
                table.append([method, bits, text, *found])
    headers = ["output errors of the layers over RTN's", "bits", "text", "squared error", "its root"]
    parts.append(tabulate(table, headers, disable_numparse=True))
    methods = dict.fromkeys(row["method"] for row in rows if row["part"] == "perplexity")
    columns = [(32, "perplexity"), *((bits, "perplexity") for bits in BITS), (3, PLANTED)]
    table = [[m, *(spread(_perplexities(rows, m, *c), 4) for c in columns)] for m in methods]
    headers = ["perplexity per character", "fp32", "4 bits", "3 bits", "3 bits, planted salience"]
    parts.append(tabulate(table, headers, disable_numparse=True))
    table = [
        [r["bits"], r["bytes"], f"{r['bytes'] / r['bytes_fp32']:.4f}", r["read_back_equal"]]
        for r in _part(rows, "bytes")
    ]
    parts.append(tabulate(table, ["bits", "bytes of the file", "of fp32", "read back equal"]))
    table = []
    for row in (row for row in rows if row["part"] == "speed"):
        for name in (cost.INT8_PRODUCTS, cost.FLOAT_PRODUCTS):
            keys = [
                f"{what}: {name}" for what in ("milliseconds", "over ORT fp32", "over eager", "kernel error")
            ]
            table.append([row["case"], name, *(f"{row[k]:.3g}" if k in row else row["error"] for k in keys)])
    headers = ["speed", "", "ms", "over ORT fp32", "over eager", "error of the kernel"]
    parts.append(tabulate(table, headers, disable_numparse=True))
    return "\n\n".join([*parts, goals_table(goals(rows))])
