"""Multiply-accumulates of each layer, from its shapes: the formulas that every table of costs rests on.

    linear         tokens * inputs * outputs
    convolution    outputs * (in_channels / groups) * kernel positions
    transposed     inputs  * (out_channels / groups) * kernel positions
    recurrent      tokens * gates * hidden * (inputs + hidden)          gates: LSTM 4, GRU 3, plain 1
    attention      heads * L * S * (key width + value width)            scores, then the weighted sum
    embedding      0: a row is looked up, nothing is multiplied

One multiply-accumulate (MAC) is one ``a += w * x``, hence two floating-point operations (FLOPs). Products
with the zeros of the padding count, as every dense kernel computes them, and so do products with pruned
(zero) weights and attention scores under a causal mask. What is *not* counted: bias adds, normalisation,
activations, softmax, pooling, which are linear in the activations and cost memory traffic rather than
arithmetic.

References
----------
Sze, Chen, Yang, Emer, "Efficient Processing of Deep Neural Networks: A Tutorial and Survey", Proc. IEEE
105(12), 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.rnn import PackedSequence

_GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


def _conv(layer: _ConvNd, inputs: tuple, output: Tensor) -> int:
    return output.numel() * layer.weight[0].numel()  # weight: (out, in / groups, *kernel)


def _conv_transposed(layer: _ConvTransposeNd, inputs: tuple, output: Tensor) -> int:
    return inputs[0].numel() * layer.weight[0].numel()  # weight: (in, out / groups, *kernel)


def _linear(layer: nn.Linear, inputs: tuple, output: Tensor) -> int:
    return output.numel() * layer.in_features  # any leading dimensions


def _bilinear(layer: nn.Bilinear, inputs: tuple, output: Tensor) -> int:
    # x1 W first, one product a weight; then the dot with x2
    return output.numel() * (layer.in1_features + 1) * layer.in2_features


def _gates(layer: nn.Module) -> int:
    return next(gates for kind, gates in _GATES.items() if isinstance(layer, kind))


def _recurrent(layer: nn.RNNBase, inputs: tuple, output: Any) -> int:
    x = inputs[0]
    tokens = x.data.shape[0] if isinstance(x, PackedSequence) else x.numel() // x.shape[-1]
    returned = layer.proj_size or layer.hidden_size  # an LSTM may project its hidden state
    directions = 2 if layer.bidirectional else 1
    macs = 0
    for depth in range(layer.num_layers):
        fed = layer.input_size if depth == 0 else directions * returned
        macs += directions * _gates(layer) * layer.hidden_size * (fed + returned)
        macs += directions * layer.hidden_size * layer.proj_size
    return tokens * macs


def _recurrent_cell(layer: nn.RNNCellBase, inputs: tuple, output: Any) -> int:
    tokens = inputs[0].numel() // layer.input_size
    return tokens * _gates(layer) * layer.hidden_size * (layer.input_size + layer.hidden_size)


def _multihead(layer: nn.MultiheadAttention, inputs: tuple, output: Any) -> int:
    query, key, value = inputs[:3]
    width, steps = layer.embed_dim, -2 if layer.batch_first or query.dim() == 2 else 0
    batch = 1 if query.dim() == 2 else query.shape[0 if layer.batch_first else 1]
    length, source = query.shape[steps], key.shape[steps]
    attended = source + (layer.bias_k is not None) + bool(layer.add_zero_attn)
    project = length * width * width + source * width * (layer.kdim + layer.vdim)
    attend = 2 * length * attended * width  # heads * (width / heads) = width
    return batch * (project + attend + length * width * width)


LAYERS: dict[type, Callable[[Any, tuple, Any], int]] = {
    _ConvTransposeNd: _conv_transposed,  # before _ConvNd, its base class
    _ConvNd: _conv,
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
    nn.MultiheadAttention: _multihead,
    nn.Embedding: lambda layer, inputs, output: 0,
    nn.EmbeddingBag: lambda layer, inputs, output: 0,
}


def layer_formula(layer: nn.Module) -> Callable[[Any, tuple, Any], int] | None:
    """The formula ``f(layer, inputs, output) -> MACs`` of a layer, or None for one that has none.

    A subclass with its own ``forward`` (a linear layer with adapters, say) has none: its inside is
    watched instead. A layer whose inside cannot be watched enters its formula in `LAYERS`.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Conv2d(3, 16, 3)
    >>> x = torch.zeros(1, 3, 8, 8)
    >>> layer_formula(layer)(layer, (x,), layer(x))    # 16 * 6 * 6 outputs of 27 products each
    15552
    """
    if type(layer) in LAYERS:
        return LAYERS[type(layer)]
    if not type(layer).forward.__module__.startswith("torch.nn."):
        return None
    return next((formula for kind, formula in LAYERS.items() if isinstance(layer, kind)), None)


def _einsum(arguments: tuple, output: Tensor) -> int:
    equation, *operands = arguments
    operands = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    if not isinstance(equation, str) or len(operands) > 2 or "." in equation:
        raise ValueError(f"cannot count einsum({equation!r}): use two operands and plain letters, or matmul")
    size: dict[str, int] = {}
    for letters, operand in zip(equation.replace(" ", "").split("->")[0].split(","), operands, strict=True):
        for letter, extent in zip(letters, operand.shape, strict=True):
            size[letter] = max(extent, size.get(letter, 1))
    return prod(size.values()) if len(operands) == 2 else 0


def _attention(arguments: tuple, output: Tensor) -> int:
    query, key = arguments[:2]
    scores = output.numel() // output.shape[-1] * key.shape[-2]  # batch * heads * L * S
    return scores * (query.shape[-1] + output.shape[-1])


FUNCTIONS: dict[str, Callable[[tuple, Tensor], int]] = {
    **dict.fromkeys(
        ("matmul", "mm", "bmm", "mv", "dot", "inner"), lambda a, out: out.numel() * a[0].shape[-1]
    ),
    "__rmatmul__": lambda a, out: out.numel() * a[1].shape[-1],
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), lambda a, out: out.numel() * a[1].shape[-1]),
    "_int_mm": lambda a, out: out.numel() * a[0].shape[-1],
    "linear": lambda a, out: out.numel() * a[0].shape[-1],
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), lambda a, out: out.numel() * a[1][0].numel()),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        lambda a, out: a[0].numel() * a[1][0].numel(),
    ),
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
}

# These multiply, and no formula above covers them: better an error than a total that is silently too small.
UNCOUNTED = frozenset(
    "tensordot linalg_multi_dot multi_dot chain_matmul bilinear addbmm cdist multi_head_attention_forward "
    "gru lstm rnn_tanh rnn_relu gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell".split()
)


def function_macs(name: str, arguments: tuple, output: Any) -> int | None:
    """MACs of a bare tensor function such as ``matmul`` by its name; None when it multiplies no matrices.

    Raises
    ------
    ValueError
        For a function that multiplies matrices and has no formula here (``tensordot`` and others).

    Examples
    --------
    >>> import torch
    >>> a, b = torch.zeros(5, 3), torch.zeros(3, 2)
    >>> function_macs("matmul", (a, b), a @ b)
    30
    """
    if name in UNCOUNTED:
        raise ValueError(
            f"no formula for the MACs of {name}: write it with matmul, or as a layer of torch.nn"
        )
    formula = FUNCTIONS.get(name)
    return None if formula is None else formula(arguments, output)
