"""What a student's process uses, seen from outside: threads, and files in its private folder.

Idea: the kernel's own limits cover CPU time, memory and the size of one file; it has none for the number of threads of
one process (where the user has other processes) nor for a folder. So the grader looks about ten times a second, while
it waits. What this is *not*: exact. Between two looks a process can go beyond its limit, and is then ended.
"""

from __future__ import annotations

import os

from dca_lab.grading.sandbox.channel import Broken
from dca_lab.grading.sandbox.limits import Limits


def look(pid: int | None, folder: str, limits: Limits) -> None:
    """Raise Broken if the process `pid` has too many threads, or `folder` holds too much."""
    if pid is not None and threads(pid) > limits.threads:
        raise Broken(f"more than {limits.threads} threads")
    used, files = usage(folder, limits.files)
    if files > limits.files:
        raise Broken(f"more than {limits.files:,} files")
    if used > limits.file_bytes:
        raise Broken(f"more than {limits.file_bytes:,} bytes of files")


def threads(pid: int) -> int:
    """Number of threads of a process; 0 if it is gone or the system does not tell."""
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def usage(folder: str, most: int) -> tuple[int, int]:
    """Bytes on disk and number of entries beneath `folder`; counting stops soon after `most` entries.

    Examples
    --------
    >>> usage("/nowhere", 10)
    (0, 0)
    """
    used = count = 0
    pending = [folder]
    while pending and count <= most:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        break
                    found = entry.stat(follow_symlinks=False)
                    used += 512 * found.st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue  # removed meanwhile, or a path longer than the system accepts
    return used, count


def address_space(pid: int | None) -> int:
    """Bytes of address space of a process; a generous guess where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 << 30
