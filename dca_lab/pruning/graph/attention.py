"""Multi-head attention whose heads can be removed, called like `torch.nn.MultiheadAttention`.

torch's own layer insists that its heads together are as wide as its input, so it cannot lose one. Here the
width of a head is stored and the number of heads is whatever the projections have. It is swapped in before
pruning and taken out again where no head was removed. It has no `add_bias_kv`, no `add_zero_attn`, and no
masks that differ between heads.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HeadAttention(nn.Module):
    """softmax(q k^T / sqrt(head_dim) + mask) v over any number of heads."""

    in_proj_bias = None  # tells nn.TransformerEncoderLayer to take its ordinary path
    _qkv_same_embed_dim = False

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.head_dim, self.dropout, self.batch_first = source.head_dim, source.dropout, source.batch_first
        weights = (
            source.in_proj_weight.chunk(3)
            if source._qkv_same_embed_dim
            else (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
        )
        biases = source.in_proj_bias.chunk(3) if source.in_proj_bias is not None else (None,) * 3
        self.q, self.k, self.v = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out = _linear(source.out_proj.weight, source.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ):
        """(B, T, E), (B, S, E), (B, S, E) -> (B, T, E) and the weights (B, T, S); time first unless
        `batch_first`.
        """
        turn = not self.batch_first and query.dim() == 3
        q, k, v = (
            f(x.transpose(0, 1) if turn else x).unflatten(-1, (-1, self.head_dim)).transpose(-3, -2)
            for f, x in ((self.q, query), (self.k, key), (self.v, value))
        )  # (B, heads, T, head_dim)
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
        if attn_mask is not None:
            if attn_mask.dim() != 2:
                raise ValueError(
                    "a mask for each head does not fit after heads were removed; use one of shape (T, S)."
                )
            scores = _masked(scores, attn_mask)
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask.unsqueeze(-2).unsqueeze(-2))
        weights = scores.softmax(-1)
        y = F.dropout(weights, self.dropout, self.training) @ v
        y = self.out(y.transpose(-3, -2).flatten(-2))
        shown = weights.mean(-3) if average_attn_weights else weights
        return (y.transpose(0, 1) if turn else y), (shown if need_weights else None)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.size(1), weight.size(0), bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def open_attention(model: nn.Module) -> None:
    """Swap in, in place, wherever torch's layer stands inside `model`."""
    swapped: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if (
            name
            and type(module) is nn.MultiheadAttention
            and module.bias_k is None
            and not module.add_zero_attn
        ):
            if id(module) not in swapped:
                swapped[id(module)] = HeadAttention(module).train(module.training)
            model.set_submodule(name, swapped[id(module)])
    for module in model.modules():
        if swapped and isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # a short cut that reads the weights of torch's own layer


def close_attention(small: nn.Module, model: nn.Module) -> None:
    """Take out again, in place, where the layer still has all its heads."""
    closed: dict[int, nn.Module] = {}
    for name, module in list(small.named_modules(remove_duplicate=False)):
        if isinstance(module, HeadAttention) and isinstance(
            source := model.get_submodule(name), nn.MultiheadAttention
        ):
            whole = HeadAttention(source)
            if all(a.shape == b.shape for a, b in zip(module.parameters(), whole.parameters(), strict=True)):
                small.set_submodule(name, closed.setdefault(id(module), copy.deepcopy(source)))
    for name, module in small.named_modules():
        if isinstance(module, nn.TransformerEncoder) and not any(
            isinstance(m, HeadAttention) for m in module.modules()
        ):
            module.use_nested_tensor = model.get_submodule(name).use_nested_tensor


def gradients_of(work: nn.Module, model: nn.Module) -> dict[int, Tensor | None]:
    """The gradient that the caller accumulated for each parameter of the working copy, by id."""
    theirs, found = dict(model.named_parameters(remove_duplicate=False)), {}
    for name, mine in work.named_parameters():
        layer, _, tail = name.rpartition(".")
        layer, _, part = layer.rpartition(".")
        if name in theirs:
            found[id(mine)] = theirs[name].grad
        elif part in ("q", "k", "v"):
            joined = theirs.get(f"{layer}.in_proj_{tail}")
            joined = None if joined is None else joined.grad
            alone = theirs.get(f"{layer}.{part}_proj_{tail}")
            found[id(mine)] = (
                joined.chunk(3)["qkv".index(part)] if joined is not None else getattr(alone, "grad", None)
            )
    return found
