"""The walls of one student's process, put up between the fork and the first line of the student's code.

Order matters: what needs rights comes first, the filter of system calls last. After `raise_walls` the process cannot
open a socket, start a process, signal another one, read a file that is not granted, or write outside its own folder;
none of this can be undone from inside.

What this is *not*: the measure of wall time, threads and disk use; those are watched by the grader, from outside.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct

from dca_lab.grading.sandbox.inside import landlock, seccomp

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 38
CAP_DAC_READ_SEARCH = 2
libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Set one property of the calling process."""
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")


def silence(*keep: int) -> None:
    """Standard input, output and error lead to /dev/null; every other descriptor that is not kept is closed."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    edges = [2, *sorted(keep), 1 << 16]
    for low, high in zip(edges, edges[1:], strict=False):
        os.closerange(low + 1, high)


def set_limits(limits: dict, address_space: int | None, count_threads: bool) -> None:
    """CPU seconds, address space, size of a file, open files, no core dump; soft and hard alike.

    Only where the user of the process has nothing else running can the number of processes, which counts threads, be
    limited; elsewhere the grader watches it.
    """
    wanted = {
        resource.RLIMIT_CPU: max(1, round(limits["cpu_seconds"])),
        # A removed file that is still open takes room, and nobody sees it: at most eight times `file_bytes` like this.
        resource.RLIMIT_FSIZE: limits["file_bytes"] // 8,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if address_space is not None:
        wanted[resource.RLIMIT_AS] = address_space
    if count_threads:
        wanted[resource.RLIMIT_NPROC] = limits["threads"]
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def change_user(uid: int, keep_reading: bool) -> None:
    """From root to an ordinary user that owns nothing.

    An interpreter beneath a folder that only root may enter (``/root``) could not import any more. With `keep_reading`
    one right of root is kept, to walk through folders; which files are read is then up to Landlock alone.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if keep_reading:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    kept = 1 << CAP_DAC_READ_SEARCH if keep_reading else 0
    header, data = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", kept, kept, 0, 0, 0, 0)
    if libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)):
        raise OSError(ctypes.get_errno(), "the rights of root could not be given up")


def raise_walls(settings: dict, rules: int | None, zygote: int) -> None:
    """Every wall but the limits, in the order in which they can be put up."""
    if settings["uid"] is not None:
        change_user(settings["uid"], settings["keep_reading"])
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which would clear it
    if os.getppid() != zygote:
        os._exit(1)  # the zygote died before the line above
    if rules is not None:
        landlock.restrict(rules)
        os.close(rules)
    seccomp.install()
