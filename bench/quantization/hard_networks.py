"""Three small classifiers whose ranges are hard for a quantizer that has one grid a tensor.

    relu(f x) = f relu(x)  for f > 0

so a channel can be written f times larger and read f times smaller while the network computes the same: `plant`
does that with powers of two, which float arithmetic multiplies without rounding. Training does it by itself to
some degree; planting makes the degree known.

- ``unequal``: a residual network (ResNet-18, width 8); within each block, channels are planted 1 to 128 times larger.
- ``hardswish``: inverted residual blocks with depthwise convolutions and hard-swish, as in A. Howard et al.,
  "Searching for MobileNetV3", ICCV, 2019. Nothing passes through hard-swish, so the sums of the last residual
  blocks, which are linear, are planted. With ``planted=False`` nothing is, and it is still the hardest to get right.
- ``branches``: two branches are concatenated, twice; the first is planted 64 times larger than the second.

They are *not* good classifiers, only good enough (80 to 85 % on Fashion-MNIST after half a minute of training) for a
loss of half a point to mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dca_lab.models import ResNet18
from dca_lab.training import fit


def plant(writers: Sequence[nn.BatchNorm2d], readers: Sequence[nn.Module], factors: Tensor) -> None:
    """Multiply what some batch-norm layers write by `factors` (C,), and divide what the readers read, in place.

    A reader of more channels than C (behind a concatenation) reads these first.
    """
    with torch.no_grad():
        for norm in writers:
            norm.weight.mul_(factors)
            norm.bias.mul_(factors)
        for reader in readers:
            reader.weight[:, : len(factors)] /= factors[:, None, None]


def powers(channels: int, seed: int) -> Tensor:
    """Factors 1, 2, 4 ... 128, drawn at random: (channels,)."""
    return 2.0 ** torch.randint(0, 8, (channels,), generator=torch.Generator().manual_seed(seed))


def layer(inputs: int, outputs: int, kernel: int = 3, **settings) -> list[nn.Module]:
    """A convolution that keeps the size where the stride is 1, and its batch-norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **settings)
    return [conv, nn.BatchNorm2d(outputs)]


class Inverted(nn.Module):
    """Expand, hard-swish, depthwise convolution, hard-swish, project; a residual sum where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1):
        super().__init__()
        wide = 4 * inputs
        self.expand = nn.Sequential(*layer(inputs, wide, 1), nn.Hardswish())
        self.depthwise = nn.Sequential(*layer(wide, wide, stride=stride, groups=wide), nn.Hardswish())
        self.project = nn.Sequential(*layer(wide, outputs, 1))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class HardSwish(nn.Module):
    """A small relative of MobileNetV3: a stem, four inverted residual blocks, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*layer(1, 16, stride=2), nn.Hardswish())
        self.body = nn.Sequential(
            Inverted(16, 16), Inverted(16, 24, stride=2), Inverted(24, 24), Inverted(24, 24)
        )
        self.last = nn.Sequential(*layer(24, 96, 1), nn.Hardswish())
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.body(self.stem(x))).mean((2, 3)))


class Branches(nn.Module):
    """Twice: a 3x3 convolution beside a 5x5 depthwise one, concatenated, and a convolution that reads both."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*layer(1, 8, stride=2), nn.ReLU())
        self.wide, self.deep, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for inputs, width in ((8, 16), (32, 32)):
            self.wide.append(nn.Sequential(*layer(inputs, width), nn.ReLU()))
            pointwise, depthwise = layer(inputs, width, 1), layer(width, width, 5, groups=width)
            self.deep.append(nn.Sequential(*pointwise, nn.ReLU(), *depthwise, nn.ReLU()))
            self.join.append(nn.Sequential(*layer(2 * width, 2 * width, stride=2), nn.ReLU()))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for wide, deep, join in zip(self.wide, self.deep, self.join, strict=True):
            x = join(torch.cat([wide(x), deep(x)], dim=1))
        return self.head(x.mean((2, 3)))


def plant_unequal(model: ResNet18, seed: int = 0) -> None:
    """Unequal channels between the two convolutions of every block."""
    blocks = [b for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for b in stage]
    for i, block in enumerate(blocks):
        plant([block.bn1], [block.conv2], powers(block.conv1.out_channels, seed + i))


def plant_hardswish(model: HardSwish, seed: int = 0) -> None:
    """Unequal channels on the residual sums that begin behind the second block: three write them, three read them."""
    _, second, third, fourth = model.body
    writers = [block.project[1] for block in (second, third, fourth)]
    plant(writers, [third.expand[0], fourth.expand[0], model.last[0]], powers(24, seed))


def plant_branches(model: Branches, seed: int = 0) -> None:
    """The first branch 64 times as large as the second."""
    for wide, join in zip(model.wide, model.join, strict=True):
        plant([wide[1]], [join[0]], torch.full((wide[0].out_channels,), 64.0))


HARD: dict[str, tuple[Callable[[], nn.Module], Callable[..., None]]] = {
    "unequal": (lambda: ResNet18(width=8), plant_unequal),
    "hardswish": (HardSwish, plant_hardswish),
    "branches": (Branches, plant_branches),
}


def train_hard(
    name: str, x: Tensor, y: Tensor, *, seed: int = 0, epochs: int = 3, planted: bool = True
) -> nn.Module:
    """One of the three, trained, then planted, in evaluation mode.

    Parameters
    ----------
    name : str
        A key of `HARD`.
    x, y : Tensor
        (N, 1, 28, 28) and (N,): 8000 pictures and 3 epochs take about 25 seconds on one core.
    seed : int
        Of the initial weights, the order of the examples, and the factors.
    epochs : int
    planted : bool
        Whether the channels are rescaled after training, which changes no logit by more than float32 rounding.
    """
    make, make_unequal = HARD[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    fit(model, x, y, epochs=epochs, lr=2e-3, seed=seed, progress=False)
    if planted:
        make_unequal(model, seed=seed)
    return model.eval()
