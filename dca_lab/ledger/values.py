"""What may stand in the ledger: finite numbers in their range, texts, and lists and dicts of these.

A NaN or an accuracy of 97 in a shared file spoils every table that is drawn from it later, so it is refused
at the door, with the name of the value. What this is *not*: a judgement of whether a number is right.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

MEASURES = ("accuracy", "bytes", "macs", "parameters", "latency", "memory")
_COUNTS = ("bytes", "macs", "parameters", "memory")


def plain(name: str, value: Any) -> Any:
    """`value` as what JSON can hold: numpy and torch scalars unwrapped, NaN and infinity refused."""
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(f"{name}[{key!r}]", part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(f"{name}[{i}]", part) for i, part in enumerate(value)]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return plain(name, value.item())
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ValueError(f"{name}={value!r} is not finite: nothing was measured; mend the cell above")
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(
        f"{name} is a {type(value).__qualname__}: give a number, a text, or a list or dict of these"
    )


def measure(name: str, value: Any) -> int | float | None:
    """A measured number in the range that its name allows; ValueError otherwise.

    Examples
    --------
    >>> measure("bytes", 12.0)
    12
    """
    value = plain(name, value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}={value!r}: give a number")
    if name == "accuracy" and not 0 <= value <= 1:
        raise ValueError(f"accuracy={value!r}: give a share between 0 and 1, not a percentage")
    if value < 0:
        raise ValueError(f"{name}={value!r} is negative")
    if name in _COUNTS:
        if value != int(value):
            raise ValueError(f"{name}={value!r}: give a whole number")
        return int(value)
    return value


def name_of(name: str, value: Any) -> str:
    """A text that is not empty; ValueError otherwise.

    Examples
    --------
    >>> name_of("technique", "magnitude")
    'magnitude'
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r}: give a short text such as 'lenet-5 on mnist'")
    return value
