"""Small networks that between them hold every operation that a statically quantized network can have."""

import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.models import LeNet5, LeNet300, ResNet18, SmallCNN


class HardSwishBlock(nn.Module):
    """A residual block with hard-swish and a depthwise convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.pointwise = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.hardswish(self.bn(self.stem(x)))
        x = F.hardswish(x + self.pointwise(F.hardswish(self.depthwise(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Branches(nn.Module):
    """Two branches on unlike grids that are joined; average-pooling with padding; dilation and groups."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 4, 5, padding=2)
        self.c, self.d = nn.Conv2d(10, 8, 3, stride=2, groups=2), nn.Conv2d(8, 8, 3, dilation=2, padding=2)
        self.fc = nn.Linear(8 * 9, 5)

    def forward(self, x):
        x = torch.cat(
            [
                F.relu(self.a(x)),
                torch.sigmoid(self.b(x)),
            ],
            1,
        )
        x = F.leaky_relu(self.d(F.relu(self.c(x))))
        return self.fc(F.avg_pool2d(x, 3, stride=2, padding=1).flatten(1))


class Dense(nn.Module):
    """Linear layers on three axes, and a mean over the pixels that keeps them."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)))  # ends with a convolution: scores for every pixel


class Tokens(nn.Module):
    """Linear layers on three axes."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


class Ends(nn.Module):
    """Ends with an addition, whose levels are the result."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x):
        return self.a(x) + F.relu(self.b(x))


SHAPES = {
    "lenet-300": (LeNet300, (1, 28, 28)),
    "lenet-5": (LeNet5, (1, 28, 28)),
    "small-cnn": (SmallCNN, (1, 28, 28)),
    "small-cnn-32": (SmallCNN, (1, 32, 32)),  # adaptive pooling over windows of unequal size
    "resnet-18": (lambda: ResNet18(width=8), (1, 28, 28)),
    "hard-swish": (HardSwishBlock, (1, 12, 12)),
    "branches": (Branches, (1, 13, 13)),
    "dense": (Dense, (1, 8, 8)),
    "tokens": (Tokens, (5, 6)),
    "ends": (Ends, (6,)),
}


def network(name, examples=48):
    """The network with random weights and batch-norm statistics of its own, and examples for it."""
    make, shape = SHAPES[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model, x = make(), torch.rand(examples, *shape) * 2 - 0.5
    with torch.no_grad():
        for _ in range(3):
            model.train()(x)
    return model.eval(), x
