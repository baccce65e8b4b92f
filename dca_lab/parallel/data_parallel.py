r"""Data parallel training: p processes hold the same network, and each computes the gradient of a share of the batch.

The mean loss of a batch B is the weighted mean over its shares :math:`B_1, \dots, B_p`, so its gradient is too:

.. math:: \nabla L_B = \sum_{r=1}^{p} \frac{|B_r|}{|B|} \nabla L_{B_r}

Each process computes one term, an all-reduce adds them up, and everyone takes the same step: *the same training*, up
to the order of floating-point additions. This holds for a network that treats each example by itself. Batch
normalisation does not: it takes mean and variance over what it sees, which is the share. Then p processes train what
one process would train that computes the shares one after another (`shares`), not what it would on whole batches.

S. Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB, 2020.

What this file is *not*: a way to train what does not fit into one process. Each holds the whole network, its
gradients and the optimizer's state.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dca_lab.models import NAMES
from dca_lab.parallel._replica import Task, train
from dca_lab.parallel.launch import launch


@dataclass(frozen=True)
class DataParallelRun:
    """What came out of several processes that trained one network.

    Attributes
    ----------
    state : dict[str, Tensor]
        Weights, which are the same bits in each process, and buffers (running statistics), which are process 0's.
    losses : list[float]
        Mean loss of each whole batch before its step.
    seconds_computing, seconds_communicating : float
        Elapsed seconds of a process, the mean over processes, without start and imports. Who is done first waits for
        the others, which counts as communicating.
    bytes_sent : float or None
        Bytes that a process sent, the mean over processes; None for "ddp", which does not tell.

    Examples
    --------
    >>> run = DataParallelRun({}, [2.3], seconds_computing=3.0, seconds_communicating=1.0, bytes_sent=None)
    >>> run.seconds, run.share_communicating
    (4.0, 0.25)
    """

    state: dict[str, Tensor]
    losses: list[float]
    seconds_computing: float
    seconds_communicating: float
    bytes_sent: float | None

    @property
    def seconds(self) -> float:
        """Elapsed seconds of the training loop."""
        return self.seconds_computing + self.seconds_communicating

    @property
    def share_communicating(self) -> float:
        """Part of the seconds that was spent on messages, in [0, 1]."""
        return self.seconds_communicating / self.seconds


def train_data_parallel(
    name: str | nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    world_size: int,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 64,
    lr: float = 0.05,
    momentum: float = 0.9,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    backend: str = "ours",
    shares: int | None = None,
    threads: int = 1,
    timeout: float = 3600.0,
    progress: bool = False,
) -> DataParallelRun:
    """Train a network in `world_size` new processes with stochastic gradient descent and momentum.

    Parameters
    ----------
    name : str or nn.Module
        A name of ``dca_lab.models.NAMES``, built with `seed` and `options` in each process; or a module made of
        importable classes, of which each process trains a copy (it is not changed).
    x, y : Tensor
        N examples and their labels; the batches are those of ``dca_lab.training.fit`` with the same seed.
    world_size : int
        Processes; 1 trains in one new process, which sends nothing.
    epochs, steps : int
        One of the two: passes over the examples, or optimizer steps.
    batch_size : int
        Examples a step, over all processes together. The last batch of an epoch may be smaller.
    lr, momentum : float
        Of the optimizer. Not Adam: near a zero gradient, it blows a rounding difference up to a whole step.
    seed : int
        Of the initial weights, and of the order of examples.
    options : dict, optional
        For the model's constructor, such as ``{"width": 16}``.
    backend : str
        "ours": gradients in one vector through `ring_all_reduce`. "ddp": torch's DistributedDataParallel, made to
        wait for each message so that its seconds can be counted.
    shares : int, optional
        Into how many shares a batch is cut, a multiple of `world_size` (default: `world_size`). Each process computes
        several one after another: with ``world_size=1, shares=2``, one process trains what two would ("ours" only).
    threads, timeout
        As for `launch`: threads of each process, seconds after which all are ended.
    progress : bool
        Shows process 0's bar on a terminal.

    Returns
    -------
    DataParallelRun

    Raises
    ------
    ValueError
        When a setting is out of range, or a batch has fewer examples than shares.
    ProcessError, TimeoutError
        As `launch`: when a process failed, for example because the loss was not finite; when time was up.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    >>> run = train_data_parallel("digit-cnn", x, y, world_size=2, steps=1, batch_size=8, options={"filters": 4})
    >>> run.state["fc.weight"].shape, len(run.losses), run.bytes_sent == 2 * (2 - 1) / 2 * 6810 * 4
    (torch.Size([10, 676]), 1, True)
    """
    options, shares = options or {}, world_size if shares is None else shares
    _check_settings(name, options, backend, epochs, steps)
    _check_shares(x, y, world_size, shares, batch_size, backend)
    if steps is None:
        steps = epochs * math.ceil(len(x) / batch_size)
    settings = dict(steps=steps, batch_size=batch_size, shares=shares, lr=lr, momentum=momentum, seed=seed)
    task = Task(name, options, _alone(x), _alone(y), **settings, backend=backend, progress=progress)
    answers = launch(train, world_size, task, threads=threads, timeout=timeout)
    if len({answer.digest for answer in answers}) > 1:
        raise RuntimeError(
            "the processes ended with different weights: did each build the same initial network?"
        )
    return DataParallelRun(
        state=answers[0].state,
        losses=[math.fsum(parts) for parts in zip(*(answer.losses for answer in answers), strict=True)],
        seconds_computing=statistics.fmean(answer.seconds_computing for answer in answers),
        seconds_communicating=statistics.fmean(answer.seconds_communicating for answer in answers),
        bytes_sent=None if backend == "ddp" else statistics.fmean(answer.bytes_sent for answer in answers),
    )


def _alone(tensor: Tensor) -> Tensor:
    """A slice would be written to the processes' file with all of the memory that it is a slice of."""
    tensor = tensor.detach()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _check_settings(
    name: str | nn.Module, options: dict, backend: str, epochs: int | None, steps: int | None
) -> None:
    if isinstance(name, str) and name not in NAMES:
        raise ValueError(f"there is no model {name!r}: choose one of {', '.join(NAMES)}")
    if not isinstance(name, str) and (options or not isinstance(name, nn.Module)):
        raise ValueError(
            "give a model's name and its options, or a module that has been built and no options"
        )
    if backend not in ("ours", "ddp"):
        raise ValueError(f"backend={backend!r}: choose one of ours, ddp")
    if (epochs is None) == (steps is None):
        raise ValueError(f"epochs={epochs} and steps={steps}: give exactly one of the two")
    if (epochs if steps is None else steps) < 1:
        raise ValueError(f"epochs={epochs}, steps={steps}: there is nothing to train, give at least 1")


def _check_shares(x: Tensor, y: Tensor, world_size: int, shares: int, batch_size: int, backend: str) -> None:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)) or len(x) != len(y) or len(x) == 0:
        raise ValueError("x and y must be tensors of equally many examples, at least one")
    if world_size < 1:
        raise ValueError(f"world_size={world_size}: give at least 1 process")
    if shares < 1 or shares % world_size:
        raise ValueError(
            f"shares={shares}: give a multiple of world_size={world_size}, so that all have as many"
        )
    if backend == "ddp" and shares != world_size:
        raise ValueError(
            f'shares={shares} of {world_size} processes: backend="ddp" takes one share a process'
        )
    if batch_size < shares:
        raise ValueError(
            f"batch_size={batch_size} is smaller than {shares} shares: each process needs an example"
        )
    last = len(x) % batch_size
    if 0 < last < shares:
        raise ValueError(
            f"the last batch of an epoch has {last} examples, fewer than {shares} shares: choose another batch_size"
        )
