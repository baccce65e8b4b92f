"""What each process of `train_data_parallel` runs: its own copy of the network, its share of every batch.

The copies start equal (same seed), see averaged gradients only, and so stay equal: nothing but gradients is ever
sent. It is *not* called by hand; `data_parallel.py` is the other side.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from dca_lab.models import build
from dca_lab.parallel.ring import ring_all_reduce
from dca_lab.progress import hidden
from dca_lab.training import cross_entropy
from dca_lab.training.resume import digest


@dataclass(frozen=True)
class Task:
    """What the processes are asked to do; the meaning of each is in `train_data_parallel`."""

    model: str | nn.Module
    options: dict[str, Any]
    x: Tensor
    y: Tensor
    steps: int
    batch_size: int
    shares: int
    lr: float
    momentum: float
    seed: int
    backend: str
    progress: bool


@dataclass
class Answer:
    """What one process comes back with: its part of each loss, its seconds and bytes; process 0 the weights too."""

    losses: list[float]
    seconds_computing: float
    seconds_communicating: float
    bytes_sent: int | None
    digest: str
    state: dict[str, Tensor] | None


def batches(examples: int, batch_size: int, *, steps: int, seed: int) -> Iterator[Tensor]:
    """The batches of `dca_lab.training.fit` with the same seed: a new order in each epoch, the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        for batch in torch.randperm(examples, generator=generator).split(batch_size)[: steps - done]:
            yield batch
            done += 1


class RingAverage:
    """Our exchange: all gradients in one vector, and the ring adds up the vectors of all processes."""

    gain = (
        1.0  # the shares' losses are weighted so that the *sum* of their gradients is that of the whole batch
    )

    def __init__(self, model: nn.Module):
        self.net = model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.seconds, self.bytes_sent = 0.0, 0

    def exchange(self) -> None:
        vector = torch.cat([self._gradient(parameter).reshape(-1) for parameter in self.parameters])
        began = time.perf_counter()
        self.bytes_sent += ring_all_reduce(vector)
        self.seconds += time.perf_counter() - began
        parts = vector.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    @staticmethod
    def _gradient(parameter: Tensor) -> Tensor:
        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class Ddp:
    """torch's exchange: it sends buckets of gradients during the backward pass, in `dist.all_reduce`.

    DistributedDataParallel would compute on while a bucket travels. The hook waits for it instead, so that computation
    and communication can be told apart.
    """

    bytes_sent = None  # torch does not say

    def __init__(self, model: nn.Module):
        self.net = nn.parallel.DistributedDataParallel(model)
        self.gain = float(dist.get_world_size())  # the hook divides by it, as DDP does without a hook
        self.seconds = 0.0
        self.net.register_comm_hook(None, self._average)

    def _average(self, _: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        vector = bucket.buffer().div_(dist.get_world_size())
        began = time.perf_counter()
        dist.all_reduce(vector)
        self.seconds += time.perf_counter() - began
        done = torch.futures.Future()
        done.set_result(vector)
        return done

    def exchange(self) -> None:
        """Nothing is left to do: it happened during the backward pass."""


class Momentum:
    """v <- momentum v + gradient, w <- w - lr v: torch.optim.SGD to the last bit.

    Two lines by hand, because torch.optim imports torch's compiler: a second of CPU time in each process.
    """

    def __init__(self, model: nn.Module, *, lr: float, momentum: float):
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.velocities = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.lr, self.momentum = lr, momentum

    @torch.no_grad()
    def step(self) -> None:
        for parameter, velocity in zip(self.parameters, self.velocities, strict=True):
            velocity.mul_(self.momentum).add_(parameter.grad)
            parameter.add_(velocity, alpha=-self.lr)


def train(task: Task) -> Answer:
    """Train this process's copy; every process of the group calls this with the same task."""
    rank, per_process = dist.get_rank(), task.shares // dist.get_world_size()
    # Different in each process: otherwise dropout would drop the same units of every share.
    torch.manual_seed(task.seed + rank)
    named = isinstance(task.model, str)
    model = build(task.model, seed=task.seed, **task.options) if named else copy.deepcopy(task.model)
    model.train()
    average = Ddp(model) if task.backend == "ddp" else RingAverage(model)
    optimizer = Momentum(model, lr=task.lr, momentum=task.momentum)
    losses = []
    bar = tqdm(total=task.steps, unit="step", leave=False, disable=hidden(task.progress and rank == 0))
    dist.barrier()  # the seconds count from when all are ready
    began = time.perf_counter()
    with bar:
        for batch in batches(len(task.x), task.batch_size, steps=task.steps, seed=task.seed):
            model.zero_grad()
            losses.append(0.0)
            for share in batch.tensor_split(task.shares)[rank * per_process :][:per_process]:
                loss = cross_entropy(average.net(task.x[share]), task.y[share]) * (len(share) / len(batch))
                _refuse_infinite(loss.item(), step=len(losses))
                (loss * average.gain).backward()
                losses[-1] += loss.item()
            average.exchange()
            optimizer.step()
            bar.update()
    seconds = time.perf_counter() - began
    weights = {name: value.detach() for name, value in model.named_parameters()}
    return Answer(
        losses=losses,
        seconds_computing=seconds - average.seconds,
        seconds_communicating=average.seconds,
        bytes_sent=average.bytes_sent,
        digest=digest(weights),
        state={name: value.detach() for name, value in model.state_dict().items()} if rank == 0 else None,
    )


def _refuse_infinite(loss: float, *, step: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} at step {step}: lower the learning rate, or look for NaN and infinite values in x"
        )
