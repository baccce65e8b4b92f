"""What the processor's 8-bit instructions do with large sums: whether 8-bit weights are safe on it.

x86 without VNNI multiplies unsigned by signed bytes with vpmaddubsw, which adds two products in 16 bits and
saturates (`saturation`). VNNI (AVX-512 VNNI, AVX-VNNI) and AMX add in 32 bits. So does ARM: with the dot
product instructions in 32 bits at once, without them by widening additions. What this is *not*: a list of fast
processors; it says which are exact.
"""

from __future__ import annotations

import platform
from functools import cache

import archspec.cpu

from dca_lab import hardware

_EXACT = ("avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni", "amx_int8")


@cache
def has_vnni() -> bool:
    """Whether this processor has x86 instructions that sum 8-bit products in 32 bits.

    Examples
    --------
    >>> has_vnni() in (True, False)
    True
    """
    return any(name in _EXACT for name in hardware.instruction_sets())


@cache
def is_x86() -> bool:
    """Whether this is an x86 processor; where archspec does not know it, as Python's platform says."""
    family = archspec.cpu.host().family.name
    return family in ("x86", "x86_64") or platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


def wants_reduced_range() -> bool:
    """Whether weights need 7 bits here: on x86 without VNNI.

    Examples
    --------
    >>> wants_reduced_range() in (True, False)
    True
    """
    return is_x86() and not has_vnni()
