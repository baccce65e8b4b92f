"""Measure the statistics of batch-norm layers again, on data.

A batch-norm layer normalises by a running mean and variance that were averaged while the network trained.
Removing channels changes what the layers behind read, so the stored numbers describe a network that no
longer exists; before any fine-tuning, measuring them again often brings back most of the lost accuracy. For
each layer, over all n positions of all samples,

    mean = (1 / n) sum x,      var = (1 / (n - 1)) sum (x - mean)^2

with the sums carried in float64, so that the result does not depend on how the data are cut into batches,
for the first layer at least: what a deeper layer reads was normalised with the statistics of its own batch,
as in training. This is *not* training: no parameter changes, and no momentum is involved.

References
----------
Y. Wu, J. Johnson. Rethinking "Batch" in BatchNorm. arXiv:2105.07576, 2021 (section 3, PreciseBN).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def reestimate_batchnorm(model: nn.Module, x: Tensor, *, batch_size: int = 256) -> nn.Module:
    """Replace the running statistics of every batch-norm layer, in place, and return the model.

    Parameters
    ----------
    model : nn.Module
        Changed only in `running_mean` and `running_var`; its mode (train/eval) and momenta stay.
    x : Tensor, shape (N, ...)
        Inputs, on the device of the model. Layers other than batch-norm run in evaluation mode.
    batch_size : int
        Samples at a time; batches are made equally large, up to one sample.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        For no data, a non-positive `batch_size`, or statistics that are not finite.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 6.0]])
    >>> reestimate_batchnorm(net, x)[0].running_mean
    tensor([2., 2.])
    """
    if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
        raise ValueError("x must be a tensor with at least one sample in its first dimension.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    layers = [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.track_running_stats and m.running_mean is not None
    ]
    modes = {module: module.training for module in model.modules()}
    kept = {m: (m.running_mean.clone(), m.running_var.clone(), m.num_batches_tracked.clone()) for m in layers}
    sums: dict[nn.Module, list] = {m: [0, 0.0, 0.0, None] for m in layers}

    def listen(module: nn.Module, args: tuple) -> None:
        values = args[0].detach().movedim(1, -1).flatten(0, -2).double()  # (positions, C)
        total = sums[module]
        if total[3] is None:
            total[3] = values.mean(0)  # sums around a typical value: no cancellation
        values = values - total[3]
        total[0] += len(values)
        total[1] = total[1] + values.sum(0)
        total[2] = total[2] + values.square().sum(0)

    handles = [m.register_forward_pre_hook(listen) for m in layers]
    try:
        model.eval()
        for layer in layers:
            layer.train()
        with torch.no_grad():
            for batch in x.tensor_split(math.ceil(len(x) / batch_size)):
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        for m, (mean, var, count) in kept.items():
            m.running_mean.copy_(mean)
            m.running_var.copy_(var)
            m.num_batches_tracked.copy_(count)
    for m, (n, first, second, centre) in sums.items():
        if n == 0:  # not used by the forward pass
            continue
        mean, var = centre + first / n, (second - first.square() / n) / max(n - 1, 1)
        if not (torch.isfinite(mean).all() and torch.isfinite(var).all()):
            raise ValueError(
                "the statistics of a batch-norm layer are not finite: check x for NaN and infinity."
            )
        m.running_mean.copy_(mean)
        m.running_var.copy_(var.clamp(min=0))
    return model
