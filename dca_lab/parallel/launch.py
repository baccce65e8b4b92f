"""Several processes that run one function together and can send each other messages.

    launch(f, p, *args)  ->  [f(*args) of process 0, ..., f(*args) of process p - 1]

Inside, ``torch.distributed`` is ready: ``dist.get_rank()`` says which process this is, ``dist.send`` reaches another.
The processes are real: each has its own interpreter and memory, and what they share goes through a socket of the
loopback interface 127.0.0.1 (the gloo library). They find one another through a file in a temporary folder; each then
lets the system choose its port, so no port is guessed and none can be taken by somebody else in between.

Whatever happens, no process stays: an error in one ends the others and is raised here with the traceback of the
process that failed *first*; so are a killed process and a timeout; and when this process dies, the others notice.

What this file is *not*: a way to several machines (that is ``torchrun``), nor a pool that is kept for the next call.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from dca_lab.parallel import _process


class ProcessError(RuntimeError):
    """One of several processes failed; the message holds its traceback.

    Attributes
    ----------
    rank : int
        Which process it was.
    """

    def __init__(self, message: str, rank: int):
        super().__init__(message)
        self.rank = rank


def launch(
    function: Callable[..., Any],
    world_size: int,
    *args: Any,
    threads: int = 1,
    timeout: float = 600.0,
) -> list[Any]:
    """Run ``function(*args)`` in `world_size` new processes that are joined in one gloo group.

    Parameters
    ----------
    function : callable
        Defined in a module that can be imported: the new processes import it. A function of a notebook cell or of a
        script's ``__main__`` cannot be found by them.
    world_size : int
        How many processes.
    *args
        Handed to every process. Tensors are copied; a process that changes its copy changes no other.
    threads : int
        Threads that torch may use in each process.
    timeout : float
        Seconds after which all processes are ended, their start (imports: some seconds) included.

    Returns
    -------
    list
        What each process returned, in the order of ranks.

    Raises
    ------
    ValueError
        When the function cannot be imported, or a number is out of range.
    ProcessError
        When a process raised an error, was killed, or ended without an answer.
    TimeoutError
        When the processes were not done in time.

    Examples
    --------
    >>> from dca_lab.parallel import launch, ring_bytes
    >>> launch(ring_bytes, 2, 1000, 2)
    [4000.0, 4000.0]
    """
    _check(function, world_size, threads, timeout)
    folder = Path(tempfile.mkdtemp(prefix="dca-parallel-"))
    processes: list[BaseProcess] = []
    try:
        # A file and not the pipe of the start: loaded with mmap, all processes share one copy of the examples.
        torch.save((function, args), folder / "task.pt")
        context = multiprocessing.get_context("spawn")  # fork would copy locks that torch's threads hold
        for rank in range(world_size):
            arguments = (rank, world_size, str(folder), threads, timeout)
            processes.append(context.Process(target=_process.main, args=arguments, daemon=True))
            processes[-1].start()
        _wait(processes, folder, timeout)
        return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(world_size)]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(processes: list[BaseProcess], folder: Path, timeout: float) -> None:
    """Returns when every process has left its result; raises as soon as one has ended without."""
    end = time.monotonic() + timeout
    running = dict(enumerate(processes))
    while running:
        ended = wait(
            [process.sentinel for process in running.values()], timeout=max(0.0, end - time.monotonic())
        )
        if not ended:
            names = ", ".join(str(rank) for rank in running if not (folder / f"result-{rank}.pt").exists())
            raise TimeoutError(
                f"process {names} of {len(processes)} did not finish within {timeout:g} s: give more timeout=, or "
                "look for a process that waits for a message that nobody sends"
            )
        running = {rank: process for rank, process in running.items() if process.sentinel not in ended}
        _raise_failure(processes, folder)


def _raise_failure(processes: list[BaseProcess], folder: Path) -> None:
    """Raise the error of the process that failed first: the others' errors are mostly that it no longer answers."""
    failed = []
    for rank, process in enumerate(processes):
        if wait([process.sentinel], timeout=0):
            process.join()  # the sentinel is ready a moment before the exit code is
        if process.exitcode is None or (folder / f"result-{rank}.pt").exists():
            continue
        report = folder / f"error-{rank}.txt"
        when, text = (
            0.0,
            f"ended without a result or an error (exit code {process.exitcode}{_signal(process)})",
        )
        if report.exists():  # none was written: killed, and so before those that missed it
            when, text = report.stat().st_mtime_ns, f"failed:\n\n{report.read_text(encoding='utf-8')}"
        failed.append((when, rank, text))
    if failed:
        _, rank, text = min(failed)
        raise ProcessError(f"process {rank} of {len(processes)} {text}", rank)


def _signal(process: BaseProcess) -> str:
    return ": killed, perhaps for want of memory" if (process.exitcode or 0) < 0 else ""


def _check(function: Callable, world_size: int, threads: int, timeout: float) -> None:
    for name, value in {"world_size": world_size, "threads": threads}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: give a whole number of at least 1")
    if not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: give a number of seconds above 0")
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<no name>")
    found = getattr(sys.modules.get(module), name, None)
    if module == "__main__" or found is not function:
        raise ValueError(
            f"{name} of {module} cannot be imported by a new process: put the function at the top level of a module "
            "(a .py file), not in a notebook cell, and not inside another function"
        )
