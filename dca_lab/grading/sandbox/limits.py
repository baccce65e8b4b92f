"""How much one student's process may use, and the error of a sandbox that cannot do its work."""

from __future__ import annotations

from dataclasses import dataclass


class SandboxError(RuntimeError):
    """The machine cannot run student code safely. Never caused by what a student wrote."""


@dataclass(frozen=True)
class Limits:
    """Limits of one student's process.

    Parameters
    ----------
    cpu_seconds : float
        CPU time of the process, cells and calls together.
    wall_seconds : float
        Wall time of all cells.
    phase_seconds : float
        Wall time of everything that one `Student` does, cells and calls and new starts together. Honest work takes a few
        seconds of it, and one exercise that hangs half a minute; the rest is for a machine with much else to do.
    cell_seconds : float
        Wall time of one cell. A cell that takes longer is given up: its definitions still count.
    memory : int
        Bytes of address space above what the process has when it starts.
    file_bytes : int
        Bytes of everything in the private folder. One file may have an eighth of it: a file that is removed and still
        open takes room and is seen by nobody, so that its size and the number of open files are limited instead.
    files : int
        Files and folders in the private folder.
    reply_bytes : int
        Bytes of one answer.
    threads : int
        Threads of the process.
    restarts : int
        How often the process of one student is started anew after it died.

    Examples
    --------
    >>> Limits(cpu_seconds=5).memory == 2**30
    True
    """

    cpu_seconds: float = 30.0
    wall_seconds: float = 60.0
    cell_seconds: float = 20.0
    phase_seconds: float = 240.0
    memory: int = 1 << 30
    file_bytes: int = 64 << 20
    files: int = 2000
    reply_bytes: int = 64 << 20
    threads: int = 64
    restarts: int = 40
