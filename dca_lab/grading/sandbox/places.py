"""Which places of the machine a student's process may read: what Python needs, and nothing else.

Idea: name what is allowed, not what is forbidden. How: the standard library, the folders of installed packages, the
system's shared libraries, fonts and time zones. From these, everything that could help to cheat is cut out again: this
package itself, wherever it is installed, and other graders. The course's repository, homes, submissions and results
lie elsewhere and are therefore closed. Both levels read this one list: Landlock as rules, bubblewrap as mounts.

What this is *not*: the list of what may be written. That is the private folder alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store",
    "/usr/share/fonts", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts",
    "/proc/cpuinfo", "/sys/devices/system/cpu",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
PACKAGE = Path(__file__).resolve().parents[2]
GRADERS = ("dca_lab", "otter", "nbgrader", "gradelib", "okpy", "jupygrader")


@cache
def packages() -> tuple[str, ...]:
    """Folders of installed packages that the grader's own Python uses."""
    named = (path for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    return tuple(dict.fromkeys(os.path.realpath(path) for path in named if Path(path).is_dir()))


@cache
def interpreter() -> str:
    """The program itself, behind the links of virtual environments."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@cache
def roots() -> tuple[str, ...]:
    """Everything readable, before `hidden` is cut out; existing places only, none inside another."""
    wanted = [
        *SYSTEM,
        os.path.join(sys.base_prefix, "lib"),
        os.path.dirname(os.__file__),
        interpreter(),
        *packages(),
    ]
    found: list[str] = []
    for path in sorted({os.path.realpath(path) for path in wanted if os.path.exists(path)}):
        if not any(path.startswith(f"{outer}/") for outer in found):
            found.append(path)
    return tuple(found)


@cache
def hidden() -> tuple[str, ...]:
    """What is cut out of the roots: this package, its metadata, and other graders."""
    found = {PACKAGE}
    folders = {
        *packages(),
        *(str(path) for root in roots() for path in Path(root).glob("python3*/*-packages")),
    }
    folders |= {str(path) for root in roots() for path in Path(root).glob("*-packages")}
    for folder in folders:
        for entry in (*Path(folder).iterdir(), *Path(folder, "__pycache__").glob("*")):
            plain = entry.name.lower().replace("-", "_").removeprefix("__editable__").strip("_.")
            if plain.startswith(GRADERS):
                found.add(entry)
    return tuple(sorted(str(path) for path in found if path.exists()))


def split(paths: Iterable[str], cut: Iterable[str]) -> tuple[list[str], list[str]]:
    """Readable places, and folders that may only be listed, such that nothing of `cut` can be read.

    A rule of Landlock grants a folder with everything beneath it. A folder that holds something to hide is therefore
    granted entry by entry.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as top:
    ...     for name in ("numpy", "secret"):
    ...         os.mkdir(os.path.join(top, name))
    ...     readable, listable = split([top], [os.path.join(top, "secret")])
    ...     [os.path.basename(path) for path in readable], listable == [top]
    (['numpy'], True)
    """
    cut = list(cut)
    readable, listable, pending = [], [], list(paths)
    while pending:
        path = pending.pop()
        if path in cut:
            continue
        if not any(one.startswith(f"{path}/") for one in cut):
            readable.append(path)
        elif not os.path.islink(path):
            listable.append(path)
            pending += [entry.path for entry in os.scandir(path)]
    return readable, listable
