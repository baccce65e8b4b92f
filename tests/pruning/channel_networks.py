"""Small networks, one for each kind of dependency between channels, with random batch-norm statistics."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from dca_lab.pruning.channels import coupled_groups


def cbr(i, o, k=3, groups=1, act=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(i, o, k, padding=k // 2, groups=groups, bias=False), nn.BatchNorm2d(o), act()
    )


def chain():
    return nn.Sequential(
        cbr(3, 8), nn.MaxPool2d(2), cbr(8, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)
    )


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 14), nn.Tanh(), nn.Linear(14, 5)
    )


def flat():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 10),
        nn.ReLU(),
        nn.Linear(10, 5),
    )


class Basic(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = (
            nn.Identity()
            if i == o and stride == 1
            else nn.Sequential(nn.Conv2d(i, o, 1, stride), nn.BatchNorm2d(o))
        )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.short(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    def __init__(self, i, w, o):
        super().__init__()
        self.a, self.b, self.c = cbr(i, w, 1), cbr(w, w), nn.Sequential(nn.Conv2d(w, o, 1), nn.BatchNorm2d(o))
        self.down = None if i == o else nn.Conv2d(i, o, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        identity = x if self.down is None else self.down(x)
        return self.relu(self.c(self.b(self.a(x))) + identity)


class Residual(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.stem, self.blocks = cbr(3, 8), nn.Sequential(*blocks)
        self.head = nn.Linear(self.blocks(torch.zeros(2, 8, 8, 8)).shape[1], 5)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def residual():
    return Residual(Basic(8, 8), Basic(8, 16, 2), Basic(16, 16))


def bottleneck():
    return Residual(Bottleneck(8, 6, 16), Bottleneck(16, 6, 16))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(6 + 4 * i), nn.ReLU(), nn.Conv2d(6 + 4 * i, 4, 3, padding=1))
            for i in range(3)
        )
        self.norm, self.transition, self.head = nn.BatchNorm2d(18), nn.Conv2d(18, 10, 1), nn.Linear(10, 5)

    def forward(self, x):
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        x = F.avg_pool2d(self.transition(F.relu(self.norm(torch.cat(features, dim=1)))), 2)
        return self.head(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, i, e, o, stride=1):
        super().__init__()
        self.expand, self.project = (
            cbr(i, e, 1, act=nn.ReLU6),
            nn.Sequential(nn.Conv2d(e, o, 1, bias=False), nn.BatchNorm2d(o)),
        )
        self.depth = nn.Sequential(
            nn.Conv2d(e, e, 3, stride, 1, groups=e, bias=False), nn.BatchNorm2d(e), nn.ReLU6()
        )
        self.skip = i == o and stride == 1

    def forward(self, x):
        y = self.project(self.depth(self.expand(x)))
        return x + y if self.skip else y


def mobile():
    return Residual(Inverted(8, 16, 8), Inverted(8, 16, 12, 2), Inverted(12, 24, 12))


def multiplier():
    return nn.Sequential(
        cbr(3, 6),
        nn.Conv2d(6, 12, 3, padding=1, groups=6),
        nn.ReLU(),
        nn.Conv2d(12, 8, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 5),
    )


def grouped():
    return Residual(cbr(8, 16, groups=4), cbr(16, 12, groups=2), Basic(12, 12))


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = cbr(8, 12, 1, groups=2), cbr(12, 12, groups=12), cbr(12, 8, 1, groups=2)

    def forward(self, x):
        y = self.a(x)
        b, c, h, w = y.size()
        y = y.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return x + self.c(self.b(y))


def shuffle():
    return Residual(cbr(8, 8), Shuffle(), Shuffle())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.d3 = cbr(3, 6), cbr(6, 8), cbr(8, 12)
        self.u2, self.u1 = nn.ConvTranspose2d(12, 8, 2, 2), nn.ConvTranspose2d(8, 6, 2, 2)
        self.c2, self.c1, self.out = cbr(16, 8), cbr(12, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.d3(F.max_pool2d(b, 2))
        b = self.c2(torch.cat([self.u2(c), b], 1))
        a = self.c1(torch.cat([F.interpolate(self.u1(b), size=a.shape[2:], mode="bilinear"), a], 1))
        return self.out(a)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.body, self.norm, self.head = (
            cbr(3, 8),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Linear(8, 5),
        )

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = F.leaky_relu(self.norm(self.body(x)))
        return self.head(x.flatten(2).amax(-1))


class Squeeze(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.down, self.up = cbr(c, c), nn.Linear(c, 4), nn.Linear(4, c)

    def forward(self, x):
        x = self.conv(x)
        s = x.mean(dim=[2, 3])
        s = torch.sigmoid(self.up(F.relu(self.down(s))))
        return x * s[:, :, None, None]


def squeeze():
    return Residual(Squeeze(8), Squeeze(8))


class Attention(nn.Module):
    def __init__(self, width, heads, style):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.style = heads, style

    def forward(self, x):
        B, T, C = x.shape
        d = C // self.heads
        if self.style == "free":
            q, k, v = (f(x).view(B, T, -1, d).transpose(1, 2) for f in (self.q, self.k, self.v))
        elif self.style == "literal":
            q, k, v = (
                f(x).reshape(B, T, self.heads, 8).permute(0, 2, 1, 3) for f in (self.q, self.k, self.v)
            )
        else:
            q, k, v = (f(x).view(B, T, self.heads, d).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.style == "fused":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(d)
            scores = scores.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), float("-inf"))
            y = torch.matmul(scores.softmax(-1), v)
        if self.style == "free":
            return self.o(y.transpose(1, 2).flatten(2))
        return self.o(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, width, heads, style):
        super().__init__()
        self.n1, self.n2, self.attention = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            Attention(width, heads, style),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Dropout(0.1), nn.Linear(24, width))

    def forward(self, x):
        x = x + self.attention(self.n1(x))
        return x + self.mlp(self.n2(x))


class Transformer(nn.Module):
    def __init__(self, style):
        super().__init__()
        self.embed, self.place = nn.Embedding(11, 32), nn.Parameter(torch.randn(1, 16, 32))
        self.blocks, self.norm, self.head = (
            nn.ModuleList(Block(32, 4, style) for _ in range(2)),
            nn.LayerNorm(32),
            nn.Linear(32, 11),
        )

    def forward(self, x):
        B, T = x.shape
        if T > 16:
            raise ValueError("too long")
        x = self.embed(x) + self.place[:, :T]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = (
            nn.Conv1d(3, 16, 3, padding=1),
            nn.Linear(8, 20),
            nn.Linear(8, 20),
            nn.Linear(10, 5),
        )
        self.gamma = nn.Parameter(torch.randn(8))

    def forward(self, x):
        left, right = self.a(x.flatten(2)).chunk(2, dim=1)
        x = (left * torch.sigmoid(right)).transpose(1, 2) * self.gamma
        return self.head(F.glu(self.b(x) + self.c(x).tanh(), -1).mean(1))


class Branches(nn.Module):
    """Several branches, uneven chunks with their own readers, a nested dict of modules, a group norm,
    PReLU, pixel shuffle.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleDict(
            {"conv": nn.Conv2d(3, 12, 3, padding=1), "norm": nn.GroupNorm(6, 12), "act": nn.PReLU(12)}
        )
        self.left, self.right, self.pool = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, padding=1), cbr(12, 4)
        self.scale = nn.Parameter(torch.randn(20, 1, 1))
        self.up, self.last, self.head = nn.Conv2d(20, 16, 1), nn.Conv2d(4, 6, 3), nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem["act"](self.stem["norm"](self.stem["conv"](x)))
        a, b = torch.split(x, [4, 8], dim=1)
        y = (
            torch.cat([self.left(a), self.right(F.pad(b, (1, 1, 1, 1))[:, :, 1:-1, 1:-1]), self.pool(x)], 1)
            * self.scale
        )
        y = F.pixel_shuffle(F.silu(self.up(y)) * 1.5, 2)
        return self.head(F.relu(self.last(y)).amax((-1, -2)))


class Halves(nn.Module):
    """Literal slices: the two halves of a convolution have different readers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = (
            nn.Conv2d(3, 12, 1),
            nn.Conv2d(6, 8, 1),
            nn.Conv2d(6, 8, 1),
            nn.Linear(8 * 64, 5),
        )

    def forward(self, x):
        x = F.relu(self.a(x))
        y = F.relu(self.b(x[:, :6]) + self.c(x[:, 6:]))
        return self.head(F.dropout(y, 0.5, self.training).view(-1, 8 * 64))


class Decoder(nn.Module):
    def __init__(self, style):
        super().__init__()
        self.fc, self.a, self.b = (
            nn.Linear(7, 8 * 16),
            nn.ConvTranspose2d(8, 6, 4, 2, 1),
            nn.ConvTranspose2d(6, 1, 4, 2, 1),
        )
        self.n, self.unflatten, self.style = nn.BatchNorm2d(8), nn.Unflatten(1, (8, 4, 4)), style

    def forward(self, z):
        x = self.fc(z)
        x = (
            self.unflatten(x)
            if self.style == "layer"
            else x.view(-1, 8, 4, 4)
            if self.style == "literal"
            else x.view(z.size(0), 8, 4, 4)
        )
        return torch.tanh(self.b(F.relu(self.a(F.relu(self.n(x))))))


class Inner(nn.Module):
    """The layers of torch itself that contain layers, and a recurrent consumer."""

    def __init__(self):
        super().__init__()
        self.front, self.encode = (
            nn.Linear(6, 16),
            nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 16)),
        )
        layer = nn.TransformerEncoderLayer(16, 4, 20, batch_first=True)
        self.encoder, self.gru, self.mid = (
            nn.TransformerEncoder(layer, 2),
            nn.GRU(10, 8, batch_first=True),
            nn.Linear(16, 10),
        )

    def forward(self, x):
        x = self.encoder(self.encode(self.front(x)))
        return self.gru(torch.relu(self.mid(x)))[0][:, -1]


IMAGE = (2, 3, 8, 8)
ZOO = {
    "chain": (chain, IMAGE),
    "mlp": (mlp, IMAGE),
    "flat": (flat, IMAGE),
    "residual": (residual, IMAGE),
    "bottleneck": (bottleneck, IMAGE),
    "dense": (DenseNet, IMAGE),
    "mobile": (mobile, IMAGE),
    "multiplier": (multiplier, IMAGE),
    "grouped": (grouped, IMAGE),
    "shuffle": (shuffle, IMAGE),
    "unet": (UNet, IMAGE),
    "shared": (Shared, IMAGE),
    "squeeze": (squeeze, IMAGE),
    "transformer-free": (lambda: Transformer("free"), "tokens"),
    "transformer-literal": (lambda: Transformer("literal"), "tokens"),
    "transformer-view": (lambda: Transformer("view"), "tokens"),
    "transformer-fused": (lambda: Transformer("fused"), "tokens"),
    "gated": (Gated, IMAGE),
    "branches": (Branches, IMAGE),
    "halves": (Halves, IMAGE),
    "decoder-layer": (lambda: Decoder("layer"), (2, 7)),
    "decoder-literal": (lambda: Decoder("literal"), (2, 7)),
    "decoder-size": (lambda: Decoder("size"), (2, 7)),
    "inner": (Inner, (2, 5, 6)),
}


def randomise(net):
    """Eval mode and random batch-norm parameters and statistics."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net.eval()


def build(name, seed=0, zoo=ZOO):
    """The network in eval mode with random parameters and statistics, and an input."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        make, shape = zoo[name]
        net = randomise(make())
        x = torch.randint(0, 11, (2, 9)) if shape == "tokens" else torch.randn(shape)
    return net, x


def zero_rows(net, member, dead):
    """Zero the filters of some channels and their biases, in place."""
    parameters, rows = dict(net.named_parameters()), torch.isin(member.index, dead).nonzero().flatten()
    weight, bias, axis = member.parameter, member.parameter.replace("weight", "bias"), member.axis
    if weight not in parameters:  # a head of nn.MultiheadAttention: its rows in the joined projection
        path, part, _ = weight.rsplit(".", 2)
        rows = rows + "qkv".index(part) * len(member.index)
        weight, bias = f"{path}.in_proj_weight", f"{path}.in_proj_bias"
    with torch.no_grad():
        parameters[weight].index_fill_(axis, rows, 0)
        if bias != weight and bias in parameters:
            width = len(
                parameters[bias]
            )  # a grouped transposed convolution names its outputs once for all groups
            times = max(width // len(member.index), 1) if axis == 1 else 1
            for i in range(times):
                parameters[bias][rows + i * len(member.index)] = 0


def zero_some(net, x, seed=0, share=0.5):
    """Zero a random share of the channels of every group, in place, with their biases and batch-norm
    shifts; their scores.
    """
    generator, scores = torch.Generator().manual_seed(seed), {}
    for group in coupled_groups(net, x):
        order = torch.randperm(group.channels, generator=generator)
        scores[group.layers] = torch.argsort(order).float()
        dead = order[: min(round(share * group.channels), group.channels - 1)]
        for member in (*group.members, *group.through):
            zero_rows(net, member, dead)
    return scores
