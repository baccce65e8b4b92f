"""What a student's process uses, seen from outside: threads, and files in its private folder.

Idea: the kernel's own limits cover CPU time, memory and the size of one file; it has none for the number of threads of
one process (where the user has other processes) nor for a folder. So the grader looks about ten times a second while
it waits, and can say what was too much; while it does something else, the zygote looks (`inside/usage.py`). What this is
*not*: exact. Between two looks a process can go beyond its limit, and is then ended.
"""

from __future__ import annotations

import os
from dataclasses import asdict

from dca_lab.grading.sandbox.channel import Broken
from dca_lab.grading.sandbox.inside.usage import too_much
from dca_lab.grading.sandbox.limits import Limits


def look(pid: int | None, folder: str, limits: Limits) -> None:
    """Raise Broken if the process `pid` has too many threads, or `folder` holds too much."""
    if why := too_much(pid, folder, asdict(limits)):
        raise Broken(why)


def address_space(pid: int | None) -> int:
    """Bytes of address space of a process; a generous guess where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 << 30
