"""Rules for layers that make channels: linear, convolution, embedding.

A dense layer reads the names on axis 1 of its weight and makes new names on axis 0. A convolution with
several groups must keep all groups equally wide, so names at the same offset of every group are tied. A
depthwise convolution makes no names at all: its filter `i` carries the name of its input channel `i`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import Flow
from .rulebook import Call, Named, rule


def along(flow: Flow, labels: Tensor, axis: int) -> Tensor:
    """The names along one axis (tied over the others), as a vector."""
    return flow.names.tie(labels, axis).reshape(-1)


def spread(names: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """The vector along `axis` of a tensor of this shape."""
    return names.reshape([-1 if d == axis % len(shape) else 1 for d in range(len(shape))]).expand(shape)


def stored_weights(
    flow: Flow, call: Call, weight: Any, bias: Any
) -> tuple[Tensor | None, Tensor | None, nn.Module | None]:
    """The stored weight and bias of a layer, or of its functional form (then None where they are computed)."""
    if call.module is not None:
        return call.module.weight, getattr(call.module, "bias", None), call.module
    stored = weight.stored if isinstance(weight, Named) else None
    if stored is None or id(stored) not in flow.owners or (isinstance(bias, Named) and bias.stored is None):
        return None, None, None
    return stored, bias.stored if isinstance(bias, Named) else None, flow.owners[id(stored)][1]


def leave_whole(flow: Flow, call: Call, *operands: Any) -> Tensor:
    """Fix every name that enters; the result is fixed too."""
    for operand in operands:
        if isinstance(operand, Named):
            flow.names.fix(operand.labels)
    return flow.unnamed(call.value)


@rule(nn.Linear, F.linear)
def _linear(flow: Flow, call: Call, input: Named, weight: Any = None, bias: Any = None) -> Tensor:
    W, b, module = stored_weights(flow, call, weight, bias)
    if W is None:
        return leave_whole(flow, call, input, weight, bias)
    varying = flow.names.varying(input.labels)
    if varying and input.labels.dim() - 1 not in varying:  # it mixes positions inside each channel
        for axis in (0, 1):
            flow.names.fix(flow.index(W, axis, torch.zeros(W.size(axis), dtype=torch.int64)))
        if b is not None:  # adds to every channel, so that one whose filters are zero does not stay zero
            return leave_whole(flow, call, input)
        return flow.names.settle(input.labels)[..., :1].expand(call.value.shape)
    read = flow.index(W, 1, along(flow, input.labels, -1), flow.consumers)
    made = flow.index(b, 0, flow.make(W, 0))
    flow.count(module, "in_features", read)
    flow.count(module, "out_features", made)
    return spread(made, -1, call.value.shape)


def _convolution(
    flow: Flow, call: Call, x: Named, weight: Any, bias: Any, groups: int, transposed: bool
) -> Tensor:
    W, b, module = stored_weights(flow, call, weight, bias)
    if W is None or (groups > 1 and not hasattr(module, "groups")):
        return leave_whole(flow, call, x, weight, bias)
    axis = x.labels.dim() - (W.dim() - 2) - 1
    read = along(flow, x.labels, axis)
    ins, outs = (0, 1) if transposed else (1, 0)
    width = b.size(0) if b is not None else call.value.size(axis)
    if groups == 1:
        read = flow.index(W, ins, read, flow.consumers)
        made = flow.make(W, outs)
    elif len(read) == groups:  # depthwise: `width / groups` filters a channel, all under its name
        made = flow.index(
            W, 0, read if transposed else read.repeat_interleave(width // groups), flow.followers
        )
        made = made.repeat_interleave(width // groups) if transposed else made
        flow.count(module, "groups", read)
    else:
        read = flow.names.tie(read.view(groups, -1), 1).expand(groups, -1)
        if transposed:
            flow.index(W, 0, read.reshape(-1), flow.consumers)
            made = flow.make(W, 1).repeat(groups)
        else:
            flow.index(W, 1, read[0], flow.consumers)
            made = flow.names.tie(flow.make(W, 0).view(groups, -1), 1).expand(groups, -1).reshape(-1)
        read = flow.names.find(read.reshape(-1))
    made = flow.index(b, 0, flow.names.find(made))
    flow.count(module, "in_channels", read)
    flow.count(module, "out_channels", made)
    return spread(made, axis, call.value.shape)


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv_layer(flow: Flow, call: Call, input: Named) -> Tensor:
    return _convolution(flow, call, input, None, None, call.module.groups, False)


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _transposed_convolution(flow: Flow, call: Call, input: Named, output_size: Any = None) -> Tensor:
    return _convolution(flow, call, input, None, None, call.module.groups, True)


@rule(F.conv1d, F.conv2d, F.conv3d)
def _functional_convolution(
    flow: Flow,
    call: Call,
    input: Named,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    return _convolution(flow, call, input, weight, bias, groups, False)


@rule(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def _functional_transposed(
    flow: Flow,
    call: Call,
    input: Named,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    return _convolution(flow, call, input, weight, bias, groups, True)


@rule(nn.Embedding)
def _embedding(flow: Flow, call: Call, input: Named) -> Tensor:
    """The columns of the table are the channels."""
    if call.module.max_norm is not None:  # the norm of a row runs over its channels
        return flow.unnamed(call.value)
    made = flow.make(call.module.weight, 1)
    flow.count(call.module, "embedding_dim", made)
    return spread(made, -1, call.value.shape)


@rule(F.embedding)
def _functional_embedding(
    flow: Flow, call: Call, input: Named, weight: Named, *args: Any, **kwargs: Any
) -> Tensor:
    if weight.stored is None or args or any(v for v in kwargs.values()):
        return leave_whole(flow, call, weight)
    return spread(flow.make(weight.stored, 1), -1, call.value.shape)
