"""Rules for layers that hand channels on one by one: normalisation of each channel, PReLU; and for
recurrent layers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import Flow
from .rulebook import Call, Named, rule
from .rules_layers import along, leave_whole, spread, stored_weights


@rule(
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
def _channel_norm(flow: Flow, call: Call, input: Named) -> Tensor:
    """Each channel by itself."""
    axis = 1
    if isinstance(call.module, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)):
        axis = (
            input.labels.dim()
            - {nn.InstanceNorm1d: 2, nn.InstanceNorm2d: 3, nn.InstanceNorm3d: 4}[type(call.module)]
        )
    names = along(flow, input.labels, axis)
    for stored in (call.module.weight, call.module.bias, call.module.running_mean, call.module.running_var):
        names = flow.index(stored, 0, names, flow.followers if stored is call.module.weight else None)
    flow.count(call.module, "num_features", names)
    return spread(names, axis, call.value.shape)


@rule(F.batch_norm)
def _functional_batch_norm(flow: Flow, call: Call, input: Named, *stored: Any, **named: Any) -> Tensor:
    tensors = [t for t in [*stored, *named.values()] if isinstance(t, Named)]
    if any(t.stored is None for t in tensors):
        return leave_whole(flow, call, input, *tensors)
    names = along(flow, input.labels, 1)
    for tensor in tensors:
        names = flow.index(tensor.stored, 0, names)
        flow.count(flow.owners[id(tensor.stored)][1], "num_features", names)
    return spread(names, 1, call.value.shape)


@rule(nn.GroupNorm)
def _group_norm(flow: Flow, call: Call, input: Named) -> Tensor:
    """Statistics run over a norm group: it goes or stays as a whole."""
    names = along(flow, input.labels, 1)
    names = flow.names.tie(names.view(call.module.num_groups, -1), 0)
    flow.count(call.module, "num_groups", names)
    names = names.expand(-1, input.value.size(1) // call.module.num_groups).reshape(-1)
    for stored in (call.module.weight, call.module.bias):
        names = flow.index(stored, 0, names, flow.followers if stored is call.module.weight else None)
    flow.count(call.module, "num_channels", names)
    return spread(names, 1, call.value.shape)


@rule(nn.PReLU, F.prelu)
def _prelu(flow: Flow, call: Call, input: Named, weight: Any = None) -> Tensor:
    W, _, module = stored_weights(flow, call, weight, None)
    if W is None:
        return leave_whole(flow, call, input, weight)
    if W.numel() == 1:
        return input.labels
    names = flow.index(W, 0, along(flow, input.labels, 1))
    flow.count(module, "num_parameters", names)
    return spread(names, 1, call.value.shape)


@rule(nn.GRU, nn.LSTM, nn.RNN)
def _recurrent(flow: Flow, call: Call, input: Named, *state: Any) -> Any:
    """Reads channels in its first layer. Its hidden units are named only for `prune_hidden`.

    A hidden unit is a row in each gate of `weight_ih`, `weight_hh` and the biases, and a column of
    `weight_hh`.
    """
    module, units = call.module, call.module.hidden_size
    read = along(flow, input.labels, -1)
    flow.count(module, "input_size", read)
    gates = module.weight_hh_l0.size(0) // units
    named = flow.hidden and not module.proj_size and not state
    if not named:
        for tensor in torch.utils._pytree.tree_leaves(state):
            leave_whole(flow, call, tensor)
    last: list[Tensor] = []
    for layer in range(module.num_layers):
        made = []
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: 1 + module.bidirectional]:
            stored = {
                kind: getattr(module, f"{kind}{suffix}", None)
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            if layer == 0 or named:
                flow.index(stored["weight_ih"], 1, read, flow.consumers)
            if named:
                names = flow.axes.get((id(stored["weight_hh"]), 1))
                names = flow.names.fresh(units) if names is None else names.labels
                flow.index(stored["weight_hh"], 1, names, flow.consumers)
                for kind, tensor in stored.items():
                    flow.index(
                        tensor, 0, names.repeat(gates), flow.producers if kind.startswith("weight") else None
                    )
                made.append(names)
        last += made
        read = torch.cat(made) if made else read
    if not named:
        return flow.unnamed(call.value)
    flow.count(module, "hidden_size", last[0])
    flow.loose.add(call.node)
    states, final = call.value
    shape = (final[0] if isinstance(final, tuple) else final).shape
    flow.state_shape = shape
    middle = (1,) * (len(shape) - 2)
    labels = torch.stack([names.view(*middle, -1) for names in last]).expand(shape)
    return spread(read, -1, states.shape), (labels, labels) if isinstance(final, tuple) else labels
