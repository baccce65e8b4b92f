r"""Sensitivity to bits: quantize the weight of one layer at a time, and see how far the outputs move.

.. math:: c_l(b) = D\bigl(f(x; w),\ f(x; w \text{ with } w_l \text{ at } b \text{ bits})\bigr)

D is the Kullback-Leibler divergence of the predicted distributions, or the squared error of the logits relative to
their size: both need inputs but no labels. A layer's cost is known without a search, L layers at B widths take L B
passes over the calibration data.

Sensitivities measured by the divergence of the outputs: Y. Cai et al., "ZeroQ: A Novel Zero Shot Quantization
Framework", CVPR 2020 (section 3.2).

What this file is *not*: it does not choose (:mod:`dca_lab.quantization.mixed_bits` does), and it knows nothing of
layers that are quantized together. Activations stay in floats: their bits are not in the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dca_lab.quantization.affine import fake_quantize
from dca_lab.quantization.granularity import weight_params
from dca_lab.training.evaluation import mode

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class BitSensitivity(Mapping):
    """Cost and bytes against bits, a layer at a time; a mapping of layer -> array of costs.

    Attributes
    ----------
    bits : tuple of int, B of them
    costs : dict[str, ndarray of shape (B,)]
        How far the outputs move when this layer alone has so many bits.
    sizes : dict[str, ndarray of shape (B,), int64]
        Bytes of the layer's weight at so many bits.
    """

    bits: tuple[int, ...]
    costs: dict[str, np.ndarray]
    sizes: dict[str, np.ndarray]

    def __getitem__(self, layer: str) -> np.ndarray:
        return self.costs[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.costs)

    def __len__(self) -> int:
        return len(self.costs)

    def bytes_of(self, allocation: Mapping[str, int]) -> int:
        """Bytes of an allocation of layer -> bits."""
        return sum(int(self.sizes[name][self.bits.index(b)]) for name, b in allocation.items())

    def cost_of(self, allocation: Mapping[str, int]) -> float:
        """The sum of costs that an allocation is predicted to have."""
        return math.fsum(float(self.costs[name][self.bits.index(b)]) for name, b in allocation.items())


def divergence(reference: Tensor, logits: Tensor) -> float:
    """Mean Kullback-Leibler divergence, in nats, of the predicted distributions (last axis) from the reference.

    Examples
    --------
    >>> divergence(torch.zeros(5, 3), torch.zeros(5, 3) + 7)
    0.0
    """
    log_p, log_q = (torch.log_softmax(t.flatten(0, -2).double(), -1) for t in (reference, logits))
    return float(F.kl_div(log_q, log_p, log_target=True, reduction="batchmean").clamp(min=0))


def squared_error(reference: Tensor, logits: Tensor) -> float:
    """||logits - reference||^2 / ||reference||^2, the inverse of the signal-to-noise ratio.

    Examples
    --------
    >>> squared_error(torch.ones(2, 2), torch.ones(2, 2) * 1.5)
    0.25
    """
    reference = reference.double()
    return float((logits.double() - reference).square().sum() / reference.square().sum().clamp(min=1e-300))


COSTS = {"divergence": divergence, "squared_error": squared_error}


def rounded_weight(weight: Tensor, bits: int) -> Tensor:
    """A weight (O, I, ...) on the symmetric grid of `bits` bits, one scale a channel from its largest magnitude.

    Examples
    --------
    >>> rounded_weight(torch.tensor([[1.0, 0.4, -0.7]]), 2).tolist()
    [[1.0, 0.0, -1.0]]
    """
    scale, zero_point = weight_params(weight, bits=bits)
    return fake_quantize(weight, scale, zero_point, bits=bits, signed=True, symmetric=True)


def packed_bytes(weight: Tensor, bits: int) -> int:
    """Bytes of a packed weight: its codes without gaps, and a float32 scale a channel.

    Examples
    --------
    >>> packed_bytes(torch.zeros(10, 100), 3)
    415
    """
    return math.ceil(weight.numel() * bits / 8) + 4 * len(weight)


@contextmanager
def _replaced(weight: nn.Parameter, value: Tensor) -> Iterator[None]:
    """Another value in a parameter, for a while."""
    before = weight.detach().clone()
    if value.shape != before.shape or not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"quantize must return finite values of shape {tuple(before.shape)}, not {tuple(value.shape)}"
        )
    try:
        with torch.no_grad():
            weight.copy_(value)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def bit_sensitivity(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    bits: Sequence[int] = (2, 3, 4, 6, 8),
    layers: Iterable[str] | None = None,
    cost: str | Callable[[Tensor, Tensor], float] = "divergence",
    quantize: Callable[[Tensor, int], Tensor] = rounded_weight,
    size: Callable[[Tensor, int], int] = packed_bytes,
    batch_size: int = 512,
) -> BitSensitivity:
    """Quantize one layer's weight at a time and compare the outputs.

    Parameters
    ----------
    model : nn.Module
        Evaluated in evaluation mode; it has its weights and modes back afterwards.
    calibration : Tensor or iterable of Tensor
        Inputs (N, ...), or batches of them; images, or tokens of a language model. No labels are needed, and no
        test data: an allocation chosen on it has seen it.
    bits : sequence of int
        The widths to choose from.
    layers : iterable of str, optional
        Names of modules that have a weight. Default: every convolution and linear layer.
    cost : {"divergence", "squared_error"} or callable
        ``cost(reference, outputs)`` of all outputs, in floats and quantized, (N, ..., classes): a number of which
        less is better. The loss: ``lambda _, outputs: float(F.cross_entropy(outputs, labels))``.
    quantize : callable
        ``quantize(weight, bits)`` gives the weight as it will be, dequantized: round-to-nearest per channel by
        default, or a group-wise quantizer.
    size : callable
        ``size(weight, bits)`` gives its bytes, which are to grow with the bits.
    batch_size : int
        Inputs at a time.

    Returns
    -------
    BitSensitivity

    Raises
    ------
    ValueError
        No inputs, no bits, an unknown cost or layer, outputs or costs that are not finite.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> result = bit_sensitivity(model, torch.randn(32, 8), bits=(2, 4, 8))
    >>> list(result), result["0"].shape
    (['0', '2'], (3,))
    """
    if not bits or len(set(bits)) != len(bits):
        raise ValueError(f"bits must hold at least one width, each once, got {tuple(bits)}")
    if not callable(cost) and cost not in COSTS:
        raise ValueError(f"cost={cost!r}: use one of {', '.join(COSTS)}, or a function (reference, outputs)")
    score = cost if callable(cost) else COSTS[cost]
    weights = _weights(model, layers)
    if not isinstance(calibration, Iterable):
        found = type(calibration).__name__
        raise ValueError(f"calibration is {found}: give inputs (N, ...), or batches of them")
    batches = list(calibration.split(batch_size)) if isinstance(calibration, Tensor) else list(calibration)
    if not sum(len(batch) for batch in batches):
        raise ValueError("the calibration data holds no example")
    costs: dict[str, np.ndarray] = {}
    with mode(model, training=False), torch.no_grad():
        reference = torch.cat([model(batch) for batch in batches])
        if not bool(torch.isfinite(reference).all()):
            raise ValueError("the model's outputs contain NaN or infinity before anything is quantized")
        for name, weight in weights.items():
            row = []
            for b in bits:
                with _replaced(weight, quantize(weight.detach().clone(), b)):
                    row.append(float(score(reference, torch.cat([model(batch) for batch in batches]))))
                if not math.isfinite(row[-1]):
                    raise ValueError(f"the cost of {name!r} at {b} bits is {row[-1]}: it must be finite")
            costs[name] = np.array(row)
    sizes = {name: np.array([size(w.detach(), b) for b in bits], np.int64) for name, w in weights.items()}
    return BitSensitivity(tuple(int(b) for b in bits), costs, sizes)


def _weights(model: nn.Module, layers: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """Layer name -> weight; a weight that two layers share is listed once."""
    modules = dict(model.named_modules())
    names = [n for n, m in modules.items() if isinstance(m, LAYERS)] if layers is None else list(layers)
    found: dict[str, nn.Parameter] = {}
    for name in names:
        weight = getattr(modules.get(name), "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2:
            raise ValueError(
                f"the model has no layer {name!r} with a weight matrix; see model.named_modules()"
            )
        if all(weight is not other for other in found.values()):
            found[name] = weight
    if not found:
        raise ValueError(f"{type(model).__name__} has no convolution or linear layer to quantize")
    return found
