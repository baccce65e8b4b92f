"""LeNet-300-100: three fully connected layers, the first network of most pruning papers.

    y = W3 relu(W2 relu(W1 x + b1) + b2) + b3,   784 -> 300 -> 100 -> 10,   266,610 parameters

Paper: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86(11), 1998. The original squashes with tanh; like the pruning literature, this one
uses ReLU. It is *not* convolutional: it sees 784 numbers, not a picture.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet300(nn.Module):
    """A multilayer perceptron with two hidden layers.

    Parameters
    ----------
    inputs : int
        Values an example holds, 28 * 28 for a digit.
    hidden : tuple[int, int]
        Widths of the two hidden layers.
    classes : int
        Number of logits.

    Examples
    --------
    >>> LeNet300()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, *, inputs: int = 784, hidden: tuple[int, int] = (300, 100), classes: int = 10):
        super().__init__()
        if len(hidden) != 2:
            raise ValueError(f"LeNet300 has two hidden layers: give two widths, not hidden={hidden!r}")
        self.fc1 = nn.Linear(inputs, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of x, either (B, 1, 28, 28) or (B, 784)."""
        x = torch.flatten(x, 1)  # (B, 784)
        x = F.relu(self.fc1(x))  # (B, 300)
        x = F.relu(self.fc2(x))  # (B, 100)
        return self.fc3(x)  # (B, classes)
