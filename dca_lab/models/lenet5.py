"""LeNet-5, the Caffe variant that the compression literature measures.

    conv 20@5x5 -> max-pool 2 -> conv 50@5x5 -> max-pool 2 -> linear 500 -> ReLU -> linear 10

431,080 parameters: 520 + 25,050 + 400,500 + 5,010.
Papers: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86(11), 1998; the variant is the one that ships with Caffe: Y. Jia et al., "Caffe:
Convolutional Architecture for Fast Feature Embedding", ACM Multimedia, 2014. As there, the only ReLU stands
after the first linear layer: max-pooling is the non-linearity of the convolutions. It is *not* the network of
1998, which has 60 thousand parameters.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet5(nn.Module):
    """A small convolutional network for digits of 28 x 28 pixels.

    Parameters
    ----------
    classes : int
        Number of logits.

    Examples
    --------
    >>> LeNet5()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, *, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of x (B, 1, 28, 28)."""
        x = self.pool(self.conv1(x))  # (B, 20, 12, 12)
        x = self.pool(self.conv2(x))  # (B, 50, 4, 4)
        x = torch.flatten(x, 1)  # (B, 800)
        x = F.relu(self.fc1(x))  # (B, 500)
        return self.fc2(x)  # (B, classes)
