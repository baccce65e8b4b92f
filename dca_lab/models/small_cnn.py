"""A small convolutional network with batch normalisation: the least that has every part a real one has.

    (conv 3x3 -> batch-norm -> ReLU -> max-pool) twice -> linear

Paper: S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", ICML, 2015 (why the normalisation stands between convolution and ReLU, and why the
convolutions then need no bias). The second pool is *adaptive*: its output is 7 x 7 for pictures of 28 pixels
(where it equals a max-pool of 2) and of 32 pixels (where neighbouring windows overlap), so that one linear
layer fits both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallCNN(nn.Module):
    """Two convolutions and a linear layer, for pictures of 28 or 32 pixels.

    Parameters
    ----------
    channels : tuple[int, int]
        Channels of the two convolutions.
    in_channels : int
        1 for grey pictures, 3 for colour.
    classes : int
        Number of logits.

    Examples
    --------
    >>> SmallCNN(in_channels=3)(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(self, *, channels: tuple[int, int] = (32, 64), in_channels: int = 1, classes: int = 10):
        super().__init__()
        if len(channels) != 2:
            raise ValueError(f"SmallCNN has two convolutions: give two widths, not channels={channels!r}")
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels[1])
        self.pool2 = nn.AdaptiveMaxPool2d(7)
        self.fc = nn.Linear(channels[1] * 7 * 7, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of x (B, in_channels, H, W), H = W = 28 or 32."""
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))  # (B, 32, H/2, W/2)
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))  # (B, 64, 7, 7)
        x = torch.flatten(x, 1)  # (B, 64 * 7 * 7)
        return self.fc(x)  # (B, classes)
