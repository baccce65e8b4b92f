"""Networks with one feature each that static quantization has to treat, small enough to check element by element."""

import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.models import LeNet5, LeNet300, ResNet18, SmallCNN


class Branches(nn.Module):
    """Two branches that only a concatenation reads, and the input itself as a third."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.fc = nn.Linear(13 * 4 * 4, 5)

    def forward(self, x):
        y = torch.cat([F.relu(self.left(x)), self.right(x), x], dim=1)
        return self.fc(F.max_pool2d(y, 2).reshape(x.size(0), -1))


class HardSwishResidual(nn.Module):
    """A depthwise-separable residual block with hard-swish, and a global mean."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        x = x + F.hardswish(self.pointwise(self.norm(self.depthwise(x))))
        return self.fc(x.mean((2, 3)))


class InPlace(nn.Module):
    """Overwrites tensors that are read again, shares a layer and a ReLU, drops out."""

    def __init__(self):
        super().__init__()
        self.conv, self.shared, self.act = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 6, 1),
            nn.ReLU(inplace=True),
        )
        self.norm1, self.norm2, self.drop = nn.BatchNorm2d(6), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.conv(x)
        y = self.act(x)  # from here on x is the same tensor as y
        y = self.norm1(self.shared(y))
        x += self.act(self.norm2(self.shared(y)))
        x = F.dropout(self.drop(x), 0.5, self.training)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class PreActivation(nn.Module):
    """Batch-norm before a convolution, a ReLU behind a pool, average pools, a grouped and a dilated convolution."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.wide = nn.Conv2d(3, 8, 3, padding=(2, 1), dilation=(2, 1), stride=(1, 2))
        self.grouped = nn.Conv2d(8, 4, 3, groups=4)
        self.pool = nn.AvgPool2d(2, stride=1, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu6(F.max_pool2d(self.wide(self.norm(x)), (2, 1)))
        x = torch.relu(self.pool(self.grouped(x)))
        return torch.sigmoid(self.fc(x.mean(dim=[-1, -2])))


class Unequal(nn.Module):
    """An adaptive max-pool whose windows differ in size, and an output that is no layer with weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3, bias=False), nn.AdaptiveMaxPool2d((4, 3))

    def forward(self, x):
        return self.pool(F.leaky_relu(self.conv(x), 0.1)).flatten(1)


class Functions(nn.Module):
    """One elementwise function after another; each must become a table."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(9))
        self.acts = nn.ModuleList(
            [
                nn.Sigmoid(),
                nn.Tanh(),
                nn.GELU("tanh"),
                nn.SiLU(),
                nn.LeakyReLU(0.3),
                nn.ELU(0.5),
                nn.Softplus(),
            ]
            + [nn.Hardsigmoid(), nn.Hardtanh(-0.5, 0.7)]
        )

    def forward(self, x):
        for layer, act in zip(self.layers, self.acts, strict=True):
            x = act(layer(x))
        return x


def _seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        for module in model.modules():  # statistics as if it had been trained
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return model


def inputs(shape, count=16, seed=1):
    """Normal inputs (count, *shape)."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


MAKERS = {
    "lenet300": (LeNet300, (1, 28, 28)),
    "lenet5": (LeNet5, (1, 28, 28)),
    "small-cnn": (SmallCNN, (1, 28, 28)),
    "resnet18": (lambda: ResNet18(width=4, in_channels=3), (3, 13, 13)),
    "branches": (Branches, (3, 8, 8)),
    "hardswish": (HardSwishResidual, (3, 9, 9)),
    "inplace": (InPlace, (3, 6, 6)),
    "preactivation": (PreActivation, (3, 10, 10)),
    "unequal": (Unequal, (3, 9, 9)),
    "functions": (Functions, (6,)),
}


def network(name, count=16):
    """A network in evaluation mode and inputs for it."""
    make, shape = MAKERS[name]
    return _seeded(make).eval(), inputs(shape, count)
