"""Small networks, one for each way in which channels depend on each other.

Each is the smallest that has the pattern of a family: dense connections by concatenation (G. Huang et al.,
CVPR 2017), grouped convolution (S. Xie et al., "Aggregated Residual Transformations", CVPR 2017),
depthwise convolution in inverted residuals (M. Sandler et al., "MobileNetV2", CVPR 2018), U-Net skips (O.
Ronneberger et al., MICCAI 2015), squeeze and excitation (J. Hu et al., CVPR 2018), channel shuffle (X.
Zhang et al., "ShuffleNet", CVPR 2018). They are *not* those networks: only their graphs matter here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, batch-norm, ReLU; the size stays where the stride is 1."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Classifier(nn.Module):
    """A stem, a body, a mean over the picture, a linear layer."""

    def __init__(self, *body: nn.Module, width: int):
        super().__init__()
        self.stem, self.body, self.head = conv(3, 16), nn.Sequential(*body), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    """Each layer reads everything before it."""

    def __init__(self, inputs: int, growth: int, layers: int):
        super().__init__()
        widths = [inputs + growth * i for i in range(layers)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, growth, 3, padding=1)) for w in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Aggregated(nn.Module):
    """A residual block whose middle convolution has groups."""

    def __init__(self, width: int, middle: int, groups: int):
        super().__init__()
        self.reduce, self.group = conv(width, middle, 1), conv(middle, middle, groups=groups)
        self.expand = nn.Sequential(nn.Conv2d(middle, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.expand(self.group(self.reduce(x))))


class Inverted(nn.Module):
    """Expand, depthwise convolution, project; a residual sum where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1):
        super().__init__()
        wide = 4 * inputs
        self.expand, self.depthwise = conv(inputs, wide, 1), conv(wide, wide, groups=wide, stride=stride)
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Shuffle(nn.Module):
    """Grouped 1x1 convolutions with their channels shuffled in between."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.groups, self.a = groups, conv(width, width, 1, groups=groups)
        self.b, self.c = conv(width, width, groups=width), conv(width, width, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        B, C, H, W = y.shape
        y = y.view(B, self.groups, C // self.groups, H, W).transpose(1, 2).reshape(B, C, H, W)
        return x + self.c(self.b(y))


class Excited(nn.Module):
    """Channels scaled by a gate that two linear layers compute from their means."""

    def __init__(self, width: int):
        super().__init__()
        self.conv, self.down, self.up = conv(width, width), nn.Linear(width, 8), nn.Linear(8, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class UNet(nn.Module):
    """Two levels down, two levels up, skips by concatenation; the output is a picture."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.deep = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.merge2, self.merge1, self.out = conv(32, 16), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(F.max_pool2d(fine, 2))
        x = self.up2(self.deep(F.max_pool2d(middle, 2)))
        x = self.up1(self.merge2(torch.cat([x, middle], dim=1)))
        return self.out(self.merge1(torch.cat([x, fine], dim=1)))


class Shared(nn.Module):
    """One convolution that runs three times."""

    def __init__(self):
        super().__init__()
        self.body, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = F.relu(self.norm(self.body(x)))
        return x


class Attention(nn.Module):
    """A pre-norm transformer block around torch's own fused attention layer, and a linear head."""

    def __init__(self, width: int = 32, heads: int = 4):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.fc1, self.fc2, self.head = nn.Linear(width, 64), nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))
