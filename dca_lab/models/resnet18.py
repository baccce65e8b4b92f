"""ResNet-18 for small pictures: eight residual blocks of two convolutions.

    block(x) = relu(F(x) + downsample(x)),   F = conv-bn-relu-conv-bn,
    downsample = identity, or conv 1x1 - bn where the shape changes

Paper: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR, 2016 (Table 1,
18-layer). As usual for pictures of 28 or 32 pixels, the stem is one 3x3 convolution without max-pooling. It
is *not* the ResNet-20 that the same paper trains on CIFAR-10, which has 0.27 million parameters; this one has
11.2 million at width 64.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `downsample` is an identity where the shapes agree.

    Examples
    --------
    >>> BasicBlock(8, 16, stride=2)(torch.zeros(5, 8, 28, 28)).shape
    torch.Size([5, 16, 14, 14])
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x)))  # (B, outputs, H / stride, W / stride)
        y = self.bn2(self.conv2(y))  # the same
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """Four stages of two residual blocks; all but the first halve the picture and double the channels.

    Parameters
    ----------
    width : int
        Channels of the first stage: 64 in the paper, 8 or 16 for a quick one.
    in_channels : int
        1 for grey pictures, 3 for colour.
    classes : int
        Number of logits.
    stem_stride : int
        2 halves the picture in the first convolution, as the paper's stem does: a quarter of the work.

    Examples
    --------
    >>> ResNet18(width=8)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, *, width: int = 64, in_channels: int = 1, classes: int = 10, stem_stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        w = width
        self.layer1 = nn.Sequential(BasicBlock(w, w), BasicBlock(w, w))
        self.layer2 = nn.Sequential(BasicBlock(w, 2 * w, stride=2), BasicBlock(2 * w, 2 * w))
        self.layer3 = nn.Sequential(BasicBlock(2 * w, 4 * w, stride=2), BasicBlock(4 * w, 4 * w))
        self.layer4 = nn.Sequential(BasicBlock(4 * w, 8 * w, stride=2), BasicBlock(8 * w, 8 * w))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of x (B, in_channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))  # (B, width, 28, 28), or 14 x 14 with a stem_stride of 2
        x = self.layer1(x)  # (B, width, 28, 28)
        x = self.layer2(x)  # (B, 2 width, 14, 14)
        x = self.layer3(x)  # (B, 4 width, 7, 7)
        x = self.layer4(x)  # (B, 8 width, 4, 4)
        x = torch.flatten(self.pool(x), 1)  # (B, 8 width)
        return self.fc(x)  # (B, classes)
