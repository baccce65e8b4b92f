"""Read the ledger back: the latest record of each key, torn lines skipped and said.

What this is *not*: a history. Older records of a key stay in the file and are not returned.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .store import flat, ledger_path, locked


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    try:
        with locked(path):  # a writer may be in the middle of its line
            content = path.read_bytes()
    except PermissionError:  # a ledger in a read-only folder cannot be locked, and nobody is writing to it
        content = path.read_bytes()
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            row["workload"], row["technique"], row["configuration"]
        except (ValueError, KeyError, TypeError):
            warnings.warn(
                f"{path}, line {number} is torn (its writer was killed) and skipped; run that notebook again",
                stacklevel=4,
            )
            continue
        yield row


def _key(row: Mapping[str, Any]) -> str:
    return json.dumps(
        [row["workload"], row["technique"], row.get("seed"), row["configuration"]], sort_keys=True
    )


def _wanted(value: Any, wanted: Any) -> bool:
    if wanted is None:
        return True
    return value in wanted if isinstance(wanted, (list, tuple, set, frozenset)) else value == wanted


def entries(
    *,
    workload: str | Iterable[str] | None = None,
    technique: str | Iterable[str] | None = None,
    seed: int | Iterable[int] | None = None,
    **configuration: Any,
) -> list[dict[str, Any]]:
    """The latest record of each (workload, technique, seed, configuration), in order of first appearance.

    Parameters
    ----------
    workload, technique, seed
        A value, or a list, tuple or set of values, to keep; None keeps all.
    **configuration
        Likewise, as in ``sparsity=0.9``.

    Returns
    -------
    list of dict
        Empty when nothing was recorded. ``row["accuracy"]``, and for a setting or further result that was
        recorded likewise ``row["sparsity"]``. A torn line is skipped with a warning.
    """
    latest = {_key(row): row for row in _rows(ledger_path())}
    return [
        flat(row)
        for row in latest.values()
        if _wanted(row["workload"], workload)
        and _wanted(row["technique"], technique)
        and _wanted(row.get("seed"), seed)
        and all(_wanted(row["configuration"].get(name), value) for name, value in configuration.items())
    ]
