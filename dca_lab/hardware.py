"""What this machine says about itself: its processor, caches, memory, and where results may be kept.

Nothing here is measured; measured speeds are in `machine`. What this is *not*: a benchmark, nor a promise: in
a container or a virtual machine the processor's name can be generic and the cache may be shared with others.
"""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import archspec.cpu
import archspec.cpu.detect
import psutil

GUESSED_CACHE = 32 << 20  # bytes: assumed where the system does not tell
_REPOSITORY = Path(__file__).resolve().parents[1]


def build_folder() -> Path:
    """Folder of what can be made again: environment ``DCA_BUILD``, else ``_build`` in the repository.

    Outside a checkout (the package was installed as a wheel) it is ``_build`` in the current folder. It is
    not created here.

    Examples
    --------
    >>> build_folder().name != ""
    True
    """
    if given := os.environ.get("DCA_BUILD"):
        return Path(given)
    in_checkout = (_REPOSITORY / "pyproject.toml").is_file()
    return (_REPOSITORY if in_checkout else Path.cwd()) / "_build"


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


@cache
def cpu_name() -> str:
    """Name of the processor and the closest microarchitecture whose features it has all of.

    Examples
    --------
    >>> len(cpu_name()) > 0
    True
    """
    name = ""
    if platform.system() == "Linux":
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    elif platform.system() == "Darwin":
        name = _sysctl("machdep.cpu.brand_string")
    name = name or platform.processor() or platform.machine()
    return f"{name} [{archspec.cpu.host().name}]"


@cache
def instruction_sets() -> tuple[str, ...]:
    """Vector and matrix instruction sets that matter to a network, as the processor names them, sorted.

    Examples
    --------
    >>> isinstance(instruction_sets(), tuple)
    True
    """
    wanted = (
        "sse4_2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512",
        "avx_vnni",
        "amx",
        "neon",
        "asimd",
        "sve",
        "bf16",
        "i8mm",
        "dotprod",
    )
    detected = getattr(
        archspec.cpu.detect, "detected_info", archspec.cpu.host
    )()  # host() drops what its label lacks
    features = detected.features
    return tuple(sorted(feature for feature in features if any(word in feature.lower() for word in wanted)))


@cache
def last_level_cache() -> int | None:
    """Bytes of the largest cache that the first core sees, or None when the system does not tell.

    Examples
    --------
    >>> (last_level_cache() or 1) > 0
    True
    """
    if platform.system() == "Darwin":
        sizes = [_sysctl(name) for name in ("hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize")]
        return max((int(size) for size in sizes if size.isdigit()), default=None)
    unit, sizes = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}, []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = file.read_text(encoding="utf-8").strip()
            sizes.append(int(text[:-1]) * unit[text[-1]] if text[-1] in unit else int(text))
        except (OSError, ValueError, IndexError):
            continue
    return max(sizes, default=None)


def memory_limits() -> tuple[int, int]:
    """(total, available) bytes of memory; a container's limit counts where it is below the machine's.

    Examples
    --------
    >>> total, available = memory_limits()
    >>> 0 < available <= total
    True
    """
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    group = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            bound = int((group / limit).read_text(encoding="utf-8"))
            in_use = int((group / used).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no such group, or "max"
            continue
        total = min(total, bound)
        available = min(available, max(bound - in_use, 1))
    return total, min(available, total)


def cores() -> tuple[int, int]:
    """(usable by this process, physical in the machine).

    Examples
    --------
    >>> cores()[0] >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    return usable, psutil.cpu_count(logical=False) or usable
