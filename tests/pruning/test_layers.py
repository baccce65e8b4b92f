"""Removing a residual block must equal a network that was built without it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from channel_networks import Basic, Inverted, Residual, Transformer, build
from torch import nn

from dca_lab.models import LeNet5, ResNet18, TransformerLM
from dca_lab.pruning.layers import block_changes, remove_layers


def test_equals_the_network_without_the_block():
    torch.manual_seed(0)
    net, x = ResNet18(width=8).eval(), torch.randn(3, 1, 28, 28)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    small = remove_layers(net, x, names=["layer1.0", "layer3.1"])
    h = F.relu(net.bn1(net.conv1(x)))
    h = net.layer4(net.layer3[0](net.layer2(net.layer1[1](h))))
    assert torch.equal(small(x), net.fc(net.pool(h).flatten(1)))
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [len(s) for s in (small.layer1, small.layer2, small.layer3, small.layer4)] == [1, 2, 1, 2]
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    assert not small.training and small.train() is small
    small(x).sum().backward()


def test_block_that_does_nothing_goes_first_and_costs_nothing():
    torch.manual_seed(0)
    net, x = ResNet18(width=8).eval(), torch.randn(3, 1, 28, 28)
    for block in (net.layer2[1], net.layer4[1]):
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
    changes = block_changes(net, x)
    assert changes["layer2.1"] == changes["layer4.1"] == 0.0
    before = net.layer1[0](F.relu(net.bn1(net.conv1(x))))
    after = net.layer1[1](before)
    assert changes["layer1.1"] == pytest.approx(((after - before).norm() / before.norm()).item(), rel=1e-5)
    small = remove_layers(net, x, count=2)
    assert len(small.layer2) == len(small.layer4) == 1
    torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-5)


def test_transformers_mobile_blocks_and_attributes():
    tokens = torch.randint(0, 11, (2, 9))
    net = TransformerLM(layers=3).eval()
    small = remove_layers(net, tokens, count=2)
    assert len(small.blocks) == 1 and small(tokens).shape == net(tokens).shape
    assert list(block_changes(Transformer("free").eval(), tokens)) == ["blocks.0", "blocks.1"]
    mobile, x = build("mobile")
    assert list(block_changes(mobile, x)) == ["blocks.0", "blocks.2"]

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block, self.head = nn.Conv2d(3, 8, 3), Basic(8, 8), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            return self.head(self.block(self.stem(x)))

    net = Named().train()
    small = remove_layers(net, x)
    assert type(small.block) is nn.Identity and small.training and type(small) is Named


def test_random_is_a_seeded_control_and_hooks_stay():
    net, x = ResNet18(width=8), torch.randn(2, 1, 28, 28)
    seen = []
    net.layer4.register_forward_hook(lambda *_: seen.append(1))
    sizes = set()
    for seed in range(8):
        one, two = (
            remove_layers(net, x, count=2, importance="random", generator=torch.Generator().manual_seed(seed))
            for _ in range(2)
        )
        assert [n for n, _ in one.named_parameters()] == [n for n, _ in two.named_parameters()]
        assert [p.shape for p in one.parameters()] == [p.shape for p in two.parameters()]
        sizes.add(tuple(len(stage) for stage in (one.layer1, one.layer2, one.layer3, one.layer4)))
    assert len(sizes) > 1 and not seen
    one(x)
    assert seen == [1]
    assert not any(hasattr(m, "_original_name") for m in one.modules())


def test_no_parameter_free_way_means_no_removal():
    x = torch.randn(2, 3, 8, 8)
    net = Residual(Inverted(8, 16, 12), Basic(12, 16, 2), nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU()))
    assert block_changes(net, x) == {}
    with pytest.raises(
        ValueError, match="0 removable residual blocks: none of its modules adds its own input"
    ):
        remove_layers(net, x)
    with pytest.raises(ValueError, match="0 removable"):
        remove_layers(LeNet5(), torch.randn(2, 1, 28, 28))
    net = ResNet18(width=8)
    image = torch.randn(2, 1, 28, 28)
    with pytest.raises(ValueError, match="count=6, but ResNet18 has 5"):
        remove_layers(net, image, count=6)
    with pytest.raises(ValueError, match="'layer2.0' is not a removable"):
        remove_layers(net, image, names=["layer2.0"])
    with pytest.raises(ValueError, match="'change' or 'random'"):
        remove_layers(net, image, importance="size")
    assert remove_layers(net, image, count=0).state_dict().keys() == net.state_dict().keys()
