"""What the networks of the case study cost: seconds of one image, bytes of the file, memory of the process.

Each network is timed three ways, interleaved in one process: `eager` (PyTorch, fp32), `ort` (ONNX Runtime, fp32: the
best fp32 back end here) and `int8` (the integer file in ONNX Runtime). Both baselines are kept, since a factor over
eager PyTorch is in part the back end's. From the nine medians comes the waterfall

    eager original -> ort original -> ort pruned -> int8 pruned        (and each step alone)

Weights do not change the seconds of a dense kernel, so the chapter measures the same ratios again on networks that it
builds from the stored channel counts. It is *not* a benchmark of batches: the document asks for the speed of inference,
which is one image at a time; 64 at a time stand beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dca_lab import measure
from dca_lab.deploy import Session

from .case_study_cut import EXAMPLE

WAYS = ("eager", "ort", "int8")

# A process of its own per file: memory that a network adds is what this process has more of afterwards.
_RESIDENT = """
import json, sys
import numpy as np, onnxruntime as ort, psutil
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
images = np.random.default_rng(0).random((int(sys.argv[2]), 1, 28, 28), dtype=np.float32)
before = psutil.Process().memory_info().rss
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
peak = psutil.Process().memory_info().rss
for _ in range(3):
    session.run(None, {session.get_inputs()[0].name: images})
    peak = max(peak, psutil.Process().memory_info().rss)
print(json.dumps(peak - before))
"""


def time_networks(
    networks: Mapping[str, Mapping[str, nn.Module | Session]],
    *,
    batch: int = 1,
    repeats: int = 40,
    seed: int = 0,
) -> dict[str, Any]:
    """Time every network in every way, side by side.

    Parameters
    ----------
    networks : dict of str to dict
        {"original": {"eager": module, "ort": session, "int8": session}, "half": ..., ...}; "original" is the baseline.
    batch : int
        Images in one call.
    repeats : int
        Rounds.
    seed : int
        Of the order in each round.

    Returns
    -------
    dict
        {"batch", "milliseconds": {"half int8": median, ...}, "over_eager": {name: [ratio, low, high]}, "over_ort": ...}:
        ratios are medians of paired rounds with their 95 % interval, over the original's "eager" and "ort".

    Raises
    ------
    ValueError
        If the original is missing.
    """
    if not {"eager", "ort"} <= set(networks.get("original", {})):
        raise ValueError(
            "the original in its ways 'eager' and 'ort' is the baseline: it must be among the networks"
        )
    subjects = {f"{name} {way}": subject for name, ways in networks.items() for way, subject in ways.items()}
    images = torch.rand(batch, *EXAMPLE.shape[1:], generator=torch.Generator().manual_seed(0))
    timed = measure.latency(subjects, images, repeats=repeats, seed=seed)
    found: dict[str, Any] = {"batch": batch, "milliseconds": {n: 1e3 * timed.median(n) for n in subjects}}
    for way in ("eager", "ort"):
        base = f"original {way}"
        found[f"over_{way}"] = {n: [timed.ratio(base, n), *timed.ratio_interval(base, n)] for n in subjects}
    return found


def waterfall(timing: Mapping[str, Any], *, pruned: str = "half") -> dict[str, float]:
    """Factors by which each step divides the time of one image; their product is the whole.

    Parameters
    ----------
    timing : dict
        From `time_networks`.
    pruned : str
        Which pruned network.

    Returns
    -------
    dict of str to float
        "back end", "pruning", "int8" in this order, and each "alone" (pruning alone in eager PyTorch).

    Examples
    --------
    >>> ms = {"original eager": 8.0, "original ort": 4.0, "original int8": 1.0}
    >>> ms |= {"half eager": 6.0, "half ort": 2.0, "half int8": 1.0}
    >>> {k: round(v, 2) for k, v in waterfall({"milliseconds": ms}).items()}
    {'back end': 2.0, 'pruning': 2.0, 'int8': 2.0, 'pruning alone': 1.33, 'int8 alone': 4.0}
    """
    ms = timing["milliseconds"]
    return {
        "back end": ms["original eager"] / ms["original ort"],
        "pruning": ms["original ort"] / ms[f"{pruned} ort"],
        "int8": ms[f"{pruned} ort"] / ms[f"{pruned} int8"],
        "pruning alone": ms["original eager"] / ms[f"{pruned} eager"],
        "int8 alone": ms["original ort"] / ms["original int8"],
    }


def resident_bytes(file: Path, *, batch: int = 1) -> int:
    """Memory that a process gains by opening an ONNX file and running it: weights as packed, and activations.

    Parameters
    ----------
    file : Path
    batch : int
        Images in one call.

    Returns
    -------
    int
        Bytes, as the system says; it counts pages, so differences below some 100 kB mean nothing.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    command = [sys.executable, "-c", _RESIDENT, str(file), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{file} could not be run in a process of its own: {done.stderr.strip()[-300:]}")
    return int(json.loads(done.stdout))


def memory(network: nn.Module, files: Mapping[str, Path]) -> dict[str, int]:
    """Memory at the peak of one image: counted for PyTorch, read from the system for the files.

    Returns
    -------
    dict of str to int
        "eager": parameters and what one forward pass allocates at its worst; and by the keys of `files`.
    """
    weights = 4 * measure.count_parameters(network)
    counted = {"eager": weights + measure.peak_memory(network, EXAMPLE)}
    return counted | {way: resident_bytes(file) for way, file in files.items()}
