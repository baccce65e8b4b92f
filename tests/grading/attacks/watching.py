"""What the tests of attacks watch: files, processes, drawn cases; and how they write a notebook."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
from pathlib import Path

LONG = 10  # characters of a number that is not found by chance, though a class has thousands of hidden ones


def notebook(cells, places=None, **more):
    """The bytes of a notebook; the first cell tells an attack where everything is."""
    cells = [f"PLACES = {places!r}\n", *cells] if places else cells
    listed = [{"cell_type": "code", "source": source, "outputs": [], "metadata": {}} for source in cells]
    return json.dumps({"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more).encode()


def contents(folder, but=()):
    """Everything in a folder: names, kinds, sizes, times."""
    found = {}
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (*but, "__pycache__")]
        for name in (*folders, *files):
            status = os.lstat(os.path.join(top, name))
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            found[os.path.join(top, name)] = (status.st_mode, size, changed, status.st_nlink)
    return found


def processes():
    """Number -> (parent, command line) of every process that lives."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(path.name)] = (int(fields[1]), (path / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def ours(tops):
    """Processes below this one, and whatever carries the name of one of the sandboxes' folders."""
    alive = processes()
    below = {os.getpid()}
    while more := {pid for pid, (parent, _) in alive.items() if parent in below} - below:
        below |= more
    named = {pid for pid, (_, line) in alive.items() if any(top.encode() in line for top in tops)}
    return (below | named) - {os.getpid()}


def observed(lab, seen):
    """The lab, with every case that is drawn noted in `seen`; of `double` two cases, with little time for each."""

    def noting(exercise):
        short = exercise.name == "double"

        def cases(rng, constants):
            for case in list(exercise.cases(rng, constants))[: 2 if short else None]:
                seen.append((exercise.name, case))
                yield case

        return dataclasses.replace(exercise, cases=cases, seconds=0.5 if short else exercise.seconds)

    return dataclasses.replace(lab, exercises=tuple(map(noting, lab.exercises)))


def numbers(cases):
    """How numbers of the cases look in a text: long enough not to be found by chance."""
    found = set()
    for case in cases:
        for value in case.args[0].flatten().tolist():
            text = repr(abs(value))
            if len(text) >= LONG and "e" not in text:
                found |= {text[:LONG], text[:LONG].replace(".", "_")}
    return found


def open_to_all(folder):
    """Whatever mode a temporary folder has: the attacks shall not fail for its sake."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)


def student(name):
    return re.sub(r"[^\w.@-]+", "_", name)
