"""Append-only file of measurements that parallel notebooks share: one JSON object a line.

A record is appended under a lock and forced to the disk, so processes that write at once lose nothing and one
that is killed leaves at most its own last line torn. A torn line is skipped, with a warning, and the next
record starts on a fresh line. Running a notebook again appends again; `entries` returns the *latest* record
of each key

    (workload, technique, seed, configuration)

so that a second run replaces the first. What this is *not*: a database. It is read whole; thousands of lines,
not millions.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dca_lab import __version__
from dca_lab.hardware import build_folder, cpu_name

from .values import MEASURES, measure, name_of, plain

_RESERVED = frozenset(
    (*MEASURES, "workload", "technique", "seed", "configuration", "measured", "time", "versions", "cpu")
)
_PATIENCE = 60  # seconds to wait for the lock; an append takes milliseconds


def ledger_path() -> Path:
    """The file: environment variable ``DCA_LEDGER``, else ``ledger.jsonl`` in the build folder.

    Examples
    --------
    >>> ledger_path().suffix
    '.jsonl'
    """
    given = os.environ.get("DCA_LEDGER")
    return Path(given) if given else build_folder() / "ledger.jsonl"


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "dca_lab": __version__}
    for package in ("torch", "numpy"):  # from the metadata: importing torch takes seconds
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def locked(path: Path) -> FileLock:
    """The lock that every writer and reader holds; the system releases it when its process dies."""
    return FileLock(f"{path}.lock", timeout=_PATIENCE)


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(path), open(path, "a+b", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                if stream.read(1) != b"\n":  # a killed process left a torn line
                    line = b"\n" + line
            try:
                rest = memoryview(line)
                while rest:  # a raw write may take only a part
                    rest = rest[stream.write(rest) :]
                os.fsync(stream.fileno())
            except OSError:  # disk full: leave the file as it was
                stream.truncate(end)
                raise
    except Timeout as error:
        raise TimeoutError(f"{path} has been locked by another process for {_PATIENCE} s") from error


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the file with its settings and further results also under their own names."""
    return {**row["configuration"], **row.get("measured", {}), **row}


def record(
    *,
    workload: str,
    technique: str,
    accuracy: float | None = None,
    bytes: int | None = None,
    macs: int | None = None,
    parameters: int | None = None,
    latency: float | None = None,
    memory: int | None = None,
    seed: int | None = None,
    measured: Mapping[str, Any] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Append one measurement to the ledger and return it as written.

    Parameters
    ----------
    workload : str
        Model and data, as in ``"lenet-5 on mnist"``.
    technique : str
        As in ``"magnitude"`` or ``"dense"``.
    accuracy : float
        In [0, 1].
    bytes, macs, parameters, memory : int
        Bytes of the file; multiply-accumulates of one pass; parameters; bytes at the peak of one pass.
    latency : float
        Seconds of one pass.
    seed : int
    measured : dict
        Further *results*, such as ``{"perplexity": 12.3}``: they do not identify the record.
    **extra
        The *configuration*, such as ``sparsity=0.9``: part of the key. A record with the same workload,
        technique, seed and configuration replaces the earlier one. A result put here would make each run a
        new row: use `measured`.

    Returns
    -------
    dict
        As `entries` returns it: with ``time`` (UTC), ``versions`` and ``cpu`` added; every setting and
        further result under its own name, and again in the dicts ``configuration`` and ``measured``.

    Raises
    ------
    ValueError
        For a value that is not finite, out of range or of the wrong kind.
    OSError
        If the file cannot be written; it is left as it was.

    Notes
    -----
    Environment variable ``DCA_LEDGER`` names another file.
    """
    values = dict(
        accuracy=accuracy, bytes=bytes, macs=macs, parameters=parameters, latency=latency, memory=memory
    )
    seed = plain("seed", seed)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"seed={seed!r}: give a whole number or None")
    measured = dict(measured or {})
    if clash := _RESERVED.intersection((*extra, *measured)) | set(measured).intersection(extra):
        raise ValueError(f"{sorted(clash)} is used twice or written by record itself: choose another name")
    row = {
        "workload": name_of("workload", workload),
        "technique": name_of("technique", technique),
        "seed": seed,
        "configuration": {key: plain(key, value) for key, value in sorted(extra.items())},
        **{name: measure(name, value) for name, value in values.items()},
        "measured": plain("measured", measured),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "cpu": cpu_name(),
    }
    _append(ledger_path(), json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return flat(row)
