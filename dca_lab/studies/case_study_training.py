"""The two steps of the case study that are about training: half precision, and several processes.

Half precision: the same training with and without bf16 autocast (float32 master weights), its accuracy, and the
seconds of one step. Several processes: a few steps of the full network in two processes that average their gradients;
the weights must be those of one process, and the seconds fall into computing and talking. P. Micikevicius et al.,
"Mixed Precision Training", ICLR, 2018; S. Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel
Training", VLDB, 2020. It is *not* the document's "model parallelism" in the narrow sense of cutting the network itself:
eleven million parameters fit everywhere, and what is divided is the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dca_lab import measure, models, parallel
from dca_lab.measure.pairs import interleave
from dca_lab.training import evaluate

from .case_study_recipe import Trainer, fast_bf16
from .case_study_seed import Seed


def step_times(network: nn.Module, x: Tensor, y: Tensor, *, repeats: int = 10) -> dict[str, Any]:
    """Seconds of one training step in fp32 and under bf16 autocast, interleaved.

    Returns
    -------
    dict
        {"fp32": seconds, "bf16": seconds, "speed": median of the paired ratios, "native": whether the processor has
        bf16 products}

    Examples
    --------
    >>> tiny = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> sorted(step_times(tiny, torch.zeros(2, 1, 28, 28), torch.zeros(2).long(), repeats=2))
    ['bf16', 'fp32', 'native', 'speed']
    """
    runs = {name: _step(network, x, y, half=name == "bf16") for name in ("fp32", "bf16")}
    seconds, _ = interleave(runs, repeats=repeats)
    speed = sorted(seconds["fp32"] / seconds["bf16"])[repeats // 2]
    medians = {name: float(sorted(values)[repeats // 2]) for name, values in seconds.items()}
    return medians | {"speed": float(speed), "native": fast_bf16()}


def _step(network: nn.Module, x: Tensor, y: Tensor, *, half: bool) -> Callable[[], None]:
    trainer = Trainer(copy.deepcopy(network).to(memory_format=torch.channels_last), half=half).train()
    update = torch.optim.SGD(trainer.parameters(), lr=1e-3, momentum=0.9, fused=True)

    def step() -> None:
        update.zero_grad()
        F.cross_entropy(trainer(x), y).backward()
        update.step()

    return step


def other_precision(study: Seed) -> nn.Module:
    """The original of the study's seed, trained in the precision that the study does not train in."""
    recipe = study.recipe
    network = models.build("resnet-18", seed=study.seed, width=recipe.width, stem_stride=2)
    options = {"epochs": recipe.epochs, "lr": recipe.lr, "half": not recipe.half}
    return study.trained("other-precision", network, **options)


def half_precision(study: Seed) -> dict[str, Any]:
    """The original of one seed trained in both precisions, and the seconds of a step.

    Returns
    -------
    dict
        {"study": "bf16" or "fp32", "accuracy": {precision: value}, "step": {"original": ..., "half": ...}}
    """
    recipe = study.recipe
    names = ("bf16", "fp32") if recipe.half else ("fp32", "bf16")
    original = study.original()
    accuracies = [
        evaluate(network, study.x_test, study.y_test) for network in (original, other_precision(study))
    ]
    batch = study.x[: recipe.batch_size], study.y[: recipe.batch_size]
    networks = {"original": original, "half": study.pruned("half")}
    steps = {
        name: step_times(network, *batch, repeats=recipe.repeats // 4) for name, network in networks.items()
    }
    return {"study": names[0], "accuracy": dict(zip(names, accuracies, strict=True)), "step": steps}


def two_processes(study: Seed, *, steps: int = 6) -> dict[str, Any]:
    """A few steps of the original, from its random start, in one process and in two.

    Returns
    -------
    dict
        {"steps", "batch_size", "differences": for "two" and "ddp" the largest difference of a weight from the one
        process's, relative to the largest weight, "bytes_per_step": sent by a process, "gradient_bytes", and for
        "one" and "two" processes and for "ddp" [seconds of computing, seconds of communicating]}
    """
    recipe = study.recipe
    options = {"width": recipe.width, "stem_stride": 2}
    common = {"steps": steps, "batch_size": recipe.batch_size, "seed": study.seed, "options": options}
    runs = {
        "one": parallel.train_data_parallel("resnet-18", study.x, study.y, world_size=1, shares=2, **common),
        "two": parallel.train_data_parallel("resnet-18", study.x, study.y, world_size=2, **common),
        "ddp": parallel.train_data_parallel(
            "resnet-18", study.x, study.y, world_size=2, backend="ddp", **common
        ),
    }
    network = models.build("resnet-18", **options)
    names = [name for name, _ in network.named_parameters()]
    one = runs["one"].state
    largest = max(float(one[name].abs().max()) for name in names)
    return {
        "steps": steps,
        "batch_size": recipe.batch_size,
        "differences": {
            other: max(float((runs[other].state[name] - one[name]).abs().max()) for name in names) / largest
            for other in ("two", "ddp")
        },
        "bytes_per_step": runs["two"].bytes_sent / steps,
        "gradient_bytes": 4 * measure.count_parameters(network),
        "seconds": {name: [run.seconds_computing, run.seconds_communicating] for name, run in runs.items()},
    }
