"""This machine's roofline: measured once with one core, kept in a small file, read by every chapter.

The arrays of the bandwidth measurement are four times the last-level cache, so that the bytes come from
memory. They never take more than an eighth of the free memory, and `Machine.from_cache` says so when that was
too little. The same sweep over smaller arrays gives the bandwidth of each cache: `Machine.bandwidth_at`. How
each figure is measured is in `peaks`.

What this is *not*: a description of the machine with all its cores; compare it with one-thread runs only.

References
----------
Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
CACM 52(4), 2009.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from dca_lab.hardware import GUESSED_CACHE, build_folder, cpu_name, last_level_cache, memory_limits

from ._running import threads_set_to
from .peaks import bandwidth_levels, int8_rate, product_rate

_FORMAT = 1  # of the cached file; raised when the way of measuring changes


@dataclass(frozen=True)
class Machine:
    """One core of this machine, as measured.

    Attributes
    ----------
    cpu, torch : str
        What was measured, and with which version.
    peak_flops : float
        FLOP/s in fp32.
    bandwidth : float
        Bytes/s from memory.
    levels : tuple of (int, float)
        (bytes of the working set, bytes/s), from small to large; the last is `bandwidth`.
    cache_bytes : int or None
        Last-level cache, where the system tells.
    bf16_flops, int8_ops : float or None
        Matrix products in bf16 (fp32 out) and in u8 x s8; None where torch has no kernel that is exact.
    """

    cpu: str
    torch: str
    peak_flops: float
    bandwidth: float
    levels: tuple[tuple[int, float], ...]
    cache_bytes: int | None = None
    bf16_flops: float | None = None
    int8_ops: float | None = None

    @property
    def ridge(self) -> float:
        """FLOP per byte at which both bounds meet: below it, memory is the limit."""
        return self.peak_flops / self.bandwidth

    @property
    def from_cache(self) -> bool:
        """True when the arrays were not well beyond the cache: `bandwidth` is then partly the cache's."""
        return self.levels[-1][0] < 2 * (self.cache_bytes or GUESSED_CACHE)

    def bandwidth_at(self, working_set: float) -> float:
        """Bytes/s when `working_set` bytes are used repeatedly: that of the smallest cache that holds them.

        Interpolated in the logarithm of the size; a larger set is never faster than a smaller one.

        Examples
        --------
        >>> m = Machine("a", "b", 1e11, 1e10, ((1 << 20, 4e10), (1 << 30, 1e10)))
        >>> m.bandwidth_at(1 << 10), m.bandwidth_at(1 << 25), m.bandwidth_at(1 << 40)
        (40000000000.0, 25000000000.0, 10000000000.0)
        """
        sizes, rates = (np.array(column, dtype=np.float64) for column in zip(*self.levels, strict=True))
        rates = np.maximum.accumulate(rates[::-1])[::-1]  # a dip below a larger set's rate was noise
        return float(np.interp(np.log2(max(working_set, 1.0)), np.log2(sizes), rates))


def measure_machine() -> Machine:
    """Measure now, on one thread; takes a few seconds. `machine` keeps the result."""
    cache = last_level_cache()
    largest = max(4 * (cache or GUESSED_CACHE), 256 << 20)
    largest = min(largest, memory_limits()[1] // 8)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # otherwise an "fp32" product may run in bf16
    try:
        with threads_set_to(1), torch.inference_mode():
            levels = bandwidth_levels(largest)
            return Machine(
                cpu=cpu_name(),
                torch=torch.__version__,
                peak_flops=product_rate(torch.float32),
                bandwidth=levels[-1][1],
                levels=levels,
                cache_bytes=cache,
                bf16_flops=product_rate(torch.bfloat16),
                int8_ops=int8_rate(),
            )
    finally:
        torch.set_float32_matmul_precision(precision)


def _stored(file: Path) -> Machine | None:
    """The machine in `file` if it is this one with this torch; None otherwise, also for a damaged file."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.pop("format") != _FORMAT or (data["cpu"], data["torch"]) != (cpu_name(), torch.__version__):
            return None
        data["levels"] = tuple((int(size), float(rate)) for size, rate in data["levels"])
        found = Machine(**data)
        return found if found.peak_flops > 0 and found.bandwidth > 0 and found.levels else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def machine(*, refresh: bool = False) -> Machine:
    """This machine's measured one-core peak and bandwidth; measured once, then read from ``machine.json``.

    Parameters
    ----------
    refresh : bool
        Measure again even if there is a file for this processor and torch version.

    Returns
    -------
    Machine

    Notes
    -----
    The file lies in `hardware.build_folder` (environment variable ``DCA_BUILD``). Of several processes that
    ask at once, one measures and the others wait. Where the folder cannot be written, it is measured each
    time.
    """
    folder = build_folder()
    file = folder / "machine.json"
    found = None if refresh else _stored(file)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=300):
            found = None if refresh else _stored(file)
            if found is None:
                found = measure_machine()
                _write_atomically(file, json.dumps({"format": _FORMAT, **asdict(found)}, indent=1))
    except OSError:  # a read-only folder: the measurement itself still counts
        found = found or measure_machine()
    return found


def _write_atomically(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
