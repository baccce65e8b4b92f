"""Weight-only quantization: a copy of a model whose linear layers keep their weights packed.

Generating one token reads every weight once and does one multiply-accumulate with it, so the bytes of the weights
are what a token costs; activations are few and stay float. Any quantizer that returns `GroupWeights` fits: round-to-
nearest is the default, GPTQ and AWQ fill the same format. E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh,
"GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR, 2023, sections 1 and 2,
gives the argument for weights only. It is *not* faster in PyTorch (see `packed_linear`), and embeddings, norms and
convolutions are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy

import torch
from torch import nn

from .group_weights import GroupWeights
from .nearest import group_grid, quantize_groupwise
from .packed_linear import PackedLinear

__all__ = [
    "GroupWeights",
    "PackedLinear",
    "dequantize_weights",
    "group_grid",
    "linear_names",
    "quantize_groupwise",
    "quantize_weights",
    "replace_linears",
]


def linear_names(model: nn.Module) -> list[str]:
    """The names of the model's linear layers, those that `quantize_weights` packs.

    Examples
    --------
    >>> linear_names(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    ['0', '2']
    """
    # Exactly nn.Linear: a subclass may compute something else with its weight.
    return [name for name, module in model.named_modules() if type(module) is nn.Linear]


def quantize_weights(
    model: nn.Module,
    *,
    bits: int = 4,
    group_size: int | None = 64,
    quantizer: Callable[..., GroupWeights] = quantize_groupwise,
    layers: Iterable[str] | None = None,
    rest: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy of the model whose linear layers are `PackedLinear`.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    bits : int
        2 to 8.
    group_size : int or None
        Inputs that share a scale; None: a whole row.
    quantizer : callable
        ``quantizer(weight, bits=..., group_size=...)`` returns `GroupWeights`.
    layers : names, optional
        Which linear layers; all without. Embeddings, norms and convolutions are never packed.
    rest : torch.dtype
        float16 rounds every other float parameter and buffer to a float16 value (it stays a float32 tensor),
        which `weight_file.save_quantized` then stores in two bytes without loss.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        When there is no linear layer, a name is not one, or a layer cannot be quantized; the text names it.

    Examples
    --------
    >>> small = quantize_weights(nn.Sequential(nn.Linear(128, 8), nn.ReLU()))
    >>> small[0]
    PackedLinear(in_features=128, out_features=8, bias=True, bits=4, group_size=64)
    """
    names = linear_names(model) if layers is None else list(layers)
    if not names:
        raise ValueError(f"{type(model).__name__}: there is no nn.Linear to quantize")
    weights = {}
    for name in names:
        try:
            weights[name] = quantizer(_linear(model, name).weight, bits=bits, group_size=group_size)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
    return replace_linears(model, weights, rest=rest)


def replace_linears(
    model: nn.Module,
    weights: Mapping[str, GroupWeights],
    *,
    rest: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy of the model with the linear layers that `weights` names replaced by packed ones.

    `rest` is that of `quantize_weights`. ValueError when a name is no linear layer or a shape differs.
    """
    if rest not in (torch.float16, torch.float32):
        raise ValueError(f"rest={rest}: choose torch.float32, or torch.float16 to round what is not packed")
    copy = deepcopy(model)
    packed = {}  # by the layer's identity: a layer that has two names stays one layer
    for name, each in weights.items():
        layer = _linear(copy, name)
        if layer.weight.shape != each.codes.shape:
            raise ValueError(
                f"layer {name!r} has weights {tuple(layer.weight.shape)}, not {tuple(each.codes.shape)}"
            )
        packed[id(layer)] = PackedLinear(each, layer.bias).train(layer.training)
    copy = _exchange(copy, packed)
    if rest == torch.float16:
        _round_rest(copy)
    return copy


def dequantize_weights(model: nn.Module) -> nn.Module:
    """A copy of a model with packed layers that has ``nn.Linear`` again, holding the rounded weights.

    It computes the same, takes the memory of floats, and can be exported or trained further.

    Examples
    --------
    >>> dequantize_weights(quantize_weights(nn.Sequential(nn.Linear(128, 8))))
    Sequential(
      (0): Linear(in_features=128, out_features=8, bias=True)
    )
    """
    copy = deepcopy(model)
    plain = {}
    for packed in (each for each in copy.modules() if isinstance(each, PackedLinear)):
        layer = nn.Linear(
            packed.in_features, packed.out_features, bias=packed.bias is not None, device="meta"
        )
        layer.weight, layer.bias = nn.Parameter(packed.weight), packed.bias
        plain[id(packed)] = layer.train(packed.training)
    return _exchange(copy, plain)


def _exchange(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Puts ``new[id(module)]`` in the place of each module named there, in place; the root may be one."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and id(module) in new:
            model.set_submodule(name, new[id(module)])
    return new.get(id(model), model)


def _round_rest(model: nn.Module) -> None:
    """Moves every float32 parameter and buffer that is not a packed layer's own onto the float16 grid."""
    own = {id(each.scale) for each in model.modules() if isinstance(each, PackedLinear)}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dtype == torch.float32 and id(tensor) not in own:
            tensor.data.copy_(tensor.data.half())
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds values beyond float16 (65504): use rest=torch.float32")


def _linear(model: nn.Module, name: str) -> nn.Linear:
    found = dict(model.named_modules(remove_duplicate=False)).get(name)
    if type(found) is not nn.Linear:
        what = "no layer" if found is None else type(found).__name__
        raise ValueError(f"{name!r} is {what}, not nn.Linear; there are: {', '.join(linear_names(model))}")
    return found
