"""Property: on random networks of residual sums, concatenations, products, groups, depthwise and shared
layers, zeros go exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from channel_networks import randomise, zero_some
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.pruning.channels import PruningError, prune_channels

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "conv",
                "depthwise",
                "grouped",
                "shared",
                "add",
                "mul",
                "cat",
                "norm",
                "group-norm",
                "act",
                "split",
                "swap",
                "gate",
                "pool",
                "linear",
                "scale",
                "shuffle",
            ]
        ),
        st.integers(0, 7),
        st.integers(0, 7),
        st.sampled_from([2, 4, 6, 8]),
    ),
    min_size=3,
    max_size=12,
)


class Random(nn.Module):
    """A program over a growing list of (B, C, 4, 4) tensors."""

    def __init__(self, steps):
        super().__init__()
        self.layers, self.plan, widths = (
            nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)]),
            [],
            [4, 4],
        )

        def add(layer):
            self.layers.append(layer)
            return len(self.layers) - 1

        for kind, i, j, width in steps:
            i, j = i % len(widths), j % len(widths)
            c, step, out = widths[i], (kind, i, j, None), widths[i]
            if kind == "conv":
                step, out = (kind, i, j, add(nn.Conv2d(c, width, 3, padding=1))), width
            elif kind == "depthwise":
                step = ("conv", i, j, add(nn.Conv2d(c, c, 3, padding=1, groups=c)))
            elif kind == "grouped":
                if c % 2:
                    continue
                step, out = ("conv", i, j, add(nn.Conv2d(c, width, 1, groups=2))), width
            elif kind == "shared":
                if c != 4:
                    continue
                step = ("conv", i, j, 1)
            elif kind in ("add", "mul"):
                if widths[j] != c:
                    continue
            elif kind == "cat":
                if c + widths[j] > 24:
                    continue
                out = c + widths[j]
            elif kind == "norm":
                step = ("conv", i, j, add(nn.BatchNorm2d(c)))
            elif kind == "group-norm":
                if c % 2:
                    continue
                step = ("conv", i, j, add(nn.GroupNorm(2, c)))
            elif kind in ("split", "shuffle") and (c % 2 or c < 4):
                continue
            elif kind == "split":
                out = c // 2
            elif kind == "gate":
                if c % 2 or c < 4:
                    continue
                step, out = (kind, i, j, None), c // 2
            elif kind in ("linear", "scale"):
                step = (kind, i, j, add(nn.Linear(c, width) if kind == "linear" else nn.PReLU(c)))
                out = width if kind == "linear" else c
                step = ("conv", i, j, step[3]) if kind == "scale" else step
            self.plan.append(step)
            widths.append(out)
        self.plan, self.head = tuple(self.plan), nn.Linear(widths[-1] * 16, 3)

    def forward(self, x):
        x = self.layers[0](x)
        values = [x, self.layers[1](x)]
        for kind, i, j, layer in self.plan:
            a, b = values[i], values[j]
            if kind == "conv":
                y = self.layers[layer](a)
            elif kind == "add":
                y = a + b
            elif kind == "mul":
                y = a * b
            elif kind == "cat":
                y = torch.cat([a, b], 1)
            elif kind == "act":
                y = F.leaky_relu(a)
            elif kind == "split":
                y = a[:, a.size(1) // 2 :] if j % 2 else a.chunk(2, 1)[0]
                if y.size(1) != a.size(1) // 2:
                    y = y[:, : a.size(1) // 2]
            elif kind == "swap":
                y = a.flip(1)
            elif kind == "gate":
                y = F.glu(a, 1)
            elif kind == "pool":
                y = F.avg_pool2d(a, 3, 1, 1)
            elif kind == "linear":
                y = self.layers[layer](a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            else:  # shuffle
                n, c, h, w = a.shape
                y = a.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            values.append(y)
        return self.head(values[-1].flatten(1))


@settings(deadline=None, max_examples=40)
@given(STEPS, st.integers(0, 1000), st.sampled_from([0.25, 0.5, 0.75]))
def test_zeros_go_exactly_in_random_networks(steps, seed, ratio):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = randomise(Random(steps))
        x = torch.randn(2, 3, 4, 4)
    try:
        scores = zero_some(net, x, seed, ratio)
    except PruningError as error:
        assert "nothing can be removed" in str(error)
        return
    if not scores:
        return
    small = prune_channels(net, x, ratio, importance=lambda group: scores[group.layers])
    expected = net(x)
    torch.testing.assert_close(
        small(x), expected, rtol=0, atol=1e-5 * max(1.0, float(expected.detach().abs().max()))
    )
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in net.parameters())
