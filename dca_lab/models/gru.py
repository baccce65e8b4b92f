"""A classifier of sequences: one gated recurrent unit layer, then a linear layer on its last state.

    z = sigmoid(Wz x + Uz h)            r = sigmoid(Wr x + Ur h)
    n = tanh(Wn x + r * (Un h))         h' = (1 - z) * n + z * h

(biases left out; torch's `weight_ih` stacks the rows of r, z, n in this order, `weight_hh` likewise). Paper:
K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", EMNLP, 2014. It is *not* length-aware: the state after the last of the T steps is classified, so
pad shorter sequences at the front.
"""

from torch import Tensor, nn


class GRUClassifier(nn.Module):
    """Reads a sequence step by step and classifies the last hidden state.

    Parameters
    ----------
    inputs : int
        Values a time step holds.
    hidden : int
        Hidden units.
    classes : int
        Number of logits.

    Examples
    --------
    >>> import torch
    >>> GRUClassifier(inputs=3)(torch.zeros(5, 20, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(self, *, inputs: int, hidden: int = 64, classes: int = 2):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of x (B, T, inputs), float; shorter sequences are padded at the front."""
        states, _ = self.gru(x)  # (B, T, hidden)
        return self.fc(states[:, -1])  # (B, hidden) -> (B, classes)
