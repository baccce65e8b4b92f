"""What is graded is on disk: one file a submission, and `run.json` with the run's secret seed.

A record's file is named by the sha256 of what it depends on: student, submission, lab, constants and sandbox level.
So a rerun finds what is still valid by its name, and nothing can be counted twice. Files are written whole or not at
all; one that is torn or foreign all the same (a full disk, a lost page) is left aside with a warning and graded again.

    empty folder      a run starts: a new seed
    finished run      is brought up to date, with its seed, so that a class is graded on the same inputs
    unfinished run    goes on with ``resume``, and is refused without

What this is *not*: the outputs for people (`outputs`), which are made from the records whenever a run ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dca_lab.files import replacing

Record = dict[str, Any]
_NAMED_BY = ("student", "digest", "lab_digest", "constants", "level")


class RunError(RuntimeError):
    """The folder for the results cannot be used like this; the text says what to do."""


def key_of(record: Record) -> str:
    """The name of a record: a digest of everything that it depends on, except for the run's seed.

    Examples
    --------
    >>> key_of({"student": "ann", "digest": "0", "lab_digest": "1", "constants": {}, "level": "landlock"})[:8]
    'd2a5a59c'
    """
    parts = json.dumps([record[part] for part in _NAMED_BY], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:40]


class Records:
    """The records in a folder."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, record: Record) -> None:
        """Write a record; it takes the place of an older one of the same name."""
        text = json.dumps(record, indent=1, allow_nan=False)  # ASCII: a broken character stays an escape
        with replacing(self.folder / f"{key_of(record)}.json") as beside:
            beside.write_text(text, encoding="utf-8")

    def get(self, key: str) -> Record | None:
        """The record of that name, or None; a file that is not what its name says is None with a warning."""
        path = self.folder / f"{key}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if key_of(record) == key and isinstance(record["exercises"], dict):
                return record
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        warnings.warn(f"{path} is damaged or no record of this grader: it is left aside", stacklevel=2)
        return None

    def all(self) -> dict[str, Record]:
        """Every whole record by its name."""
        found = {path.stem: self.get(path.stem) for path in sorted(self.folder.glob("[!.]*.json"))}
        return {key: record for key, record in found.items() if record is not None}


@dataclass
class Run:
    """One run in the folder `out`: its records and its secret seed."""

    out: Path
    state: dict[str, Any]
    records: Records

    @property
    def seed(self) -> str:
        """The secret from which the hidden cases follow."""
        return self.state["seed"]

    def begin(self, lab_digest: str) -> None:
        """There is something to grade: until `finish` the run is an unfinished one."""
        self.state |= {"lab_digest": lab_digest, "finished": None}
        self._write()

    def finish(self) -> None:
        """Everything was graded."""
        self.state["finished"] = _now()
        self._write()

    def _write(self) -> None:
        with replacing(self.out / "run.json") as beside:
            beside.touch(mode=0o600)  # the seed is a secret
            beside.write_text(json.dumps(self.state, indent=1), encoding="utf-8")


@contextmanager
def opened(out: str | os.PathLike, lab_name: str, *, resume: bool) -> Iterator[Run]:
    """The run in the folder `out`, for this process alone.

    Raises
    ------
    RunError
        The folder holds something else, grades of another lab, or an unfinished run without `resume`; or another
        process is grading into it.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{out} cannot be made: {error.strerror or error}. Give another folder with --out"
        ) from None
    foreign = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if foreign and not (out / "run.json").exists():
        raise RunError(
            f"{out} is not empty and holds no run ({foreign[0]}, ...): give another folder with --out"
        )
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"another `dca grade` is at work in {out}: wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise RunError(f"{out} cannot be written to: {error.strerror or error}") from None
    try:
        for left in (
            *out.glob(".*.tmp"),
            *out.glob("*/.*.tmp"),
        ):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        yield Run(out, _state(out, lab_name, resume), Records(out / "records"))
    finally:
        lock.release()


def _state(out: Path, lab_name: str, resume: bool) -> dict[str, Any]:
    path = out / "run.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        known, seed, finished = state["lab"], state["seed"], state["finished"]
    except FileNotFoundError:
        return {"lab": lab_name, "seed": secrets.token_hex(16), "started": _now(), "finished": None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is damaged ({type(error).__name__}): give another --out, and grade anew"
        ) from None
    if known != lab_name or not isinstance(seed, str):
        raise RunError(f"{out} holds the grades of the lab {known}: give another --out for {lab_name}")
    if not finished and not resume:
        done = len(list((out / "records").glob("[!.]*.json")))
        raise RunError(
            f"{out} holds a run that was begun on {state.get('started')} and not finished; {done} submissions are "
            "graded. Add --resume to go on with it, or give another --out to begin anew"
        )
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
