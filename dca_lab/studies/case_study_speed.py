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
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dca_lab import measure
from dca_lab.deploy import Session
from dca_lab.models import ResNet18
from dca_lab.quantization import export_int8

from .case_study_cut import EXAMPLE
from .resident import growth

WAYS = ("eager", "ort", "int8")


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


def memory(network: nn.Module, files: Mapping[str, Path]) -> dict[str, int | None]:
    """Bytes by which a fresh process grows while it loads a network and answers one image, in every way.

    Parameters
    ----------
    network : nn.Module
        For "eager"; written to a temporary file.
    files : dict of str to Path
        ONNX files, by their way.

    Returns
    -------
    dict of str to int
        "eager" and the keys of `files`: what is loaded, weights as the runtime packs them, activations. The system counts
        pages, so differences below some 100 kB mean nothing. None where the system does not tell.

    Raises
    ------
    RuntimeError
        If a process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network, Path(folder) / "eager.pt")
        everything = {"eager": Path(folder) / "eager.pt", **files}
        return {way: _grown_by(file) for way, file in everything.items()}


def _grown_by(file: Path) -> int | None:
    command = [sys.executable, "-m", __name__, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{file} could not be run in a process of its own: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _load_and_run(file: Path) -> None:
    model = torch.load(file, weights_only=False).eval() if file.suffix == ".pt" else Session(file)
    with torch.inference_mode():
        for _ in range(3):
            model(EXAMPLE)


def _warm_up(file: Path, folder: Path) -> None:
    """Run a tiny network the same way first: what a back end loads for any network is no network's."""
    tiny = ResNet18(width=8, stem_stride=2).eval()
    if file.suffix == ".pt":
        torch.save(tiny, folder / "tiny.pt")
        _load_and_run(folder / "tiny.pt")
    else:
        export_int8(tiny, EXAMPLE, folder / "tiny.onnx")
        _load_and_run(folder / "tiny.onnx")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        _warm_up(Path(sys.argv[1]), Path(place))
    print(json.dumps(growth(lambda: _load_and_run(Path(sys.argv[1])))))
