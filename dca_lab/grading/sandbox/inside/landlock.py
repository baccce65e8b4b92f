"""Landlock: a process gives up, for good, every file except those that it names.

Idea: Linux 5.13 and later let any process put itself behind a wall that nobody can take down again, without being an
administrator. How: a *ruleset* says which rights it handles; each rule grants some of them beneath a folder; what is
handled and not granted is denied. From version 4 of the interface it also handles TCP, from version 6 signals and
abstract sockets; a right that the running kernel does not know must not be asked for, so the lists are cut to its
version. There is no C library function: the three system calls have the same numbers on every processor.

What this is *not*: everything about files. Landlock does not rule changes of mode, owner and times; those are forbidden
by the filter in `seccomp.py`. Nor does it rule what `stat` tells: who knows the path of a file, wherever it lies, learns
that it exists, its size, its owner and its times, but nothing of what it holds. Under bubblewrap the path leads nowhere.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls
READ_FILE, READ_DIR = 1 << 2, 1 << 3
WRITE_FILE, REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 1, 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE = 1 << 13, 1 << 14
ALL_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE  # the other rights belong to folders

libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of Landlock that the kernel offers; 0 where there is none or where it is switched off."""
    found = libc.syscall(CREATE, None, ctypes.c_size_t(0), 1) if os.uname().sysname == "Linux" else -1
    return max(found, 0)


def ruleset(readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> int:
    """A file descriptor of a new ruleset; folders include everything beneath them.

    Parameters
    ----------
    readable : iterable of str
        Files and folders that may be read. What does not exist is left out.
    listable : iterable of str
        Folders whose entries may be listed, but whose files stay closed.
    writable : iterable of str
        Folders in which anything may be written; symbolic links and devices cannot be made.
    """
    here = version()
    handled = ALL_BY_VERSION[max(known for known in ALL_BY_VERSION if known <= here)]
    net, scopes = (3 if here >= 4 else 0), (3 if here >= 6 else 0)
    size = 24 if here >= 6 else 16 if here >= 4 else 8
    attributes = struct.pack("<QQQ", handled, net, scopes)[:size]
    rules = _call(CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    for paths, rights in ((readable, READ), (listable, READ_DIR), (writable, WRITE), ([os.devnull], WRITE)):
        for path in paths:
            _allow(rules, path, rights & handled)
    return rules


def _allow(rules: int, path: str, rights: int) -> None:
    if not Path(path).is_dir():
        rights &= OF_FILES
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # an optional place, such as fonts
    try:
        _call(ADD, rules, 1, ctypes.c_char_p(struct.pack("<Qi", rights, place)), 0)
    finally:
        os.close(place)


def restrict(rules: int) -> None:
    """Put the calling thread behind the ruleset for good; `no_new_privs` must be set before."""
    _call(RESTRICT, rules, 0)


def _call(number: int, *arguments) -> int:
    result = libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
