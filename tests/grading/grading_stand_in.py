"""For tests of what stands around the sandbox: one without walls or processes, in which tests' own code runs at once.

Run as a program it is a server that forks a grader for each line it reads, ``[submissions, out, resume, seconds]``, and
kills it, so that this can be done twenty times without loading torch twenty times.
"""

import copy
import json
import os
import signal
import sys
import time
import types
from contextlib import contextmanager
from pathlib import Path

from dca_lab.grading import batch, records
from dca_lab.grading.sandbox import CellError, SandboxError
from dca_lab.grading.values import Reply

TINY = Path(__file__).with_name("tiny_lab")
LEVEL = "stand-in"


class StandIn:
    """Has the methods of `Sandbox` that grading uses. `said` keeps every call; a cell that says so breaks it."""

    def __init__(self, *, level=LEVEL, helpers=(), files=(), optimizers=False):
        self.level, self.said, self.closed = level, [], False

    @contextmanager
    def open(self, cells, *, limits=None, skip=()):
        if self.closed:
            raise SandboxError("this stand-in is closed")
        yield StandInStudent(cells, self.said)

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class StandInStudent:
    def __init__(self, cells, said):
        self.errors, self.skipped, self._said = [], set(), said
        self._space = {"__name__": "__main__"}
        for number, cell in enumerate(cells, 1):
            if "BREAK THE SANDBOX" in cell:
                raise SandboxError("the stand-in was told to break")
            if "BREAK THE GRADER" in cell:
                raise ZeroDivisionError("a hidden value: 0.123456")
            try:
                exec(compile(cell, f"cell {number}", "exec"), self._space)
            except Exception as error:
                self.errors.append(
                    CellError(number, getattr(error, "lineno", None), type(error).__name__, str(error))
                )
        kind = types.FunctionType
        self.names = [name for name, value in self._space.items() if isinstance(value, kind)]

    def call(self, name, *args, seconds=10.0):
        self._said.append((name, args, seconds))
        if name not in self._space:
            return Reply("missing")
        mine = copy.deepcopy(args)
        try:
            return Reply("value", self._space[name](*mine), arguments=mine)
        except Exception as error:
            if type(error).__name__ in ("Timeout", "Crashed", "Refused"):
                return Reply(type(error).__name__.lower())
            return Reply("raised", exception=type(error).__name__, text=str(error), arguments=mine)


DOUBLE = "def double(x):\n    return 2 * x\n"
RELU = "def relu(x):\n    if x.isnan().any():\n        raise ValueError('NaN')\n    return x.clip(0)\n"
FEW = "def keep_few(w):\n    w = w.clone()\n    w[w.abs().argsort()[: int(0.7 * len(w))]] = 0\n    return w\n"
SOLVED = [DOUBLE, RELU, FEW]


def notebook(*cells, lab="tiny_lab"):
    """The bytes of a notebook with these code cells."""
    listed = [{"cell_type": "code", "source": cell, "outputs": [], "metadata": {}} for cell in cells]
    tree = {"cells": listed, "metadata": {"dca_lab": {"lab": lab}}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(tree).encode()


def class_of(folder, students):
    """Write {student: code cells} as notebooks into `folder`."""
    folder.mkdir(exist_ok=True)
    for student, cells in students.items():
        (folder / f"{student}.ipynb").write_bytes(notebook(*cells))
    return folder


def replace(monkeypatch=None):
    """Let the batch use the stand-in."""
    put = monkeypatch.setattr if monkeypatch else setattr
    put(batch, "Sandbox", StandIn)
    put(batch.levels, "choose", lambda level: LEVEL)


def serve():
    """Fork a grader for each line of stdin, kill it after so many seconds (None: not), and say its exit status."""
    replace()
    records.secrets.token_hex = lambda size: "the seed of every run in this test"
    for line in sys.stdin:
        submissions, out, resume, seconds = json.loads(line)
        if seconds == "here":  # once at first, which loads everything
            _grade(submissions, out, resume)
            print(0, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(_grade(submissions, out, resume))
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(99)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)  # also one that has ended keeps its number until it is waited for
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _grade(submissions, out, resume):
    graded = batch.grade_folder(TINY, submissions, out, workers=2, resume=resume, progress=False)
    return 3 if graded.problems else 0


if __name__ == "__main__":
    serve()
