"""Random small networks of the patterns through which a channel's factor may or may not pass."""

import torch
from torch import nn


def conv(inputs, outputs, kernel=3, **settings):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)


class Residual(nn.Module):
    def __init__(self, width, last):
        super().__init__()
        self.body = nn.Sequential(conv(width, 6), nn.ReLU(), conv(6, width))
        self.last = last

    def forward(self, x):
        return self.last(x + self.body(x))


class Concatenation(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a = nn.Sequential(conv(width, 3), nn.ReLU())
        self.b = nn.Sequential(conv(width, width - 3, 1), nn.LeakyReLU(0.1))

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], dim=1)


PARTS = {
    "conv": lambda w: nn.Sequential(conv(w, w), nn.ReLU()),
    "grouped": lambda w: nn.Sequential(conv(w, w, groups=2), nn.ReLU()),
    "depthwise": lambda w: nn.Sequential(conv(w, w, groups=w), nn.ReLU()),
    "residual": lambda w: Residual(w, nn.ReLU()),
    "linear residual": lambda w: Residual(w, nn.Identity()),
    "cat": Concatenation,
    "max-pool": lambda w: nn.MaxPool2d(3, 1, 1),
    "average": lambda w: nn.AvgPool2d(3, 1, 1),
    "relu6": lambda w: nn.Sequential(conv(w, w), nn.ReLU6()),
    "hard-swish": lambda w: nn.Sequential(conv(w, w), nn.Hardswish()),
    "norm": lambda w: nn.Sequential(conv(w, w, bias=False), nn.BatchNorm2d(w), nn.ReLU()),
}
ENDS = {
    "flatten": lambda w: nn.Sequential(
        nn.MaxPool2d(4), nn.Flatten(), nn.Linear(4 * w, 5), nn.ReLU(), nn.Linear(5, 3)
    ),
    "mean": lambda w: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, 3)),
}


def network(parts, end, seed, width=6):
    """A network with channels that are dead, and channels up to a hundred times larger than their neighbours."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(conv(1, width), nn.ReLU(), *(PARTS[p](width) for p in parts), ENDS[end](width))
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                count = layer.out_channels
                factor = 10 ** torch.empty(count).uniform_(-1, 1, generator=generator)
                factor[torch.rand(count, generator=generator) < 0.1] = 0.0
                layer.weight.mul_(factor[:, None, None, None])
                if layer.bias is not None:
                    layer.bias.mul_(factor)
    return model.eval(), 5 * torch.randn(6, 1, 8, 8, generator=generator)  # reaches the clip of ReLU6
