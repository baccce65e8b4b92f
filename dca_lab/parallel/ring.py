r"""The ring all-reduce: every process ends with the sum of all vectors, and none sends much more than two of them.

The p processes stand in a ring, each talks to its two neighbours only, and the vector of n numbers is cut into p
chunks. *Reduce-scatter*: p - 1 times, send one chunk to the right, add the one that comes from the left to your own;
then each process holds one chunk that is summed completely. *All-gather*: p - 1 times, hand on the complete chunk
that came last. Each process sends

.. math:: 2 \frac{p - 1}{p} n

numbers, hardly more with a hundred processes than with two, where sending every vector to one process would make
*that* one receive (p - 1) n and send as many. No all-reduce can send less.

P. Patarasuk, X. Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations", Journal of Parallel and
Distributed Computing 69(2), 2009.

What this file is *not*: the fastest for short vectors. The 2 (p - 1) steps wait for each other, a tree needs about
2 log2 p of them; and it is no replacement for ``dist.all_reduce``, which is the oracle in its tests.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def ring_bytes(numbers: int, world_size: int, *, itemsize: int = 4) -> float:
    r"""Bytes that one process sends in a ring all-reduce, on average: :math:`2 (p - 1) / p \cdot n`.

    Exact for each process where p divides n; otherwise chunks differ by one number, and processes by two.

    Parameters
    ----------
    numbers : int
        Length n of the vector.
    world_size : int
        Processes p.
    itemsize : int
        Bytes of one number.

    Raises
    ------
    ValueError
        When a number is out of range.

    Examples
    --------
    >>> ring_bytes(1000, 2), ring_bytes(1000, 4), ring_bytes(1000, 1)
    (4000.0, 6000.0, 0.0)
    """
    if world_size < 1 or numbers < 0 or itemsize < 1:
        raise ValueError(
            f"world_size={world_size} and itemsize={itemsize} must be at least 1, numbers={numbers} at least 0"
        )
    return 2 * (world_size - 1) * numbers * itemsize / world_size


def ring_all_reduce(vector: Tensor) -> int:
    """Replace `vector` by the sum of the vectors of all processes; every process must call this.

    Parameters
    ----------
    vector : Tensor
        (n,), contiguous, of the same length and dtype in each process. Changed in place: afterwards every process
        holds the same bits.

    Returns
    -------
    int
        Bytes that this process sent.

    Raises
    ------
    ValueError
        When the vector has more than one dimension, has gaps in memory, or requires a gradient.
    RuntimeError
        When there is no process group: run this inside `launch`.

    Examples
    --------
    >>> ring_all_reduce(torch.ones(2, 3))
    Traceback (most recent call last):
    ...
    ValueError: the vector must be one-dimensional and contiguous, not of shape (2, 3): flatten it first
    """
    chunks = _chunks(vector)
    return reduce_scatter(chunks) + all_gather(chunks)


def reduce_scatter(chunks: list[Tensor]) -> int:
    """First half of the ring: of p chunks, process r ends with the sum of chunk (r + 1) mod p.

    Parameters
    ----------
    chunks : list of Tensor
        One for each process, changed in place; the other chunks are left with sums that are not complete.

    Returns
    -------
    int
        Bytes that this process sent.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    sent = 0
    for step in range(world_size - 1):
        own = chunks[(rank - step - 1) % world_size]
        arrived = torch.empty_like(own)
        sent += _pass_on(chunks[(rank - step) % world_size], arrived)
        own += arrived
    return sent


def all_gather(chunks: list[Tensor]) -> int:
    """Second half of the ring: chunk (r + 1) mod p of each process r comes to all.

    Parameters
    ----------
    chunks : list of Tensor
        One for each process; all but one are overwritten.

    Returns
    -------
    int
        Bytes that this process sent.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    return sum(
        _pass_on(chunks[(rank - step + 1) % world_size], chunks[(rank - step) % world_size])
        for step in range(world_size - 1)
    )


def _pass_on(outgoing: Tensor, incoming: Tensor) -> int:
    """Send to the right while the left one's message arrives: waiting for either first would block the whole ring."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    requests = []
    if outgoing.numel():  # a vector shorter than the ring has empty chunks: both sides know
        requests.append(dist.isend(outgoing, (rank + 1) % world_size))
    if incoming.numel():
        requests.append(dist.irecv(incoming, (rank - 1) % world_size))
    for request in requests:
        request.wait()
    return outgoing.nbytes


def _chunks(vector: Tensor) -> list[Tensor]:
    if vector.dim() != 1 or not vector.is_contiguous():
        shape = tuple(vector.shape)
        raise ValueError(
            f"the vector must be one-dimensional and contiguous, not of shape {shape}: flatten it first"
        )
    if vector.requires_grad:
        raise ValueError("the vector requires a gradient, and messages carry none: give vector.detach()")
    if not dist.is_initialized():
        raise RuntimeError("there is no process group: call this in a function that `launch` runs")
    return list(vector.tensor_split(dist.get_world_size()))
