"""By how much the resident memory of this process rises, at its highest, while something runs.

    growth = highest resident set during the work - resident set before it

Meant for a process that has done nothing else: whoever measures starts a new one, lets it load and run what *any*
network needs (imports, kernels), and then measures one network. Linux keeps both figures in ``/proc/self/status``
(VmRSS, VmHWM; the second is reset through ``clear_refs``, proc(5)). What this is *not*: an exact count of bytes
(`measure.peak_memory`). It counts pages, and sees what no allocator of ours reports: the weights that a runtime packs anew.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth(work: Callable[[], object]) -> int | None:
    """Run `work`; the bytes by which this process grew at its highest, or None where the system does not tell.

    Examples
    --------
    >>> grown = growth(lambda: b"x" * 50_000_000)
    >>> grown is None or 45_000_000 < grown < 80_000_000
    True
    """
    if not (STATUS.is_file() and RESET.exists()):
        return None
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # give back what imports left free: it would hide a part
    before = _resident("VmRSS")
    RESET.write_text("5", encoding="utf-8")  # the highest mark starts again from here
    work()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmRSS (now) or VmHWM (at its highest)."""
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
