"""What a command costs with everything that it starts: ``python counted.py FIGURES.json COMMAND ...``.

    CPU seconds   user + system of all its processes: what the kernel adds up when a parent waits for its child
    peak memory   sum of the proportional set sizes (a page that n processes share counts 1/n for each), sampled

A process whose parent died would be waited for by someone else; this one asks to be that someone (PR_SET_CHILD_SUBREAPER),
so nothing is missed. Whatever the command leaves behind is ended. What this is *not*: counted itself, and neither is
its sampling. Linux only.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
INTERVAL = 0.25  # seconds between samples


def counted(
    command: list[str], folder: Path, *, environment: dict[str, str] | None = None
) -> dict[str, float]:
    """Run a command under this file; `cpu_seconds`, `seconds`, `peak_bytes`, `returncode`, and its last words."""
    figures = folder / "figures.json"
    line = [sys.executable, __file__, str(figures), *map(str, command)]
    done = subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(figures.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} could not be counted: {done.stderr[-500:]}") from None
    figures.unlink()
    if found["returncode"]:
        raise RuntimeError(f"{' '.join(map(str, command[:4]))} failed: {(done.stderr or done.stdout)[-800:]}")
    return found


def proportional_bytes(pid: int) -> int:
    """The proportional set size of a process; 0 when it is gone, or not ours to look at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))


def _sample(peak: list[int], stop: threading.Event) -> None:
    me = psutil.Process()
    while not stop.wait(INTERVAL):
        peak[0] = max(peak[0], sum(proportional_bytes(one.pid) for one in me.children(recursive=True)))


def main(argv: list[str]) -> int:
    """The command, then everything that it left, then the figures."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this kernel has no subreapers")
    peak, stop, began = [0], threading.Event(), time.perf_counter()
    process = subprocess.Popen(argv[1:])
    sampler = threading.Thread(target=_sample, args=(peak, stop), daemon=True)
    sampler.start()
    code = process.wait()
    seconds = time.perf_counter() - began
    stop.set()
    sampler.join()
    for left in psutil.Process().children(recursive=True):
        left.kill()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "seconds": seconds,
        "peak_bytes": peak[0],
        "returncode": code,
    }
    Path(argv[0]).write_text(json.dumps(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
