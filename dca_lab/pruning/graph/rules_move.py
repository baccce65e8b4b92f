"""Rules for operations that move values without changing them, and for elementwise arithmetic.

Moving needs no thought: *execute the same operation on the label tensor*. This one rule gives the offsets
of a concatenation, the expansion of flatten, channel shuffle, chunk and heads. Elementwise arithmetic on
several tensors says that their names at each position are equal.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from .flow import Flow
from .rulebook import Call, Named, rule


def functions(names: str, *places: Any) -> list:
    """The functions and the method names that these words stand for."""
    found: list = []
    for word in names.split():
        found += [getattr(place, word) for place in places if callable(getattr(place, word, None))]
        found.append(word)
    return found


_MOVES = """view reshape flatten unflatten permute transpose swapaxes swapdims movedim moveaxis t chunk split
tensor_split unbind narrow select cat concat concatenate stack unsqueeze squeeze expand expand_as
broadcast_to repeat repeat_interleave tile roll flip contiguous clone detach view_as reshape_as
index_select pixel_shuffle pixel_unshuffle channel_shuffle hstack vstack diagonal as_strided adjoint
split_with_sizes"""


@rule(
    *functions(_MOVES, torch, F),
    operator.getitem,
    "__getitem__",
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
)
def _move(flow: Flow, call: Call, *args: Any, **kwargs: Any) -> Any:
    """Run it on the labels."""

    def swap(argument: Any) -> Any:
        return argument.labels if isinstance(argument, Named) else argument

    if not isinstance(args[0], Named):  # a list of tensors: one of them, or all joined
        return call.run(*tree_map(swap, args), **tree_map(swap, kwargs))
    indices = any(isinstance(a, Named) for a in tree_flatten((args[1:], kwargs))[0])
    if not indices or call.node.target in ("expand_as", "view_as", "reshape_as"):
        return call.run(*tree_map(swap, args), **tree_map(swap, kwargs))

    def plain(argument: Any) -> Any:
        return argument.value if isinstance(argument, Named) else argument

    before = flow.names.settle(args[0].labels)
    after = call.run(before, *tree_map(plain, args[1:]), **tree_map(plain, kwargs))
    if not torch.equal(
        _line(flow, before), _line(flow, after)
    ):  # channels picked by stored numbers, which would go stale
        flow.names.fix(before)
    return after


def _line(flow: Flow, labels: Tensor) -> Tensor:
    """The names along the axis on which labels vary."""
    axes = flow.names.varying(labels)
    return labels.movedim(axes[0], 0).flatten(1)[:, 0] if axes else labels.flatten()[:1]


@rule(getattr)
def _attribute(flow: Flow, call: Call, x: Named, name: str) -> Tensor:
    """`x.T`, `x.mT`, `x.data`: the same view of the labels."""
    return getattr(x.labels, name)


_ELEMENTWISE = """relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu celu gelu silu mish sigmoid sigmoid_ tanh tanh_
hardtanh hardswish hardsigmoid softplus softsign logsigmoid threshold exp expm1 log log1p log2 sqrt
rsqrt square abs neg negative sin cos tan atan erf sign round floor ceil reciprocal clamp clamp_ clip
clamp_min clamp_max pow dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout nan_to_num
isnan add add_ sub subtract rsub mul mul_ multiply div div_ divide true_divide floor_divide remainder
maximum minimum where masked_fill masked_fill_ addcmul addcdiv lerp eq ne lt le gt ge logical_not
logical_and logical_or bitwise_not to type float double half bfloat16 bool int long type_as zeros_like
ones_like full_like fill_ zero_ hardshrink softshrink tanhshrink heaviside atan2 hypot xlogy positive
__add__ __mul__ __and__ __or__ cpu requires_grad_ detach_ sign_ copysign fmod"""
_MODULES = [
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.LogSigmoid,
    nn.Threshold,
    nn.Hardshrink,
    nn.Softshrink,
    nn.Tanhshrink,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
]
_OPERATORS = """add sub mul truediv floordiv mod pow neg pos abs iadd isub imul itruediv and_ or_ xor invert not_ eq ne
lt le gt ge"""


@rule(
    *functions(_ELEMENTWISE, torch, F), *(getattr(operator, name) for name in _OPERATORS.split()), *_MODULES
)
def elementwise(flow: Flow, call: Call, *args: Any, **kwargs: Any) -> Tensor:
    """Equal names at each position."""
    operands = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Named) and a.value.dim() > 0]
    if call.node.target in ("to", "type_as"):
        operands = operands[:1]
    shape = call.value.shape
    result: Tensor | None = None
    for operand in operands:
        labels = aligned(flow, operand.labels, [o.labels for o in operands if o is not operand], shape)
        if labels is None:
            continue
        if result is not None:
            flow.names.merge(result, labels)
        result = labels if result is None else flow.names.find(result)
    return flow.names.find(result) if result is not None else flow.unnamed(call.value)


def aligned(flow: Flow, labels: Tensor, others: list[Tensor], shape: torch.Size) -> Tensor | None:
    """Labels broadcast to `shape`; None when a size-1 axis is stretched over axes along which another
    operand's names change.

    (1, 1, H, W) times (1, C, H, W): the single channel on the left is read by all on the right and belongs
    to none of them. It becomes fixed.
    """
    padded = labels.reshape((1,) * (len(shape) - labels.dim()) + labels.shape)
    stretched = [axis for axis in range(len(shape)) if padded.size(axis) == 1 and shape[axis] > 1]
    for other in others:
        wide = other.reshape((1,) * (len(shape) - other.dim()) + other.shape)
        if set(stretched) & set(flow.names.varying(wide)):
            flow.names.fix(labels)
            return None
    return padded.expand(shape)


@rule(
    F.pad,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ZeroPad3d,
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    nn.ConstantPad3d,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReflectionPad3d,
    nn.ReplicationPad1d,
    nn.ReplicationPad2d,
    nn.ReplicationPad3d,
    nn.CircularPad1d,
    nn.CircularPad2d,
    nn.CircularPad3d,
)
def _pad(flow: Flow, call: Call, x: Named, *args: Any, **kwargs: Any) -> Tensor:
    """Padding along space keeps a channel's name; padding along the channel axis adds fixed channels."""
    amount = call.module.padding if call.module is not None else (args[0] if args else kwargs["pad"])
    labels, varying = x.labels, flow.names.varying(x.labels)
    for i in range(0, len(amount), 2):
        axis = labels.dim() - 1 - i // 2
        for before, size in ((True, amount[i]), (False, amount[i + 1])):
            if size < 0:
                labels = labels.narrow(axis, -size if before else 0, labels.size(axis) + size)
            elif size > 0:
                edge = labels.narrow(axis, 0, 1).expand(*labels.shape[:axis], size, *labels.shape[axis + 1 :])
                edge = torch.zeros_like(edge) if axis in varying else edge
                labels = torch.cat([edge, labels] if before else [labels, edge], axis)
    return labels
