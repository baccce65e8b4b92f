"""A grader that is killed: `kill -9` at twenty random moments of real runs, each gone on with by ``--resume``.

    lost      a grade that was on disk before the kill and is not there afterwards
    changed   a grade whose file has other bytes than before, or a total unlike that of a run that was never killed
    doubled   a student with more than one record, or more than one row in grades.csv

A run that ends before its moment came is checked, and another one begins, until twenty were killed. What this is *not*:
a power cut. What the system has taken over is on the disk as far as this can tell.
"""

from __future__ import annotations

import collections
import csv
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.common import Goal, goals_table
from bench.grading.tools import DCA, QUIET
from bench.grading.work import tiny_lab, write_class
from dca_lab.grading import Lab
from dca_lab.grading.release import release

TITLE = "Grading: kill -9 at random moments"
KILLS, STUDENTS = 20, 60
GRADING = 0.75  # so many of the moments lie after the run's first new grade, the others before
COUNTS = ("lost", "changed", "doubled")


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row. `seeds` is ignored: the moments are random, and their seed stands in the row."""
    lab, wanted, students = tiny_lab(), 2 if quick else KILLS, 4 if quick else STUDENTS
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    row: dict[str, Any] = {"seed": seed, "students": students, "kills": 0, **dict.fromkeys(COUNTS, 0)}
    row |= {"runs": 0, "on_disk_at_kills": []}
    with tempfile.TemporaryDirectory(prefix="bench-kills-") as top:
        folder = Path(top)
        work = write_class(release(lab, folder / "handout", targets=False), lab, folder / "class", students)
        began = time.perf_counter()
        process = _grade(lab, work, folder / "whole")
        _until_more(process, folder / "whole", 0)
        first = time.perf_counter()
        process.wait()
        ended, totals = time.perf_counter(), _totals(folder / "whole")
        row |= {"start_seconds": first - began, "grading_seconds": ended - first}
        while row["kills"] < wanted:
            out, known = folder / f"run{row['runs']}", {}
            row["runs"] += 1
            while True:
                process = _grade(lab, work, out)
                if row["kills"] == wanted:
                    code = process.wait()
                else:
                    code = _killed(process, out, len(known), rng, row)
                known = _compare(row, known, out)
                if code > 0:
                    raise RuntimeError(f"dca grade ended with {code}: {process.stderr.read()[-500:]}")
                if code == 0:
                    break
                row["on_disk_at_kills"].append(len(known))
                row["kills"] += 1
                tick(f"kill {row['kills']}")
            _finished(row, out, totals)
    return [row]


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return 2 if quick else KILLS


def _grade(lab: Lab, work: Path, out: Path) -> subprocess.Popen:
    line = [*DCA, "grade", lab.folder, work, "--out", out, "--workers", "2", "--resume"]
    environment = {**os.environ, **QUIET}
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _killed(process: subprocess.Popen, out: Path, known: int, rng: random.Random, row: dict[str, Any]) -> int:
    """Kill the run at a random moment, most often while it grades; its exit status, 0 if it was done before."""
    span = row["start_seconds"]
    if rng.random() < GRADING:
        _until_more(process, out, known)
        span = row["grading_seconds"] * max(0.1, 1 - known / row["students"])
    try:
        return process.wait(span * rng.random())
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _until_more(process: subprocess.Popen, out: Path, known: int) -> None:
    """Wait for a new record on disk, or the end."""
    while process.poll() is None and len(list((out / "records").glob("[!.]*.json"))) <= known:
        time.sleep(0.01)


def _compare(row: dict[str, Any], known: dict[str, bytes], out: Path) -> dict[str, bytes]:
    """Count what is not as it was; the records that are on disk now."""
    found = {path.name: path.read_bytes() for path in (out / "records").glob("[!.]*.json")}
    row["lost"] += len(known.keys() - found.keys())
    row["changed"] += sum(found.get(name, data) != data for name, data in known.items())
    return found


def _finished(row: dict[str, Any], out: Path, wanted: dict[str, list[str]]) -> None:
    totals = _totals(out)
    row["lost"] += len(wanted.keys() - totals.keys())
    row["changed"] += sum(totals[name][:1] != wanted[name][:1] for name in totals.keys() & wanted.keys())
    row["doubled"] += sum(len(scores) > 1 for scores in totals.values())
    row["doubled"] += max(0, len(list((out / "records").glob("[!.]*.json"))) - len(wanted))


def _totals(out: Path) -> dict[str, list[str]]:
    """Every total in grades.csv by student; more than one is one too many."""
    totals = collections.defaultdict(list)
    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            totals[line["student"]].append(line["score"])
    return totals


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """Nothing lost, changed or doubled."""
    return [
        Goal(f"grades {name}, {rows[0]['kills']} kills", rows[0][name], "<=", 0, digits=0) for name in COUNTS
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """What was on disk at each kill, and the goals."""
    row = rows[0]
    listed = ", ".join(map(str, row["on_disk_at_kills"]))
    table = tabulate(
        [[row["students"], row["runs"], row["kills"], listed]],
        ["students", "runs", "kills", "grades on disk at each kill"],
    )
    return f"{table}\n\n{goals_table(goals(rows))}"
