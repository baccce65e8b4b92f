"""The ring against dist.all_reduce, against sums taken here, and its bytes against the formula and the kernel."""

import os

import parallel_functions
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dca_lab.parallel import launch, ring_all_reduce, ring_bytes

# A started process imports torch: seconds of work, and minutes on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(900)

# Around multiples of the number of processes, shorter than the ring, primes, and long enough for several packets.
LENGTHS = [0, 1, 2, 3, 4, 5, 6, 7, 9, 31, 97, 1000, 4096, 100_003]
DTYPES = [torch.float32, torch.float64, torch.int64]
COUNTED = 600_000


@pytest.mark.parametrize("p", [2, 3])
def test_processes_in_a_ring(p):
    """One test and not six: starting the processes takes longer than all checks of what they saw."""
    ring = launch(parallel_functions.reduce_with_introduction, p, LENGTHS, DTYPES, 100, COUNTED, timeout=400)
    every_process_holds_the_sum_of_all_and_the_same_bits(ring)
    bytes_are_those_of_the_formula(ring)
    the_kernel_saw_as_many_bytes_leave_as_we_counted(ring)
    reduce_scatter_completes_one_chunk_a_process_and_all_gather_hands_them_round(ring)
    processes_are_real_and_talk_over_the_loopback_interface_only(ring)
    arguments_are_copies(ring)


def every_process_holds_the_sum_of_all_and_the_same_bits(ring):
    p = len(ring)
    cases = [(length, dtype) for length in LENGTHS for dtype in DTYPES]
    for case, (length, dtype) in enumerate(cases):
        vectors = [parallel_functions.values(length, dtype, rank) for rank in range(p)]
        ours, _, theirs = zip(*(process["sums"][case] for process in ring), strict=True)
        for rank in range(p):
            assert ours[rank].dtype == dtype
            assert torch.equal(ours[rank], ours[0])
            # p - 1 additions, each off by half a unit in the last place of at most the sum of magnitudes
            room = (p - 1) * (torch.finfo(dtype).eps if dtype.is_floating_point else 0)
            bound = room * sum(vector.abs() for vector in vectors)
            assert (ours[rank] - sum(vectors)).abs().le(bound).all()
            assert (ours[rank] - theirs[rank]).abs().le(bound).all()


def bytes_are_those_of_the_formula(ring):
    p = len(ring)
    cases = [(length, dtype) for length in LENGTHS for dtype in DTYPES]
    for case, (length, dtype) in enumerate(cases):
        sent = [process["sums"][case][1] for process in ring]
        formula = ring_bytes(length, p, itemsize=dtype.itemsize)
        assert sum(sent) == pytest.approx(p * formula, rel=1e-12)
        assert all(abs(each - formula) <= 2 * dtype.itemsize for each in sent)
        if length % p == 0:
            assert sent == [2 * (p - 1) * (length // p) * dtype.itemsize] * p


def the_kernel_saw_as_many_bytes_leave_as_we_counted(ring):
    for process in ring:
        counted, written = process["kernel"]
        assert counted == ring_bytes(COUNTED, len(ring))
        if written is not None:  # only Linux counts what a process writes
            assert counted <= written <= counted + 4096 * len(ring)  # headers of the messages


def reduce_scatter_completes_one_chunk_a_process_and_all_gather_hands_them_round(ring):
    p = len(ring)
    total = sum(parallel_functions.values(100, torch.float64, rank) for rank in range(p))
    for rank, process in enumerate(ring):
        scattered, gathered = process["halves"]
        own = (rank + 1) % p
        torch.testing.assert_close(scattered[own], total.tensor_split(p)[own], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(gathered, total, rtol=1e-14, atol=1e-14)
        others = [chunk for index, chunk in enumerate(scattered) if index != own]
        wanted = [chunk for index, chunk in enumerate(total.tensor_split(p)) if index != own]
        assert all(not torch.allclose(*pair) for pair in zip(others, wanted, strict=True))


def processes_are_real_and_talk_over_the_loopback_interface_only(ring):
    who = [process["who"] for process in ring]
    assert [each["rank"] for each in who] == list(range(len(ring)))
    assert {each["world_size"] for each in who} == {len(ring)}
    assert {each["backend"] for each in who} == {"gloo"}
    assert {each["threads"] for each in who} == {1}
    assert len({each["pid"] for each in who} | {os.getpid()}) == len(ring) + 1
    assert set.union(*(each["sockets"] for each in who)) == {"127.0.0.1"}


def arguments_are_copies(ring):
    for rank, process in enumerate(ring):
        assert process["who"]["before"].tolist() == [7.0] * 3
        assert process["who"]["after"].tolist() == [rank] * 3


@given(n=st.integers(0, 10**9), p=st.integers(1, 1000), itemsize=st.sampled_from([1, 2, 4, 8]))
def test_the_formula_counts_every_chunk_p_minus_1_times_in_each_half(n, p, itemsize):
    chunks = [n // p + (index < n % p) for index in range(p)]
    assert ring_bytes(n, p, itemsize=itemsize) * p == pytest.approx(2 * (p - 1) * sum(chunks) * itemsize)
    assert ring_bytes(n, p, itemsize=itemsize) <= 2 * n * itemsize


def test_what_the_ring_cannot_send_is_refused():
    with pytest.raises(ValueError, match="one-dimensional and contiguous, not of shape"):
        ring_all_reduce(torch.ones(2, 2))
    with pytest.raises(ValueError, match="contiguous"):
        ring_all_reduce(torch.ones(6)[::2])
    with pytest.raises(ValueError, match="requires a gradient"):
        ring_all_reduce(torch.ones(3, requires_grad=True))
    with pytest.raises(RuntimeError, match="no process group"):
        ring_all_reduce(torch.ones(3))
    for numbers, world_size, itemsize in [(-1, 2, 4), (5, 0, 4), (5, 2, 0)]:
        with pytest.raises(ValueError, match="must be at least"):
            ring_bytes(numbers, world_size, itemsize=itemsize)
