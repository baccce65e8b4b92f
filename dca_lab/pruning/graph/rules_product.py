"""Rules for products of activations: matrix products, attention, einsum.

In attention the unit is a whole head: the scale of its scores depends on its width, so all names in a head,
in queries, keys and values, are tied together. Where there is one head only, or none, the names that are
summed over become fixed.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .flow import Flow
from .rulebook import Call, Named, rule
from .rules_layers import along, leave_whole, spread
from .rules_move import functions


def product(flow: Flow, a: Tensor, b: Tensor, shape: torch.Size) -> Tensor:
    """Labels of `a @ b` for a (..., n, k), b (..., k, m)."""
    names = flow.names
    rank = len(shape)
    a, b = (names.find(t.reshape((1,) * (rank - t.dim()) + t.shape)) for t in (a, b))
    batch_a, batch_b = ([d for d in names.varying(t) if d < rank - 2] for t in (a, b))
    if (
        batch_a or batch_b
    ):  # heads: whatever varies inside one is tied, and the heads of both sides are the same
        sides = []
        for side, other in ((a, batch_b), (b, batch_a)):
            heads = names.tie(side, *range(rank - 2))
            if any(
                side.size(d) == 1 and shape[d] > 1 for d in other
            ):  # one key head that all query heads read
                names.fix(heads)
                continue
            sides.append(heads.expand(*shape[:-2], 1, 1))
        if len(sides) == 2:
            names.merge(*sides)
        return names.find(sides[0]).expand(shape) if sides else torch.zeros(shape, dtype=torch.int64)
    for side, inner in ((a, rank - 1), (b, rank - 2)):
        if inner in names.varying(side):
            names.fix(side)
    a, b = names.find(a)[..., :1], names.find(b)[..., :1, :]
    if rank - 2 in names.varying(a) and rank - 1 in names.varying(b):
        names.fix(a)
        names.fix(b)
    return names.find(b if rank - 1 in names.varying(b) else a).expand(shape)


@rule(*functions("matmul bmm mm __matmul__", torch), operator.matmul)
def _matmul(flow: Flow, call: Call, a: Named, b: Named) -> Tensor:
    """A stored matrix on the right is a linear layer; otherwise it is an attention-like product."""
    if (
        b.stored is not None
        and b.value.dim() == 2
        and isinstance(a, Named)
        and a.stored is None
        and (not flow.names.varying(a.labels) or a.labels.dim() - 1 in flow.names.varying(a.labels))
    ):
        flow.index(b.stored, 0, along(flow, a.labels, -1), flow.consumers)
        return spread(flow.make(b.stored, 1), -1, call.value.shape)
    if a.value.dim() < 2 or b.value.dim() < 2:
        return leave_whole(flow, call, a, b)
    return product(flow, a.labels, b.labels, call.value.shape)


@rule(F.scaled_dot_product_attention)
def _attention(
    flow: Flow, call: Call, query: Named, key: Named, value: Named, *args: Any, **kwargs: Any
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v on (..., heads, T, d)."""
    if kwargs.get("enable_gqa"):
        return leave_whole(flow, call, query, key, value)
    scores = product(flow, query.labels, key.labels.mT, (*query.value.shape[:-1], key.value.size(-2)))
    return product(flow, scores, value.labels, call.value.shape)


@rule(torch.einsum)
def _einsum(flow: Flow, call: Call, equation: str, *operands: Named) -> Tensor:
    """Two operands whose common letters are contracted or kept: a matrix product with its axes in another
    order.
    """
    inputs, _, out = equation.replace(" ", "").partition("->")
    a, _, b = inputs.partition(",")
    batch = [c for c in a if c in b and c in out]
    inner = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    plain = len(operands) == 2 and out and sorted(out) == sorted([*batch, *rows, *columns])
    if (
        not plain
        or len(set(a)) < len(a)
        or len(set(b)) < len(b)
        or not (inputs + out).replace(",", "").isalpha()
    ):
        return leave_whole(flow, call, *operands)
    left, right = operands[0].labels, operands[1].labels
    size = {c: n for letters, t in ((a, left), (b, right)) for c, n in zip(letters, t.shape, strict=True)}

    def joined(labels: Tensor, letters: str, first: list[str], second: list[str]) -> Tensor:
        turned = labels.permute([letters.index(c) for c in [*batch, *first, *second]])
        return turned.reshape([size[c] for c in batch] + [_count(size, first), _count(size, second)])

    shape = torch.Size([size[c] for c in batch] + [_count(size, rows), _count(size, columns)])
    found = product(flow, joined(left, a, rows, inner), joined(right, b, inner, columns), shape)
    letters = [*batch, *rows, *columns]
    return found.reshape([size[c] for c in letters]).permute([letters.index(c) for c in out])


def _count(size: dict[str, int], letters: list[str]) -> int:
    return math.prod(size[c] for c in letters)
