"""Checks at the door: each names what was given and what to do instead."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

LARGEST = torch.finfo(torch.float32).max


def checked_range(x_min: Tensor | float, x_max: Tensor | float) -> tuple[Tensor, Tensor]:
    """Both ends of the range in float64, of one shape: finite, within float32, and in order."""
    low, high = (torch.as_tensor(end).detach().to(torch.float64) for end in (x_min, x_max))
    for name, end in (("x_min", low), ("x_max", high)):
        bad = ~(end.abs() <= LARGEST)  # NaN compares false as well
        if bool(bad.any()):
            raise ValueError(f"{name} must be finite and fit float32, got {end[bad].tolist()[:3]}")
    low, high = torch.broadcast_tensors(low, high)
    wrong = low > high
    if bool(wrong.any()):
        raise ValueError(f"x_min must not exceed x_max, got {low[wrong][0].item()} > {high[wrong][0].item()}")
    return low, high


def is_whole(value: Any) -> bool:
    """Whether ``value`` is an integer, of Python or numpy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_bits(name: str, value: int, where: str = "", *, lowest: int = 2, highest: int = 8) -> int:
    """``value`` as a plain int; a ValueError unless it, the setting ``name``, is a whole number in the range."""
    if not is_whole(value) or not lowest <= value <= highest:
        text = f"give a whole number from {lowest} to {highest}"
        raise ValueError(f"{name}={value!r}{where and ' '}{where}: {text}")
    return int(value)


def checked_values(x: Tensor) -> Tensor:
    """``x`` without its gradient; a ValueError if there is NaN or infinity in it."""
    x = x.detach()
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{bad} of {x.numel()} values are NaN or infinite: no level is near them")
    return x


def checked_grid(
    scale: Tensor | float,
    zero_point: Tensor | int,
    shape: torch.Size,
) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero point (int32) as tensors that broadcast against ``shape``."""
    scale = torch.as_tensor(scale).detach().to(torch.float32)
    zero_point = torch.as_tensor(zero_point).detach()
    if zero_point.is_floating_point() or zero_point.dtype == torch.bool:
        raise ValueError(f"zero_point must be an integer (a level of the grid), got {zero_point.dtype}")
    if not bool(((scale > 0) & (scale <= LARGEST)).all()):
        raise ValueError(f"scale must be positive and finite, got {scale.flatten()[:3].tolist()}")
    for name, given in (("scale", scale), ("zero_point", zero_point)):
        if not _broadcasts(given.shape, shape):
            raise ValueError(
                f"{name} of shape {tuple(given.shape)} does not broadcast against values of shape {tuple(shape)}; "
                "one scale a channel must have the values' number of axes, as (C, 1, 1, 1) has"
            )
    return scale, zero_point.to(torch.int32)


def _broadcasts(small: torch.Size, large: torch.Size) -> bool:
    """Whether ``small`` stretches to ``large`` while ``large`` keeps its shape."""
    pairs = zip(reversed(small), reversed(large), strict=False)
    return len(small) <= len(large) and all(s in (1, n) for s, n in pairs)
