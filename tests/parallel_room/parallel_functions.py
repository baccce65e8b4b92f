"""What the tests' processes run: a new process imports its function, so each stands at the top level of a module."""

import os
import signal
import time
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from dca_lab.parallel import _replica, all_gather, reduce_scatter, ring_all_reduce


def introduce(tensor):
    """Who this process is; and it spoils its arguments, which must not be seen elsewhere."""
    before = tensor.clone()
    dist.barrier()
    tensor.fill_(dist.get_rank())
    dist.barrier()
    sockets = {connection.laddr.ip for connection in psutil.Process().net_connections("tcp")}
    return {
        "rank": dist.get_rank(),
        "world_size": dist.get_world_size(),
        "backend": dist.get_backend(),
        "threads": torch.get_num_threads(),
        "pid": os.getpid(),
        "sockets": sockets,
        "before": before,
        "after": tensor.clone(),
    }


def end(rank, how):
    """Process `rank` ends without a word, by a signal or by leaving."""
    if dist.get_rank() == rank:
        os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else os._exit(0)
    dist.recv(torch.zeros(1), rank)


def sleep(folder):
    """Leaves its process id in `folder` and sleeps longer than any test."""
    (Path(folder) / f"{dist.get_rank()}.partial").write_text(str(os.getpid()), encoding="utf-8")
    os.replace(Path(folder) / f"{dist.get_rank()}.partial", Path(folder) / f"{dist.get_rank()}.pid")
    time.sleep(3600)


def values(length, dtype, rank):
    """The vector of process `rank`, which every process can make."""
    generator = torch.Generator().manual_seed(1000 * length + rank)
    if dtype.is_floating_point:
        return torch.randn(length, generator=generator, dtype=dtype)
    return torch.randint(-100, 100, (length,), generator=generator, dtype=dtype)


def reduce_many(lengths, dtypes):
    """For each case: our ring's result, torch's, and the bytes that were counted."""
    return [
        (ours := values(length, dtype, dist.get_rank()), ring_all_reduce(ours), _torch_sum(length, dtype))
        for length in lengths
        for dtype in dtypes
    ]


def _torch_sum(length, dtype):
    vector = values(length, dtype, dist.get_rank())
    dist.all_reduce(vector)
    return vector


def reduce_with_introduction(lengths, dtypes, halves, counted):
    """One start for several tests: sums, the ring's two halves apart, and what the kernel saw of a long vector."""
    return {
        "who": introduce(torch.full((3,), 7.0)),
        "sums": reduce_many(lengths, dtypes),
        "halves": _halves(halves),
        "kernel": _kernel_bytes(counted),
    }


def _halves(length):
    chunks = list(values(length, torch.float64, dist.get_rank()).tensor_split(dist.get_world_size()))
    reduce_scatter(chunks)
    scattered = [chunk.clone() for chunk in chunks]
    all_gather(chunks)
    return scattered, torch.cat(chunks)


def _kernel_bytes(length):
    """(bytes counted by us, bytes written according to the kernel, or None where it does not tell)."""
    vector = torch.ones(length)
    dist.barrier()
    before = _written()
    sent = ring_all_reduce(vector)
    after = _written()
    dist.barrier()
    return sent, None if before is None else after - before


def _written():
    path = Path("/proc/self/io")
    return int(path.read_text(encoding="utf-8").split("wchar:")[1].split()[0]) if path.exists() else None


def train_all(tasks):
    """One start for several trainings."""
    return [_replica.train(task) for task in tasks]
