"""The network of the course's source document: one convolution, one pool, one linear layer.

    conv 3x3 -> ReLU -> max-pool 2 -> linear

The document writes it in Keras (`dca_lab.keras.digit_cnn` is that one), this is the same network in torch. It is *not*
`SmallCNN`, which has two convolutions and batch normalisation. Logits come out where the document applies a softmax:
the loss wants logits, and the largest one is the answer either way.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DigitCNN(nn.Module):
    """One convolution and a linear layer, for grey pictures of 28 x 28 pixels.

    Parameters
    ----------
    filters : int
        Filters of the convolution: 32 in the document.
    classes : int
        Number of logits.

    Examples
    --------
    >>> DigitCNN()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, filters: int = 32, *, classes: int = 10):
        super().__init__()
        self.conv = nn.Conv2d(1, filters, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(filters * 13 * 13, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of x (B, 1, 28, 28)."""
        x = self.pool(F.relu(self.conv(x)))  # (B, filters, 13, 13)
        return self.fc(torch.flatten(x, 1))  # (B, classes)
