"""The ledger as a table that people can read: one row a configuration, the mean and the spread over its
seeds.

A cell with several seeds reads ``97.8 ± 0.2``: mean and sample standard deviation. The HTML has a caption,
and headers that a screen reader can tie to each cell. What this is *not*: a data frame; for numbers read
`entries`.
"""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from .reader import entries

# column: (heading with unit, factor, decimals)
_UNITS: dict[str, tuple[str, float, int]] = {
    "accuracy": ("accuracy (%)", 100.0, 2),
    "parameters": ("parameters", 1.0, 0),
    "macs": ("MACs", 1.0, 0),
    "bytes": ("file (bytes)", 1.0, 0),
    "latency": ("latency (ms)", 1000.0, 3),
    "memory": ("peak memory (bytes)", 1.0, 0),
}


def _number(value: float, decimals: int | None) -> str:
    if decimals is None:
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return f"{value:,.{decimals}f}"


def _cell(values: Sequence[Any], factor: float = 1.0, decimals: int | None = None) -> str:
    """Mean ± sample standard deviation; a single value, or equal values, alone."""
    if not values:
        return ""
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        texts = list(dict.fromkeys(str(value) for value in values))
        return ", ".join(texts)
    scaled = [value * factor if factor != 1.0 else value for value in values]
    if len(set(scaled)) == 1:
        return _number(scaled[0], decimals)
    centre, spread = statistics.fmean(scaled), statistics.stdev(scaled)
    return f"{_number(centre, decimals)} ± {_number(spread, decimals)}"


@dataclass(frozen=True)
class Table:
    """Headings and cells as text; shown as HTML in a notebook and as plain text by ``print``.

    Attributes
    ----------
    caption : str
    headings : tuple of str
    rows : tuple of tuple of str
        The first `labels` cells of a row name it; the others are numbers.

    Examples
    --------
    >>> print(Table("sizes", ("technique", "file (bytes)"), (("dense", "1,000"),), labels=1))
    sizes
    technique      file (bytes)
    -----------  --------------
    dense                 1,000
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.caption}\n(nothing recorded yet)"
        align = ["left"] * self.labels + ["right"] * (len(self.headings) - self.labels)
        text = tabulate(self.rows, headers=self.headings, colalign=align, disable_numparse=True)
        return f"{self.caption}\n{text}"

    def __len__(self) -> int:
        return len(self.rows)

    def _repr_html_(self) -> str:
        def cells(row: Iterable[str]) -> str:
            parts = []
            for i, cell in enumerate(row):
                text = html.escape(cell)
                if i == 0:
                    parts.append(f'<th scope="row" style="text-align: left">{text}</th>')
                else:
                    side = "left" if i < self.labels else "right"
                    parts.append(f'<td style="text-align: {side}">{text}</td>')
            return f"<tr>{''.join(parts)}</tr>"

        head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in self.headings)
        body = "".join(cells(row) for row in self.rows)
        if not self.rows:
            body = f'<tr><td colspan="{len(self.headings)}">nothing recorded yet</td></tr>'
        return (  # focusable: on a phone the table scrolls, and the keyboard must reach it
            f'<table class="dca-ledger" tabindex="0"><caption>{html.escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _column(name: str) -> tuple[str, Callable[[list[dict]], str]]:
    """Heading of a column, and the function that makes its cell from the records of one row."""
    if name in _UNITS:
        heading, factor, decimals = _UNITS[name]
        return heading, lambda group: _cell(
            [r[name] for r in group if r.get(name) is not None], factor, decimals
        )
    if name in ("workload", "technique"):
        return name, lambda group: str(group[0][name])
    if name == "seeds":
        return name, lambda group: str(len({r.get("seed") for r in group}))

    def further(group: list[dict]) -> str:
        found = [{**r["configuration"], **r.get("measured", {})}.get(name) for r in group]
        return _cell([value for value in found if value is not None])

    return name.replace("_", " "), further


def table(
    *,
    workload: str | Iterable[str] | None = None,
    technique: str | Iterable[str] | None = None,
    columns: Sequence[str] | None = None,
    caption: str | None = None,
) -> Table:
    """Read the ledger as a table, one row for each (workload, technique, configuration).

    Parameters
    ----------
    workload, technique : str or list of str
        Which to keep; None keeps all.
    columns : list of str
        Which columns, in this order: ``workload``, ``technique``, ``seeds``, any name of the configuration,
        ``accuracy``, ``parameters``, ``macs``, ``bytes``, ``latency``, ``memory``, any name in ``measured``.
        Default: all that have a value.
    caption : str
        Default: says what the rows are.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If a column is in no record.
    """
    rows = entries(workload=workload, technique=technique)
    groups: dict[str, list[dict]] = {}
    for row in rows:
        key = json.dumps([row["workload"], row["technique"], row["configuration"]], sort_keys=True)
        groups.setdefault(key, []).append(row)
    settings = list(dict.fromkeys(name for row in rows for name in row["configuration"]))
    results = list(dict.fromkeys(name for row in rows for name in row.get("measured", {})))
    used = [name for name in _UNITS if any(row.get(name) is not None for row in rows)]
    several = {row["workload"] for row in rows}
    named = (["workload"] if len(several) > 1 else []) + ["technique", *settings]
    every = [*named, *used, *results, *(["seeds"] if any(len(g) > 1 for g in groups.values()) else [])]
    known = {"workload", "technique", "seeds", *settings, *results, *_UNITS}
    if columns is not None and rows and (unknown := [name for name in columns if name not in known]):
        raise ValueError(f"no record has {unknown}; choose among {sorted(known)}")
    chosen = list(columns) if columns is not None else every
    makers = [_column(name) for name in chosen]
    if caption is None:
        where = next(iter(several)) if len(several) == 1 else "all workloads"
        spread = "; mean ± standard deviation over seeds" if any(len(g) > 1 for g in groups.values()) else ""
        caption = f"Measured: {where}{spread}"
    cells = tuple(tuple(make(group) for _, make in makers) for group in groups.values())
    text_columns = 0
    for name in chosen:
        if name not in ("workload", "technique", *settings):
            break
        text_columns += 1
    return Table(caption, tuple(heading for heading, _ in makers), cells, labels=max(1, text_columns))
