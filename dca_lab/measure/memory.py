"""Bytes that a forward pass allocates at its worst moment.

While a layer runs, its input and its output are both alive, and some layers need scratch space besides. With
a_k bytes of activations after layer k, a chain of layers needs at least

    peak = max over k of (a_k + a_(k+1))

and a skip connection adds the tensor that waits. Torch's allocator reports each allocation and each release
(through its profiler); their running sum is tracked here, and the highest value is the peak: an exact count
of bytes, not a sample of the process's memory, and the same in each run.

What this is *not*: the memory of the process. Parameters and the input exist before the pass and are not in
it; scratch space that a BLAS library allocates by itself is not reported by torch. Training needs more: it
keeps every activation for the backward pass.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ._running import call, evaluating, require_module, threads_set_to


def peak_memory(model: nn.Module, example_input: Any, *, threads: int = 1) -> int:
    """Bytes allocated at the peak of one forward pass: activations and torch's workspace, without parameters
    and input.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode without gradients; left as it was.
    example_input : Tensor or tuple of Tensor
    threads : int
        Kernels may take scratch space for each thread.

    Returns
    -------
    int
        Bytes. A convolution may choose a blocked layout for this CPU's vectors and copy into it: the figure
        is exact for this machine and may differ on another.

    Raises
    ------
    ValueError
        If `model` is not a module.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.Linear(300, 10))
    >>> peak_memory(model, torch.zeros(7, 100)) == 7 * (300 + 300) * 4     # ReLU: its input and its output
    True
    """
    require_module(model)
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # the profiler's library announces itself on stderr otherwise
    with evaluating(model), torch.no_grad(), threads_set_to(threads):
        call(model, example_input)  # first run: one-time caches are made here
        # the output lives until the profiler has stopped: released inside, it would still be part of the peak
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            output = call(model, example_input)
        del output
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):  # stable: equal times keep their order
        live += event.nbytes()
        peak = max(peak, live)
    return peak
