"""Rules for operations that mix positions: pooling, reductions, softmax, normalisation over channels.

Mixing over *space* keeps a channel's name. Mixing over *channels* (their mean, their softmax, layer-norm)
would change what is left when one goes, even when it holds only zeros: such channels become fixed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import Flow
from .rulebook import Call, Named, rule
from .rules_layers import along, leave_whole, spread
from .rules_move import elementwise, functions


def _keep(flow: Flow, labels: Tensor, mixed: list[int]) -> Tensor:
    """Labels for an operation that mixes some axes: fixed if it mixes channels, else size 1 on those axes."""
    labels = flow.names.settle(labels)
    if set(flow.names.varying(labels)) & set(mixed):
        flow.names.fix(labels)
        labels = flow.names.find(labels)
    for axis in mixed:
        labels = labels.narrow(axis, 0, 1)
    return labels


_POOLS = "max_pool avg_pool adaptive_avg_pool adaptive_max_pool lp_pool"
_MODULES = [
    getattr(nn, f"{kind}{n}d")
    for n in (1, 2, 3)
    for kind in ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "LPPool")
]


@rule(
    *[
        getattr(place, f"{kind}{n}d")
        for kind in _POOLS.split()
        for n in (1, 2, 3)
        for place in (F, torch)
        if hasattr(place, f"{kind}{n}d")
    ],
    *_MODULES,
    F.interpolate,
    F.upsample,
    nn.Upsample,
    nn.UpsamplingNearest2d,
    nn.UpsamplingBilinear2d,
    F.grid_sample,
)
def _over_space(flow: Flow, call: Call, input: Named, *args: Any, **kwargs: Any) -> Tensor:
    """Pooling and resampling work on each channel by itself; the channel axis is third or fourth from the
    end.
    """
    name = type(call.module).__name__ if call.module is not None else call.node.target.__name__
    if not isinstance(call.value, Tensor):
        raise flow.refuse("pooling that returns indices is not supported; use return_indices=False.")
    axis = 1 if name[-2:] not in ("1d", "2d", "3d") else input.labels.dim() - int(name[-2]) - 1
    return spread(along(flow, input.labels, axis), axis, call.value.shape)


@rule(
    *functions("mean amax amin max min var std median norm prod logsumexp any all argmax argmin sum", torch),
    torch.linalg.norm,
    torch.linalg.vector_norm,
)
def _reduction(flow: Flow, call: Call, input: Named, *args: Any, **kwargs: Any) -> Any:
    """Over space: the name stays. Over channels: fixed."""
    if isinstance(args[0] if args else None, Named):  # torch.max(x, y)
        return elementwise(flow, call, input, *args, **kwargs)
    name = call.node.target if isinstance(call.node.target, str) else call.node.target.__name__
    dims = kwargs.get(
        "dim", kwargs.get("axis", args[1] if "norm" in name and len(args) > 1 else args[0] if args else None)
    )
    if "norm" in name and len(args) == 1 and "dim" not in kwargs:
        dims = None
    rank = input.labels.dim()
    dims = (
        list(range(rank))
        if dims is None
        else [d % rank for d in (dims if isinstance(dims, (tuple, list)) else [dims])]
    )
    labels = _keep(flow, input.labels, dims)
    value = call.value if isinstance(call.value, Tensor) else call.value[0]
    if value.dim() != rank:
        labels = labels.squeeze(tuple(dims))
    labels = labels.reshape(value.shape)
    return labels if isinstance(call.value, Tensor) else type(call.value)([labels] * len(call.value))


@rule(
    *functions("softmax log_softmax softmin cumsum cumprod normalize glu sort", torch, F),
    nn.Softmax,
    nn.LogSoftmax,
    nn.Softmin,
    nn.Softmax2d,
    nn.GLU,
)
def _along_axis(flow: Flow, call: Call, input: Named, *args: Any, **kwargs: Any) -> Tensor:
    """Softmax and cumulative sums: fixed if the axis is the channels'. GLU: the halves of its axis are
    equal.
    """
    name = (
        getattr(call.node.target, "__name__", call.node.target)
        if call.module is None
        else type(call.module).__name__
    )
    place = 1 if name == "normalize" else 0
    dim = kwargs.get("dim", args[place] if len(args) > place else getattr(call.module, "dim", None))
    dim = {"normalize": 1, "glu": -1, "Softmax2d": -3}.get(name) if dim is None else dim
    if dim is None or not isinstance(call.value, Tensor):
        return leave_whole(flow, call, input)
    if name.lower() == "glu":
        left, right = input.labels.chunk(2, dim)
        flow.names.merge(left, right)
        return flow.names.find(left)
    return _keep(flow, input.labels, [dim % input.labels.dim()]).expand(call.value.shape)


@rule(nn.LayerNorm, nn.RMSNorm, F.layer_norm, F.rms_norm)
def _layer_norm(flow: Flow, call: Call, input: Named, *args: Any, **kwargs: Any) -> Tensor:
    """Statistics over the last axes; its own weights stay whole."""
    shape = (
        call.module.normalized_shape
        if call.module is not None
        else (args[0] if args else kwargs["normalized_shape"])
    )
    count = len(shape) if isinstance(shape, (tuple, list, torch.Size)) else 1
    rank = input.labels.dim()
    for stored in [a for a in [*args[1:], *kwargs.values()] if isinstance(a, Named)]:
        flow.names.fix(stored.labels)
    return _keep(flow, input.labels, list(range(rank - count, rank))).expand(call.value.shape)


@rule(
    nn.LocalResponseNorm,
    F.local_response_norm,
    nn.CrossMapLRN2d,
    F.group_norm,
    nn.CosineSimilarity,
    F.cosine_similarity,
    nn.Bilinear,
    F.bilinear,
    torch.outer,
    torch.cdist,
    nn.MultiheadAttention,
)
def _whole(flow: Flow, call: Call, *args: Any, **kwargs: Any) -> Any:
    """Mixes channels in a way that is not taken apart: everything that enters stays."""
    for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
        leave_whole(flow, call, leaf)
    return flow.unnamed(call.value)
