"""Which architectures can a library prune, and does the result compute what it should?

For each network the same ratio; then, value by value,

    error = max |small(x) - masked(x)|

where `masked` is the original in which the removed channels were set to zero beforehand (see `masking`).
This is *not* about which channels are best: see `channel_pruning`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from bench.common import OURS, failure
from bench.pruning import networks as nets
from bench.pruning.libraries import LIBRARIES, PEER, Job
from bench.pruning.masking import difference
from dca_lab.measure import count_macs, count_parameters
from dca_lab.measure.pairs import interleave
from dca_lab.models import ResNet18, SmallCNN, TransformerLM

TITLE = "Architectures: half of the channels of each group removed"
EXACT = 1e-5  # largest error that counts as rounding; outputs are of the order of 1

_PICTURE = (2, 3, 16, 16)


@dataclass(frozen=True)
class Architecture:
    """A network, the shape of its input, and what the peer must be told about it."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = _PICTURE
    job: Job = Job(keep=("head",))
    tokens: int = 0  # not 0: the input is integers below this number


def _transformer(blocks: int = 2) -> Job:
    projections = {f"blocks.{b}.attention.{p}": 4 for b in range(blocks) for p in ("q", "k", "v")}
    # the residual stream stays whole: layer norm would mix a removed channel into all others
    return Job(keep=("head", "blocks.0.fc2"), heads=projections, parameters={"position": 1})


ARCHITECTURES: dict[str, Architecture] = {
    "chain (SmallCNN)": Architecture(SmallCNN, (2, 1, 28, 28), Job(keep=("fc",))),
    "residual (ResNet18)": Architecture(lambda: ResNet18(width=8), (2, 1, 28, 28), Job(keep=("fc",))),
    "concatenation (DenseNet)": Architecture(
        lambda: nets.Classifier(nets.Dense(16, 8, 3), nets.conv(40, 24, 1), width=24)
    ),
    "grouped (ResNeXt)": Architecture(
        lambda: nets.Classifier(nets.Aggregated(16, 32, 4), nets.Aggregated(16, 32, 4), width=16)
    ),
    "depthwise (MobileNetV2)": Architecture(
        lambda: nets.Classifier(nets.Inverted(16, 16), nets.Inverted(16, 24, stride=2), width=24)
    ),
    "U-Net skips": Architecture(nets.UNet, _PICTURE, Job(keep=("out",))),
    "shared module": Architecture(lambda: nets.Classifier(nets.Shared(), width=16)),
    "transformer (q, k, v layers)": Architecture(TransformerLM, (2, 12), _transformer(), tokens=128),
    "nn.MultiheadAttention": Architecture(
        nets.Attention, (2, 6, 32), Job(keep=("head", "fc2"), heads={"attention": 4})
    ),
    "squeeze and excitation": Architecture(lambda: nets.Classifier(nets.Excited(16), width=16)),
    "channel shuffle": Architecture(lambda: nets.Classifier(nets.Shuffle(16, 2), width=16)),
}


def build(name: str, seed: int = 0) -> tuple[nn.Module, Any]:
    """The network in evaluation mode, every parameter and statistic random, and an input.

    Examples
    --------
    >>> model, x = build("U-Net skips")
    >>> model(x).shape
    torch.Size([2, 2, 16, 16])
    """
    chosen = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = chosen.make().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                nn.init.normal_(parameter)
        x = torch.randint(chosen.tokens, chosen.shape) if chosen.tokens else torch.randn(chosen.shape)
    return model, x


def run(*, seeds: int, quick: bool, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each architecture and library; `seeds` has no part in it. `tick` is told of each row."""
    rows = []
    for name, architecture in ARCHITECTURES.items():
        model, x = build(name)
        prune = {library: _bound(library, model, x, architecture.job) for library in LIBRARIES}
        for library, action in prune.items():
            row: dict[str, Any] = {
                "architecture": name,
                "library": library,
                "parameters_before": count_parameters(model),
                "error": None,
            }
            try:
                small = action()
                row["parameters"] = count_parameters(small)
                row["difference"] = difference(small, model, x)
                row["macs"] = count_macs(small, x)
                if row["parameters"] == row["parameters_before"]:
                    row["error"] = "nothing was removed"
            except Exception as error:  # noqa: BLE001  (whatever a library raises is its result)
                row["error"] = failure(error)
            rows.append(row)
            tick(f"{name}: {library}")
        done = [row for row in rows if row["architecture"] == name and not row["error"]]
        timed = {row["library"]: prune[row["library"]] for row in done}
        seconds, _ = interleave(timed, repeats=1 if quick else 5, clock=time.process_time)
        for row in done:
            row["seconds_to_prune"] = float(np.median(seconds[row["library"]]))
    return rows


def _bound(library: str, model: nn.Module, x: Tensor, job: Job) -> Callable[[], nn.Module]:
    return lambda: LIBRARIES[library](model, x, job)


def steps(*, seeds: int, quick: bool) -> int:
    """How often `run` calls `tick`."""
    return len(ARCHITECTURES) * len(LIBRARIES)


def handled(row: dict[str, Any]) -> bool:
    """Pruned without an error, and what is left computes what it should.

    Examples
    --------
    >>> handled({"error": None, "difference": 1e-7}), handled({"error": "ValueError: no"})
    (True, False)
    """
    return not row["error"] and row["difference"] <= EXACT


def report(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, and who handled how many."""
    table = []
    for row in rows:
        verdict = "yes" if handled(row) else row["error"] or "WRONG OUTPUT"
        left = f"{row['parameters'] / row['parameters_before']:.1%}" if "parameters" in row else ""
        error = f"{row['difference']:.1e}" if "difference" in row else ""
        seconds = f"{1e3 * row['seconds_to_prune']:.0f}" if "seconds_to_prune" in row else ""
        table.append([row["architecture"], row["library"], verdict[:60], left, error, seconds])
    headers = ["architecture", "library", "handled", "parameters left", "max error", "CPU ms to prune"]
    lines = [tabulate(table, headers, disable_numparse=True)]
    for library in (OURS, PEER):
        mine = [row for row in rows if row["library"] == library]
        lines.append(f"{library}: {sum(map(handled, mine))} of {len(mine)} handled")
    return "\n".join(lines)
