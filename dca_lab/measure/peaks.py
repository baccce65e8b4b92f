"""Measure the peak of one core and the bandwidth of each level of the memory: the ceilings of the roofline.

    peak      = 2 n^3 / seconds of the best product of two n x n matrices      (the data fits in cache)
    bandwidth = 3 * 4 n / seconds of  b += s * c  over arrays of n floats      (reads two, writes one)

Each figure is the *best* of several samples in CPU time: other programs can only slow a sample down.

What this is *not*: the data-sheet peak. A peak that no program reaches is no bound on a program; this one was
reached here.

References
----------
McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers", IEEE TCCA Newsletter,
Dec. 1995 (STREAM).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def best_rate(run: Callable[[], Any], work: float, *, samples: int = 8, budget: float = 0.4) -> float:
    """Work per CPU second of the fastest sample; each lasts 2 ms or more, all about `budget` seconds."""
    run()
    loops, best, spent = 1, np.inf, 0.0
    for _ in range(samples + 20):
        start = time.process_time()
        for _ in range(loops):
            run()
        seconds = time.process_time() - start
        spent += seconds
        if seconds < 2e-3 and loops < 1 << 20:
            loops *= 2
            continue
        best, samples = min(best, seconds / loops), samples - 1
        if samples <= 0 or spent > budget:
            break
    return work / best


def product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the best of three square matrix products in `dtype`."""
    generator = torch.Generator().manual_seed(0)
    rates = []
    for n in (256, 512, 1024):
        a, b = (torch.rand(n, n, generator=generator).to(dtype) for _ in range(2))
        rates.append(best_rate(lambda a=a, b=b: torch.mm(a, b), 2.0 * n**3))
        if rates[-1] < 0.5 * rates[0]:
            break
    return max(rates)


def int8_rate() -> float | None:
    """Rate of torch's own int8 linear layer, if it is there and its result is exact."""
    generator, rates = torch.Generator().manual_seed(0), []
    try:
        for n in (512, 1024):
            x = torch.randint(0, 256, (n, n), dtype=torch.uint8, generator=generator)
            w = torch.randint(
                -64, 64, (n, n), dtype=torch.int8, generator=generator
            )  # 7 bits: no 16-bit saturation
            ones, zeros = torch.ones(n), torch.zeros(n, dtype=torch.int64)
            packed = torch.ops.onednn.qlinear_prepack(w, [n, n])
            rest = (packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], "")

            def run(x: torch.Tensor = x, rest: tuple = rest) -> torch.Tensor:
                return torch.ops.onednn.qlinear_pointwise(x, 1.0, 0, *rest)

            if not torch.equal(run().double(), (x.double() @ w.double().T).float().double()):
                return None
            rates.append(best_rate(run, 2.0 * n**3))
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return None  # another version or processor without this kernel
    return max(rates)


def bandwidth_levels(largest: int) -> tuple[tuple[int, float], ...]:
    """Bandwidth over working sets of 64 KiB, 256 KiB, ... up to `largest` bytes (both arrays together)."""
    sizes = [size for size in (1 << k for k in range(16, 40, 2)) if size <= largest // 2] + [largest]
    rows = []
    left, right = (
        torch.zeros(largest // 8),
        torch.ones(largest // 8),
    )  # once: the first touch of a page is slow
    for size in sizes:
        n = size // 8  # two arrays of 4-byte floats
        b, c = left[:n], right[:n]
        add = best_rate(lambda b=b, c=c: b.add_(c, alpha=0.5), 12.0 * n, budget=0.3)
        dot = best_rate(lambda b=b, c=c: torch.dot(b, c), 8.0 * n, budget=0.3)
        rows.append((8 * n, max(add, dot)))
    return tuple(rows)
