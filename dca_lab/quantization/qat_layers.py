r"""The layer of a network in training for integers: rounds its weights and its bias, then computes as ever.

.. math:: y = \hat w\,\hat x + \hat b, \qquad \hat b = s_x s_w\ \mathrm{round}(b / (s_x s_w))

The bias joins the integer sum, so it lies on the grid of the products. With 8 bits that grid is too fine to
matter; with 2 bits its steps may be a tenth of the activations, and a network that did not see this rounding
in training is not the network that runs.

Bias on the grid of the products: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018 (section 2.4). Steps of least squared error as a start for training:
Y. Bhalgat et al., "LSQ+", CVPR Workshops 2020 (section 3.3).

What this file is *not*: fast. A forward pass in training costs more than in floats, as rounding comes on top.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dca_lab.quantization.affine import levels
from dca_lab.quantization.lsq import LearnedStep, initial_step
from dca_lab.quantization.ste import round_ste

_ROOM = 2.0**30  # half of int32 for the bias, as in layer_codes
_CANDIDATES = 80


def least_error_step(weight: Tensor, *, bits: int) -> Tensor:
    """The step of each output channel that rounds its weights with the least squared error.

    Parameters
    ----------
    weight : Tensor
        (O, ...), float.
    bits : int
        2 to 8, on the symmetric levels.

    Returns
    -------
    Tensor
        (O, 1, ...), positive: the best of 80 clips between 10 and 100 percent of the channel's largest weight.

    Examples
    --------
    >>> weight = torch.tensor([[1.0, 1.0, -1.0, 1.4]])  # 2 bits: levels -1, 0, 1
    >>> round(least_error_step(weight, bits=2).item(), 1)
    1.1
    """
    q_min, q_max = levels(bits, signed=True, symmetric=True)
    flat = weight.detach().flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)  # any step rounds a channel of zeros without error
    best, least = largest / q_max, torch.full_like(largest, torch.inf)
    for share in torch.linspace(1.0, 0.1, _CANDIDATES):
        step = largest * share / q_max
        rounded = torch.clamp(torch.round(flat / step), q_min, q_max) * step
        error = (rounded - flat).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best.reshape(-1, *[1] * (weight.ndim - 1))


class QuantizedLayer(nn.Module):
    """A convolution or linear layer whose weights and bias pass through their grids on the way.

    Parameters
    ----------
    layer : nn.Module
        With a weight (O, ...) and perhaps a bias (O,); its parameters stay in floats and are trained.
    source : LearnedStep
        The grid of the layer's input.
    bits : int
        Of the weights.
    learned : bool
        Train the weights' steps as well.
    paper_start : bool
        Start from the steps of the LSQ paper instead of those of least squared error.

    Examples
    --------
    >>> source = LearnedStep(torch.tensor(0.1), bits=4)
    >>> layer = QuantizedLayer(nn.Linear(8, 3), source, bits=4)
    >>> layer(source(torch.rand(5, 8))).shape, layer.codes().dtype
    (torch.Size([5, 3]), torch.int8)
    """

    def __init__(
        self,
        layer: nn.Module,
        source: LearnedStep,
        *,
        bits: int,
        learned: bool = True,
        paper_start: bool = False,
    ):
        super().__init__()
        self.layer = layer
        self._source = (source,)  # in a tuple: a neighbour, not a part of this module
        q_max = levels(bits, signed=True, symmetric=True)[1]
        weight = layer.weight.detach()
        step = (
            initial_step(weight, q_max=q_max, axis=0) if paper_start else least_error_step(weight, bits=bits)
        )
        if layer.bias is not None:  # a dead channel keeps a step with which its bias fits 32 bits
            least = layer.bias.detach().abs() / (source.scale.detach() * _ROOM)
            step = torch.maximum(step, least.reshape(step.shape))
        self.grid = LearnedStep(step, bits=bits, signed=True, symmetric=True, learned=learned)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer computes on x with weights and bias on their grids."""
        values = {"weight": self.grid(self.layer.weight)}
        if self.layer.bias is not None:
            unit = (self.grid.scale.flatten() * self._source[0].scale).detach()
            values["bias"] = round_ste(self.layer.bias / unit) * unit
        return functional_call(self.layer, values, (x,))

    @torch.no_grad()
    def codes(self) -> Tensor:
        """The integers of the weights: int8, their shape. Times ``grid.scale`` they are the forward pass's weights."""
        q = torch.round(self.layer.weight / self.grid.scale)
        return torch.clamp(q, self.grid.q_min, self.grid.q_max).to(torch.int8)
