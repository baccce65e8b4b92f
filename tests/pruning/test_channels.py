"""The contract of prune_channels: ordinary smaller modules, the original untouched, clear errors; never a
wrong model.
"""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from channel_networks import ZOO, build, zero_rows
from torch import nn

from dca_lab.pruning.channels import PruningError, coupled_groups, prune_channels


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ZOO)
def test_result_is_an_ordinary_module(name):
    net, x = build(name)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    modes = [m.training for m in net.modules()]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    small = prune_channels(net, x, ratio=0.4)
    assert torch.equal(before, torch.get_rng_state())
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert all(m.training for m in small.modules())
    assert not {id(p) for p in small.parameters()} & {id(p) for p in net.parameters()}

    optimizer = torch.optim.SGD(small.parameters(), lr=1e-3)
    small(x).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())
    optimizer.step()
    small.eval()
    again = prune_channels(small, x, ratio=0.4)
    assert count(again) < count(small) < count(net)
    assert again(x).shape == net.eval()(x).shape

    file = io.BytesIO()
    torch.save(again.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(again)
    for p in twin.parameters():
        nn.init.zeros_(p)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(x), again(x))


@pytest.mark.parametrize("name", ["chain", "residual", "dense", "mobile", "unet", "transformer-free"])
def test_equals_the_masked_original(name):
    """Brute force: the original with everything that belongs to a removed channel set to zero."""
    net, x = build(name)
    chosen = {}

    def importance(group):
        scores = torch.rand(group.channels, generator=torch.Generator().manual_seed(group.channels))
        chosen[group.layers] = (group, torch.argsort(scores)[: round(0.5 * group.channels)])
        return scores

    small = prune_channels(net, x, 0.5, importance=importance)
    masked = copy.deepcopy(net)
    for (
        group,
        dead,
    ) in chosen.values():  # its own filters, biases and shifts set to zero: what it sends is zero
        for member in (*group.members, *group.through):
            zero_rows(masked, member, dead)
    torch.testing.assert_close(small(x), masked(x), rtol=1e-4, atol=1e-5)


def test_removed_counts_and_sizes():
    net, x = build("residual")
    small = prune_channels(net, x, 0.25)
    assert small.stem[0].out_channels == 6 and small.stem[0].weight.shape == (6, 3, 3, 3)
    assert small.stem[1].num_features == 6 and small.stem[1].running_var.shape == (6,)
    assert small.blocks[1].short[0].in_channels == 6
    assert small.head.in_features == 12 and small.head.out_features == 5
    depth = prune_channels(*build("mobile"), 0.5).blocks[0].depth[0]
    assert (depth.groups, depth.in_channels, depth.out_channels, tuple(depth.weight.shape)) == (
        8,
        8,
        8,
        (8, 1, 3, 3),
    )
    wide = prune_channels(*build("multiplier"), 0.5)[1]
    assert (wide.groups, wide.in_channels, wide.out_channels) == (3, 3, 6)
    grouped = prune_channels(*build("grouped"), 0.5).blocks[0][0]
    assert (grouped.groups, grouped.in_channels, grouped.out_channels) == (4, 4, 8)
    norm = prune_channels(*build("branches"), 0.5).stem.norm
    assert (norm.num_groups, norm.num_channels) == (3, 6)


def test_ratio_zero_is_an_equal_copy_and_one_channel_always_stays():
    net, x = build("dense")
    same = prune_channels(net, x, 0)
    assert all(
        torch.equal(a, b) for a, b in zip(same.state_dict().values(), net.state_dict().values(), strict=True)
    )
    thin = prune_channels(net, x, 0.999)
    assert thin.stem.out_channels == 1 and thin.transition.out_channels == 1
    assert thin(x).shape == net(x).shape


def test_groups_say_what_moves_together():
    groups = coupled_groups(*build("mobile"))
    assert [g.layers for g in groups][0] == ("stem.0", "blocks.0.project.0")
    inner = next(g for g in groups if g.layers == ("blocks.0.expand.0",))
    assert inner.followers == ("blocks.0.expand.1", "blocks.0.depth.0", "blocks.0.depth.1")
    assert inner.consumers == ("blocks.0.project.0",) and inner.channels == 16
    heads = coupled_groups(*build("transformer-free"))[0]
    assert heads.layers == tuple(f"blocks.0.attention.{n}" for n in "qkv") and heads.channels == 4


def test_per_layer_and_ignore():
    net, x = build("residual")
    small = prune_channels(
        net, x, 0.5, per_layer={"blocks.0.conv1": 0.25, "blocks.2.bn1": 0.0}, ignore=["stem.0"]
    )
    assert small.blocks[0].conv1.out_channels == 6
    assert small.blocks[2].conv1.out_channels == 16
    assert small.stem[0].out_channels == 8 == small.blocks[0].conv2.out_channels
    assert small.blocks[1].conv1.out_channels == 8
    with pytest.raises(ValueError, match="blocks.0.conv9.*Did you mean blocks.0.conv"):
        prune_channels(net, x, per_layer={"blocks.0.conv9": 0.5})
    with pytest.raises(ValueError, match="need one ratio: stem.0: 0.5, blocks.0.conv2: 0.25"):
        prune_channels(net, x, per_layer={"stem.0": 0.5, "blocks.0.conv2": 0.25})
    with pytest.raises(PruningError, match="'head' cannot be removed"):
        prune_channels(net, x, per_layer={"head": 0.5})


def test_heads_of_torch_attention():
    net, x = build("inner")
    layers = "encoder.layers.0.self_attn", "encoder.layers.1.self_attn"
    small = prune_channels(net, x, 0.0, per_layer={layers[0]: 0.75})
    assert small.get_submodule(layers[0]).q.weight.shape == (4, 16)
    assert type(small.get_submodule(layers[1])) is nn.MultiheadAttention
    kept = prune_channels(net, x, 0.5, ignore=layers)
    assert type(kept.get_submodule(layers[0])) is nn.MultiheadAttention
    assert kept.encoder.layers[0].linear1.out_features == 10
    mask = torch.arange(5).expand(2, 5) > 3
    assert small.encoder(small.front(x), src_key_padding_mask=mask).shape == (2, 5, 16)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan"), "half", True, None])
def test_bad_ratio(ratio):
    net, x = build("chain")
    with pytest.raises(ValueError, match="share of channels"):
        prune_channels(net, x, ratio)
    with pytest.raises(ValueError, match="share of channels"):
        prune_channels(net, x, per_layer={"0.0": ratio})


def test_importance_by_hand():
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randn(2, 1, 2, 2)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([3.0, -2.0, 1.0]).view(3, 1, 1, 1))
        net[1].weight.copy_(torch.tensor([0.1, -5.0, 2.0]))

    def left(importance, **more):
        return prune_channels(net, x, 0.34, importance=importance, **more)[0].weight.flatten().tolist()

    assert left("magnitude") == [3, -2] == left("l1")
    assert left("batchnorm") == [-2, 1]
    assert left("geometric_median") == [3, -2]  # distances: 5 + 2, 5 + 3, 2 + 3
    with pytest.raises(PruningError, match="taylor.*'0' has none"):
        left("taylor")
    net[0].weight.grad = torch.tensor([0.1, 1.0, 1.0]).view(3, 1, 1, 1)
    net[3].weight.grad = torch.zeros_like(net[3].weight)
    assert left("taylor") == [-2, 1]  # |w g| = 0.3, 2, 1
    assert left("random", generator=torch.Generator().manual_seed(0)) == left(
        "random", generator=torch.Generator().manual_seed(0)
    )
    assert left(lambda group: torch.tensor([1.0, 0.0, 2.0])) == [3, 1]
    with pytest.raises(ValueError, match="'big' is not known"):
        left("big")
    with pytest.raises(ValueError, match="one finite number for each of its 3 channels"):
        left(lambda group: torch.ones(2))


def test_zero_filter_behind_a_gate_goes_first():
    net, x = build("squeeze")
    with torch.no_grad():
        conv, norm = net.blocks[0].conv[0], net.blocks[0].conv[1]
        for t in (conv.weight, norm.weight, norm.bias):
            t[[1, 4, 6]] = 0
        net.blocks[0].up.weight[[1, 4, 6]] = 100.0
    small = prune_channels(net, x, 0.0, per_layer={"blocks.0.conv.0": 3 / 8})
    assert torch.equal(small.blocks[0].conv[0].weight, conv.weight[[0, 2, 3, 5, 7]])
    torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-5)


def test_constant_of_a_dead_channel_moves_into_the_next_bias():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.Sigmoid(),
        nn.Conv2d(6, 4, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.Softplus(),
        nn.Linear(8, 3),
    ).eval()
    nn.init.normal_(net[1].running_mean)
    nn.init.normal_(net[1].bias)
    with torch.no_grad():
        net[0].weight[::2] = 0
        net[6].weight[1::2] = 0
    x = torch.randn(5, 1, 8, 8)
    small = prune_channels(net, x, 0.5, ignore=["3"])
    assert net[3].bias is None and small[3].bias is not None
    torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-5)


class Wrap(nn.Module):
    """Two convolutions with something in between."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3), between

    def forward(self, x):
        return self.second(self.between(self, self.first(x)))


def _branch(self, x):
    return x if x.mean() > 0 else -x


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (lambda self, x: torch.fft.fft2(x).real, "node 'fft_fft2'.*no rule"),
        (_branch, "branches on data"),
        (lambda self, x: x * float(x.max()), "turns data into a Python number"),
        (lambda self, x: torch.tensor(x.detach().numpy()), "could not be traced"),
        (lambda self, x: x + torch.rand(1) if torch.is_tensor(x) else x * 2, None),
        (
            lambda self, x: F.conv2d(x, self.first.weight.flip(0)[:, :1], groups=8, padding="same")[:, :8],
            None,
        ),
        (lambda self, x: x * (x.size(1) / 8), "would not compute what is left"),
    ],
)
def test_what_cannot_be_followed_is_an_error(between, words):
    net, x = Wrap(between), torch.randn(2, 3, 8, 8)
    if words is not None:
        with pytest.raises(PruningError, match=words):
            prune_channels(net, x, 0.5)
    else:  # either an error or right
        try:
            small = prune_channels(net, x, 0.5)
        except PruningError:
            return
        assert small(x).shape == net(x).shape


def test_custom_operations_and_computed_weights_are_errors():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(PruningError, match="special_bessel_j0"):
        prune_channels(Wrap(lambda self, x: Twice.apply(x)), torch.randn(2, 3, 8, 8))
    net = Wrap(lambda self, x: x)
    nn.utils.parametrizations.weight_norm(net.first)
    with pytest.raises(PruningError, match="computed|permanent|no rule"):
        prune_channels(net, torch.randn(2, 3, 8, 8))
    with pytest.raises(PruningError, match="nothing can be removed"):
        prune_channels(nn.Linear(3, 2), torch.randn(2, 3))
    with pytest.raises(ValueError, match="does not run on example_input"):
        prune_channels(nn.Linear(3, 2), torch.randn(2, 4))
    with pytest.raises(ValueError, match="must be an nn.Module"):
        prune_channels(lambda x: x, torch.randn(2, 4))


def test_hooks_do_not_run_and_are_kept():
    net, x = build("chain")
    seen = []
    net[0].register_forward_hook(lambda *_: seen.append(1))
    small = prune_channels(net, x)
    assert not seen
    small(x)
    assert seen == [1]


def test_two_inputs_shared_weights_and_dtypes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 10), nn.Linear(6, 10), nn.Linear(10, 2)

        def forward(self, x, y, scale=1.0):
            return self.c(torch.tanh(self.a(x) + self.b(y)) * scale)

    net = Two().double()
    small = prune_channels(net, (torch.randn(3, 4).double(), torch.randn(3, 6).double()), 0.3)
    assert small.a.weight.shape == (7, 4) and small.a.weight.dtype == torch.float64
    tied = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False))
    tied[2].weight = tied[0].weight
    small = prune_channels(tied, torch.zeros(1, 3, dtype=torch.long), 0.5)
    assert small[2].weight is small[0].weight and small[0].weight.shape == (9, 3)
    frozen, x = build("chain")
    frozen[0][0].weight.requires_grad_(False)
    frozen = frozen.to(memory_format=torch.channels_last)
    small = prune_channels(frozen, x)
    assert not small[0][0].weight.requires_grad
    assert small[2][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_sequence_length_and_batch_stay_free():
    for style in ("free", "literal", "view", "fused"):
        net, x = build(f"transformer-{style}")
        small = prune_channels(net, x, 0.5)
        for shape in ((1, 4), (3, 16)):
            assert small(torch.zeros(shape, dtype=torch.long)).shape == (*shape, 11)


def test_models_of_the_course():
    from dca_lab.models import LeNet5, ResNet18, TransformerLM

    image = torch.randn(2, 1, 28, 28)
    small = prune_channels(LeNet5(), image, 0.5)
    assert count(small) == 10 * 26 + 25 * 251 + 250 * (25 * 16 + 1) + 10 * 251
    net = ResNet18(width=8)
    assert type(prune_channels(net, image)) is ResNet18
    assert count(prune_channels(net, image)) == count(ResNet18(width=4))
    lm = TransformerLM(width=32, layers=1)
    assert prune_channels(lm, torch.zeros(2, 8, dtype=torch.long)).eval()(
        torch.zeros(2, 9, dtype=torch.long)
    ).shape == (2, 9, 128)


def test_the_group_score_is_the_norm_of_all_that_goes_with_the_channel():
    """Oracle: by hand, for a convolution, its batch-norm and the convolution that reads it."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    nn.init.normal_(net[1].weight)
    with torch.no_grad():
        squares = (
            net[0].weight.square().sum((1, 2, 3))
            + net[1].weight.square()
            + net[3].weight.square().sum((0, 2, 3))
        )
    kept = squares.argsort(descending=True)[:3].sort().values
    small = prune_channels(net, torch.zeros(1, 1, 9, 9), ratio=5 / 8, importance="group")
    assert torch.equal(small[0].weight, net[0].weight[kept])
    assert torch.equal(small[3].weight, net[3].weight[:, kept])
