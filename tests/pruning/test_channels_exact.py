"""Oracle: torch itself. A channel whose filters are zero can be removed without changing the output, on
every architecture.
"""

from __future__ import annotations

import pytest
import torch
from channel_idioms import IDIOMS
from channel_networks import ZOO, build, zero_some

from dca_lab.pruning.channels import prune_channels


@pytest.mark.parametrize("name", [*ZOO, *IDIOMS])
def test_zero_channels_go_without_a_trace(name):
    net, x = build(name, zoo={**ZOO, **IDIOMS})
    before = net(x)
    scores = zero_some(net, x)
    expected = net(x)
    small = prune_channels(net, x, 0.5, importance=lambda group: scores[group.layers])
    assert sum(p.numel() for p in small.parameters()) < 0.97 * sum(p.numel() for p in net.parameters())
    torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-3)  # the zeros mattered: this is not a dead network
    other = torch.cat([x, x.flip(0), x])
    torch.testing.assert_close(small(other), net(other), rtol=0, atol=1e-5)
    by_size = prune_channels(
        net, x, 0.5
    )  # zero filters are the smallest, so the default finds them by itself
    torch.testing.assert_close(by_size(x), expected, rtol=0, atol=1e-5)
