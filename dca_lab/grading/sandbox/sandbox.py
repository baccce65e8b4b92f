"""The sandbox as the grader sees it: opened once per worker, it gives one student's process after another.

    with Sandbox() as sandbox:
        with sandbox.open(cells) as student:
            reply = student.call("affine_params", -1.0, 1.0, 8)

One `Sandbox` belongs to one thread, and has one open student at a time: opening the next one closes the last.
What this is *not*: a judge. It brings back what a function answered; whether that is right is decided elsewhere.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dca_lab.grading.sandbox import levels
from dca_lab.grading.sandbox.keeper import Keeper
from dca_lab.grading.sandbox.limits import Limits, SandboxError
from dca_lab.grading.sandbox.student import Student


class Sandbox:
    """A place in which students' code runs.

    Parameters
    ----------
    level : str, optional
        ``bubblewrap``, ``landlock`` or ``trusted`` (no walls); without it the best that works, never ``trusted``.
    helpers : iterable of str
        Dotted modules of the package that student code may import; nearly always none.
    files : iterable of Path
        Files that students were given, such as the lab's ``measure.py``: student code may import them.
    optimizers : bool
        Whether ``torch.optim`` is loaded once for all: it costs a second, and each process a little.
    limits : Limits
        What one student's process may use.

    Raises
    ------
    SandboxError
        If no level works here; the message says what to install.
    """

    def __init__(
        self,
        *,
        level: str | None = None,
        helpers: Iterable[str] = (),
        files: Iterable[Path] = (),
        optimizers: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.level = levels.choose(level)
        self.limits = limits or Limits()
        self._keeper = Keeper(self.level, helpers, files, optimizers, self.limits)
        self._finalizer = weakref.finalize(self, self._keeper.close)
        self._student: Student | None = None

    def open(
        self, cells: Sequence[str], *, limits: Limits | None = None, skip: Collection[int] = ()
    ) -> Student:
        """A new process that runs the cells and then waits for calls.

        Parameters
        ----------
        cells : sequence of str
            Source of the code cells. Errors, endless loops and crashes in them are noted in `Student.errors`.
        limits : Limits, optional
            Other limits than those of the sandbox.
        skip : collection of int
            Numbers of cells (from 1) of which only the definitions are run; `Student.skipped` of an earlier run.
        """
        if not self._finalizer.alive:
            raise SandboxError("this sandbox is closed")
        if self._student is not None:
            self._student.close()
        self._student = Student(self._keeper, cells, limits or self.limits, skip)
        return self._student

    def close(self) -> None:
        """End every process and remove every folder; may be called twice."""
        if self._student is not None:
            self._student.close()
        self._finalizer()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_) -> None:
        self.close()
