"""One student's work in the sandbox: the cells have run, functions are called by name, values come back.

The process behind it is replaceable. When it dies, hangs, or breaks the rules, the call that did it gets a Reply that
says so, and the next call gets a new process in which the cells have run again. A *cell* that kills its process costs
that cell: it is noted, and from then on only its definitions are run.

What this is *not*: a source of exceptions. Nothing that a student writes makes a method of this class raise; it takes a
machine without memory or a missing kernel feature (SandboxError).
"""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Collection, Sequence
from typing import Any

from dca_lab.grading import values
from dca_lab.grading.sandbox import claims, watch
from dca_lab.grading.sandbox.channel import Broken, Channel, Gone, Refused
from dca_lab.grading.sandbox.claims import CellError
from dca_lab.grading.sandbox.keeper import Keeper
from dca_lab.grading.sandbox.limits import Limits, SandboxError
from dca_lab.grading.values import BadValue, Reply

LONGEST_CELL, LONGEST_NOTEBOOK = 1 << 20, 4 << 20  # characters
DEADLY_CELLS = 3  # after so many, only the definitions of all cells are run


class Student:
    """Made by `Sandbox.open`.

    Attributes
    ----------
    errors : list of CellError
        What went wrong while the cells ran.
    names : list of str
        Functions that the cells defined.
    skipped : set of int
        Cells that killed their process or ran too long: only their definitions count.
    """

    def __init__(self, keeper: Keeper, cells: Sequence[str], limits: Limits, skip: Collection[int]) -> None:
        self._keeper, self._limits = keeper, limits
        self.errors: list[CellError] = []
        self.names: list[str] = []
        self.skipped: set[int] = set(skip)
        self._cells, self._noted = _readable(cells)
        self._channel: Channel | None = None
        self._pid: int | None = None
        self._closed = False
        self._starts = self._deaths = self._running = 0
        self._spent = 0.0  # seconds of wall time for cells, over all processes
        self._left = limits.phase_seconds
        self._why = Reply("crashed", text="the process was started too often")
        self._start()

    def call(self, name: str, *args: Any, seconds: float = 10.0) -> Reply:
        """Call the student's function `name` on copies of `args`; wait at most `seconds` of wall time.

        Raises BadValue only if `args`, which are the lab's own, cannot be sent.
        """
        if self._closed:
            raise SandboxError("this student's process was closed")
        request = values.encode({"call": name, "arguments": args})
        if self._channel is not None:
            try:
                self._look()
            except Broken:  # what an earlier call left behind does not cost this one
                self._end()
        if self._channel is None and self._left > 0 and not self._start():
            return self._why
        if self._left <= 0:
            return Reply("exhausted", text=f"{self._limits.phase_seconds:g} seconds were used up")
        began = time.monotonic()
        try:
            return claims.reply(self._ask(request, began + min(seconds, self._left)))
        except (Broken, BadValue) as error:
            return self._ended(error)
        finally:
            self._left -= time.monotonic() - began

    def close(self) -> None:
        """End the process."""
        if not self._closed:
            self._end()
            self._closed = True

    def __enter__(self) -> Student:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _start(self) -> bool:
        """A process in which the cells have run; False if they allow none."""
        most = min(3 * self._limits.wall_seconds, self._limits.phase_seconds)
        while self._starts < self._limits.restarts and self._spent < most:
            self._starts += 1
            began = time.monotonic()
            line, self._pid = self._keeper.child(self._limits)
            self._channel, self._running = Channel(line, self._look), 0
            try:
                self._run()
                return True
            except (Broken, BadValue) as error:
                self._why = self._ended(error)
            finally:
                self._spent += time.monotonic() - began
                self._left -= time.monotonic() - began
            self._deaths += 1
            if not self._running or self._deaths > 2 * DEADLY_CELLS:
                self._starts = self._limits.restarts
            self._give_up_cell(self._running)
        return False

    def _run(self) -> None:
        deadline = time.monotonic() + min(self._limits.wall_seconds, max(self._left, 0.0))
        name = secrets.token_bytes(16)
        request = {"cells": [list(cell) for cell in self._cells.items()], "only": sorted(self.skipped)}
        self._channel.send(name, values.encode(request), min(deadline, time.monotonic() + 20))
        while True:
            cell_end = min(deadline, time.monotonic() + self._limits.cell_seconds)
            answer = values.decode(self._channel.receive(name, self._limits.reply_bytes, cell_end))
            if not isinstance(answer, dict):
                raise Refused("the cells were not reported")
            if type(answer.get("cell")) is int and answer["cell"] in self._cells and "errors" not in answer:
                self._running = answer["cell"]
                continue
            self.errors = sorted([*self._noted, *claims.errors(answer)], key=lambda error: error.cell)
            self.names = claims.names(answer)
            return

    def _give_up_cell(self, number: int) -> None:
        """Run only the definitions of the cell from now on; if even those kill the process, nothing of it."""
        if number in self.skipped:
            self._cells.pop(number, None)
        elif number:
            why = self._why
            self.skipped.add(number)
            self._noted.append(CellError(number, None, why.kind, why.text))
        if self._deaths == DEADLY_CELLS:
            self.skipped |= set(self._cells)

    def _ask(self, request: bytes, deadline: float) -> Any:
        name = secrets.token_bytes(16)
        self._channel.send(name, request, deadline)
        limit = self._limits.reply_bytes
        return values.decode(self._channel.receive(name, limit, deadline), limit=limit)

    def _look(self) -> None:
        watch.look(self._pid, self._keeper.folder, self._limits)

    def _ended(self, error: Exception) -> Reply:
        """End the process after `error`, and say in a Reply what happened."""
        status = self._end()
        if not isinstance(error, Gone):
            return Reply(getattr(error, "kind", "refused"), text=str(error), ended=True)
        if status.get("why"):
            return Reply("crashed", text=status["why"], ended=True)
        if status.get("cpu", 0) > self._limits.cpu_seconds - 0.5:
            return Reply(
                "timeout", text=f"more than {self._limits.cpu_seconds:g} seconds of CPU time", ended=True
            )
        code = status.get("status")
        if isinstance(code, int) and code < 0:
            known = -code in signal.Signals.__members__.values()  # most real-time signals have no name
            name = signal.Signals(-code).name if known else f"signal {-code}"
            return Reply("crashed", text=f"the process was ended by {name}", ended=True)
        return Reply("crashed", text="the process ended itself", ended=True)

    def _end(self) -> dict:
        if self._channel is None:
            return {}
        self._channel.close()
        self._channel = None
        return self._keeper.end_child()


def _readable(cells: Sequence[str]) -> tuple[dict[int, str], list[CellError]]:
    """Number -> source of the cells that can be sent, and an error for each that is too long."""
    found, noted, total = {}, [], 0
    for number, source in enumerate(cells, 1):
        total += len(source)
        if len(source) > LONGEST_CELL or total > LONGEST_NOTEBOOK:
            noted.append(CellError(number, None, "TooLong", "this cell was not run: it is too long"))
        else:
            found[number] = source.encode("utf-8", "replace").decode("utf-8")
    return found, noted
