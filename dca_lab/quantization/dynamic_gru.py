r"""A GRU whose two matrix products run in int8, the state being quantized anew at every time step.

.. math:: r, z = \sigma(\cdot), \qquad n = \tanh(W_n \hat x_t + b + r \odot (U_n \hat h_{t-1} + c)),
          \qquad h_t = (1 - z) \odot n + z \odot h_{t-1}

The hats are 8-bit values: :math:`\hat x` is quantized once for the whole sequence, because all of it is known;
:math:`\hat h` step by step, because it is not. The gates and the state itself stay in float: rounding enters
each step through the product only and is forgotten at the rate at which the gate z forgets. The cell is that
of K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", EMNLP, 2014, in torch's form (r multiplies the product, bias included).

What this is *not*: fast. The loop over time is Python; `dynamic_onnx` tells what ONNX Runtime makes of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dca_lab.quantization.dynamic import DynamicLinear


class DynamicGRU(nn.Module):
    """`nn.GRU` with int8 weights; called and answering like it.

    Parameters
    ----------
    gru : nn.GRU
        Several layers and both directions are fine; its dropout is left out, as in evaluation.
    weight_bits, activations
        As for `DynamicLinear`.

    Examples
    --------
    >>> states, last = DynamicGRU(nn.GRU(3, 8, batch_first=True))(torch.zeros(5, 20, 3))
    >>> states.shape, last.shape
    (torch.Size([5, 20, 8]), torch.Size([1, 5, 8]))
    """

    def __init__(self, gru: nn.GRU, *, weight_bits: int = 8, activations: str = "tensor"):
        super().__init__()
        self.hidden_size, self.batch_first = gru.hidden_size, gru.batch_first
        self.directions = 1 + gru.bidirectional
        self.inputs, self.states = nn.ModuleList(), nn.ModuleList()  # one entry a layer and direction
        for layer in range(gru.num_layers):
            for direction in ("", "_reverse")[: self.directions]:
                for products, kind in ((self.inputs, "ih"), (self.states, "hh")):
                    weight = getattr(gru, f"weight_{kind}_l{layer}{direction}").detach()
                    bias = getattr(gru, f"bias_{kind}_l{layer}{direction}", None)
                    options = {"weight_bits": weight_bits, "activations": activations}
                    products.append(DynamicLinear(weight, bias, **options))

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States of the last layer at every step, and the last state of every layer.

        Parameters
        ----------
        x : Tensor
            (T, B, I), or (B, T, I) with ``batch_first``. Packed or unbatched sequences are refused.
        hx : Tensor, optional
            First states, (layers * directions, B, H); zeros by default.

        Returns
        -------
        states, last : Tensor
            (T, B, directions * H) or (B, T, directions * H), and (layers * directions, B, H).
        """
        if not isinstance(x, Tensor) or x.ndim != 3:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"a batch of sequences with three axes is needed, not {given}: pad and stack them"
            )
        x = x.transpose(0, 1) if self.batch_first else x  # (T, B, I)
        shape = (len(self.inputs), x.shape[1], self.hidden_size)
        hx = x.new_zeros(shape) if hx is None else hx
        if hx.shape != shape:
            raise ValueError(f"the first states have shape {shape}, not {tuple(hx.shape)}")
        last = []
        for layer in range(0, len(self.inputs), self.directions):
            both = [self._run(layer + d, x, hx[layer + d], backward=d == 1) for d in range(self.directions)]
            x = torch.cat([states for states, _ in both], dim=2)  # (T, B, directions * H)
            last += [state for _, state in both]
        return x.transpose(0, 1) if self.batch_first else x, torch.stack(last)

    def _run(self, index: int, x: Tensor, h: Tensor, *, backward: bool) -> tuple[Tensor, Tensor]:
        """One layer in one direction: states (T, B, H) in the order of time, and the state it ends with."""
        read, remember = self.inputs[index], self.states[index]
        gates = read(x)  # (T, B, 3 H): the whole sequence in one product
        states = torch.empty(*x.shape[:2], self.hidden_size)
        for t in reversed(range(len(x))) if backward else range(len(x)):
            r_x, z_x, n_x = gates[t].chunk(3, dim=1)  # torch stacks the gates in this order
            r_h, z_h, n_h = remember(h).chunk(3, dim=1)
            r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
            h = (1 - z) * torch.tanh(n_x + r * n_h) + z * h
            states[t] = h
        return states, h

    def extra_repr(self) -> str:
        """Sizes, as torch prints them."""
        return f"hidden_size={self.hidden_size}, batch_first={self.batch_first}"
