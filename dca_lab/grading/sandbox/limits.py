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
    cell_seconds : float
        Wall time of one cell. A cell that takes longer is given up: its definitions still count.
    memory : int
        Bytes of address space above what the process has when it starts.
    file_bytes : int
        Bytes of one file, and of everything in the private folder.
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
    memory: int = 1 << 30
    file_bytes: int = 64 << 20
    files: int = 2000
    reply_bytes: int = 64 << 20
    threads: int = 64
    restarts: int = 40
