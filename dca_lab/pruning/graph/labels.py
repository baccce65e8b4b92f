"""Names for channels, and the equations between them.

Every channel that a layer produces gets a *name*, a positive integer. Name 0 means "fixed": it may never be
removed. The forward pass writes equations between names (a residual sum says: channel 3 here *is* channel 3
there). `Names` keeps the solution of all equations so far as a union-find structure, vectorised: `root[n]`
is the smallest name equal to `n`.

A *label tensor* has the shape of an activation and holds, at each position, the name of the channel that
lives there.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


class PruningError(ValueError):
    """Something in the network cannot be followed, or the request cannot be met; the text says where and
    what to do.
    """


class Names:
    """The names given so far and which of them are equal."""

    def __init__(self) -> None:
        self.root = torch.zeros(1, dtype=torch.int64)

    def fresh(self, shape: int | tuple[int, ...]) -> Tensor:
        """New names, one for each position of `shape`."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        start, count = len(self.root), int(np.prod(shape))
        new = torch.arange(start, start + count)
        self.root = torch.cat([self.root, new])
        return new.reshape(shape)

    def find(self, labels: Tensor) -> Tensor:
        """The smallest equal name at every position."""
        return self.root[labels]

    def merge(self, a: Tensor, b: Tensor) -> None:
        """Write the equation `a[i] = b[i]` for every position (the two broadcast)."""
        a, b = torch.broadcast_tensors(self.find(a), self.find(b))
        different = a != b
        if not different.any():
            return
        count = len(self.root)
        pairs = torch.unique(a[different] * count + b[different])
        ends, local = torch.unique(torch.stack([pairs // count, pairs % count]), return_inverse=True)
        graph = coo_matrix(
            (np.ones(len(pairs)), (local[0].numpy(), local[1].numpy())), shape=(len(ends), len(ends))
        )
        _, component = connected_components(graph, directed=False)
        component = torch.from_numpy(component.astype(np.int64))
        smallest = torch.full((len(ends),), count).scatter_reduce(0, component, ends, "amin")
        renamed = torch.arange(count)
        renamed[ends] = smallest[component]
        self.root = renamed[self.root]

    def fix(self, labels: Tensor) -> None:
        """Say that none of these may be removed."""
        self.merge(labels, torch.zeros_like(labels))

    def is_fixed(self, labels: Tensor) -> bool:
        """True when no position holds a removable name."""
        return not self.find(labels).any()

    def tie(self, labels: Tensor, *keep: int) -> Tensor:
        """Make labels equal along every axis but `keep`; return them with size 1 on the tied axes."""
        keep = tuple(axis % labels.dim() for axis in keep)
        first = labels
        for axis in range(labels.dim()):
            if axis not in keep:
                first = first.narrow(axis, 0, 1)
        self.merge(first, labels)
        return self.find(first)

    def varying(self, labels: Tensor) -> list[int]:
        """The axes along which the labels are not constant."""
        labels = self.find(labels)
        return [
            axis
            for axis in range(labels.dim())
            if labels.size(axis) > 1 and bool((labels != labels.narrow(axis, 0, 1)).any())
        ]

    def settle(self, labels: Tensor) -> Tensor:
        """Make labels depend on one axis at most, so that whatever is removed leaves a rectangle.

        The axis that keeps the most names apart stays free (the last of these); the others are tied.
        """
        labels = self.find(labels)
        axes = self.varying(labels)
        if len(axes) <= 1:
            return labels

        def distinct(axis: int) -> int:
            line = labels
            for other in range(labels.dim()):
                if other != axis:
                    line = line.narrow(other, 0, 1)
            return line.unique().numel()

        free = max(axes, key=lambda axis: (distinct(axis), axis))
        return self.tie(labels, free).expand_as(labels)
