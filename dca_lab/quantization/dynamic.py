r"""Dynamic quantization: weights are int8 beforehand, activations become int8 anew in every call.

.. math:: y_o = s_x s_o \sum_i (q_i - z)\, w_{oi} + b_o
          = s_x s_o \Bigl(\sum_i q_i w_{oi} - z \sum_i w_{oi}\Bigr) + b_o

The range of the activations is read off the activations themselves, so there is no calibration and no surprise
in new data; the price is a pass over them before each product. Only the product runs in integers. Layer
normalisation, softmax, embeddings and what stands between the products stay in float: this is how transformers
and recurrent networks are quantized, whose weights are many and whose activations jump about.

One scale for the whole tensor (``activations="tensor"``) makes an answer depend a little on the rest of its
batch; one for each row ("row") does not, and follows tokens of unequal size: Z. Yao et al., "ZeroQuant:
Efficient and Affordable Post-Training Quantization for Large-Scale Transformers", NeurIPS, 2022.

The int32 sums here are exact, on any processor. What this is *not*: the fast form, which is `dynamic_onnx`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dca_lab.quantization._checks import check_bits
from dca_lab.quantization._integer_product import integer_product
from dca_lab.quantization.affine import affine_params, quantize
from dca_lab.quantization.granularity import weight_params

ACTIVATIONS = ("tensor", "row")


class DynamicLinear(nn.Module):
    """A linear layer with int8 weights that quantizes its input when it is called.

    Parameters
    ----------
    weight : Tensor
        float, (O, I).
    bias : Tensor, optional
        float, (O,); stays float.
    weight_bits : int
        2 to 8: the weights lie in +-(2^(bits-1) - 1), and take a byte each all the same.
    activations : {"tensor", "row"}
        What shares a scale: all activations of a call, or those of one row (the last axis).

    Attributes
    ----------
    weight : Tensor
        int8, (O, I).
    weight_scale : Tensor
        float32, (O,).
    weight_sum : Tensor
        int32, (O,): sums of the integer rows, which correct for the zero point of the input.

    Raises
    ------
    ValueError
        For a weight that is no matrix or holds NaN, or an impossible setting.

    Examples
    --------
    >>> layer = DynamicLinear(torch.eye(3))
    >>> layer(torch.tensor([[0.0, 127.5, 255.0]])).shape, layer.weight.dtype
    (torch.Size([1, 3]), torch.int8)
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        weight_bits: int = 8,
        activations: str = "tensor",
    ):
        super().__init__()
        if weight.ndim != 2 or not weight.numel():
            raise ValueError(f"weight: a matrix (O, I) is needed, not shape {tuple(weight.shape)}")
        if bias is not None and not bool(torch.isfinite(bias).all()):
            raise ValueError("bias: it holds NaN or infinite values")
        weight_bits = check_bits("weight_bits", weight_bits)
        if activations not in ACTIVATIONS:
            raise ValueError(f"activations={activations!r}: choose one of {ACTIVATIONS}")
        self.activations = activations
        scale, zero_point = weight_params(weight, bits=weight_bits, granularity="channel")  # (O, 1)
        levels = quantize(weight, scale, zero_point, bits=weight_bits, symmetric=True)
        self.register_buffer("weight", levels.to(torch.int8))
        self.register_buffer("weight_scale", scale.flatten())
        self.register_buffer("weight_sum", levels.sum(1, dtype=torch.int32))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O), both float32."""
        outputs, inputs = self.weight.shape
        if x.shape[-1:] != (inputs,):
            raise ValueError(
                f"the last axis of the input must hold {inputs} values, not shape {tuple(x.shape)}"
            )
        rows = x.detach().reshape(-1, inputs)  # (M, I)
        if len(rows) == 0:
            return x.new_zeros(*x.shape[:-1], outputs)
        low, high = rows.aminmax(dim=1, keepdim=True) if self.activations == "row" else rows.aminmax()
        scale, zero_point = affine_params(low, high)  # (M, 1) or a number
        levels = quantize(rows, scale, zero_point)  # 0 .. 255
        # The product wants signed bytes: 128 less, both in the level and in the zero point.
        sums = integer_product((levels - 128).to(torch.int8), self.weight)
        sums += (128 - zero_point) * self.weight_sum  # (M, O) int32
        y = sums * (scale * self.weight_scale)
        return (y if self.bias is None else y + self.bias).reshape(*x.shape[:-1], outputs)

    def extra_repr(self) -> str:
        """Sizes, as torch prints them."""
        outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}, activations={self.activations!r}"


def quantize_dynamic(
    model: nn.Module,
    *,
    layers: type[nn.Module] | Iterable[type[nn.Module]] = (nn.Linear, nn.GRU),
    weight_bits: int = 8,
    activations: str = "tensor",
) -> nn.Module:
    """A copy of the model whose linear and recurrent layers multiply in int8.

    Parameters
    ----------
    model : nn.Module
        Left untouched.
    layers : type or iterable of types
        Which layers to exchange: ``nn.Linear``, ``nn.GRU`` or both. All others are copied as they are.
    weight_bits : int
        2 to 8.
    activations : {"tensor", "row"}
        See `DynamicLinear`.

    Returns
    -------
    nn.Module
        In evaluation mode, for inference only: no gradient passes through the integers.

    Raises
    ------
    ValueError
        If the model has no such layer, a weight holds NaN, or a type in `layers` has no dynamic form.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> quantize_dynamic(model)
    Sequential(
      (0): DynamicLinear(8, 4, activations='tensor')
      (1): ReLU()
      (2): DynamicLinear(4, 2, activations='tensor')
    )
    """
    from dca_lab.quantization.dynamic_gru import DynamicGRU  # it is made of the layers above

    check_bits("weight_bits", weight_bits)
    layers = tuple(layers) if isinstance(layers, Iterable) else (layers,)
    if not layers or not all(layer in (nn.Linear, nn.GRU) for layer in layers):
        names = [getattr(layer, "__name__", repr(layer)) for layer in layers]
        raise ValueError(f"layers={names}: dynamic quantization knows nn.Linear and nn.GRU")
    exchanged: dict[nn.Module, nn.Module] = {}  # a layer that stands in two places becomes one layer again
    for name, module in model.named_modules():
        # nn.MultiheadAttention hands the weights of its linear layer to a function: that one must stay
        if not isinstance(module, layers) or type(module).__name__ == "NonDynamicallyQuantizableLinear":
            continue
        settings = {"weight_bits": weight_bits, "activations": activations}
        try:
            if isinstance(module, nn.GRU):
                exchanged[module] = DynamicGRU(module, **settings)
            else:
                exchanged[module] = DynamicLinear(module.weight.detach(), module.bias, **settings)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
    if not exchanged:
        raise ValueError(
            f"{type(model).__name__} has none of the layers {[layer.__name__ for layer in layers]}"
        )
    memo = {id(layer): new for layer, new in exchanged.items()}  # deepcopy takes these for done
    return copy.deepcopy(model, memo).eval()
