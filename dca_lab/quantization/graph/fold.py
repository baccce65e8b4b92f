"""Batch normalisation folded into the layer before it: exact, and free at run time.

In evaluation mode a batch-norm layer is affine, channel by channel, so that behind a convolution or a linear
layer (W, b) it can be computed beforehand:

    g = gamma / sqrt(var + eps),      W' = g W,      b' = g (b - mean) + beta

B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR, 2018 (section 3.2). A batch-norm with nothing before it to fold into (a pre-activation
residual block) becomes a depthwise 1 x 1 convolution, which is the same map. It is *not* an approximation;
what it changes is the range of the weights of each channel, hence the quantization.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from .errors import QuantizationError


def fold_batchnorm(
    weight: Tensor,
    bias: Tensor | None,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
) -> tuple[Tensor, Tensor]:
    """The weight and bias of a layer that does the work of a layer and of the batch-norm behind it.

    Parameters
    ----------
    weight : Tensor
        (O, ...), of a convolution or a linear layer.
    bias : Tensor, optional
        (O,).
    norm : nn.BatchNorm1d or nn.BatchNorm2d
        With running statistics.

    Returns
    -------
    tuple of Tensor
        Weight (O, ...) and bias (O,), in the dtype of `weight`; computed in float64.

    Examples
    --------
    >>> weight, bias = fold_batchnorm(torch.ones(2, 3), None, nn.BatchNorm1d(2).eval())
    >>> weight.shape, bias.shape
    (torch.Size([2, 3]), torch.Size([2]))
    """
    mean, gain = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if norm.affine:
        gain, shift = gain * norm.weight.detach().double(), norm.bias.detach().double()
    before = torch.zeros_like(mean) if bias is None else bias.detach().double()
    folded = weight.detach().double() * gain.reshape(-1, *[1] * (weight.dim() - 1))
    return folded.to(weight.dtype), (gain * (before - mean) + shift).to(weight.dtype)


def fold_all(graph: fx.GraphModule) -> None:
    """Fold every batch-norm of a traced network, in place; one without a layer before it becomes a convolution.

    The shapes must have been noted.

    Raises
    ------
    QuantizationError
        For a batch-norm that has no running statistics, or one on vectors that no linear layer makes.
    """
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        if norm.running_mean is None:
            raise QuantizationError(
                f"layer {node.target!r} normalises by the statistics of its batch: set track_running_stats=True"
            )
        source = node.args[0]
        layer = modules.get(source.target) if source.op == "call_module" else None
        # a linear layer on (B, T, C) has its channels last, where this batch-norm does not look for them
        fits = isinstance(layer, nn.Conv2d) or len(node.meta["tensor_meta"].shape) == 2
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and fits and len(source.users) == 1:
            weight, bias = fold_batchnorm(layer.weight, layer.bias, norm)
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
            graph.delete_submodule(node.target)
        elif isinstance(norm, nn.BatchNorm2d):
            channels = norm.num_features
            conv = nn.Conv2d(channels, channels, 1, groups=channels)
            weight, bias = fold_batchnorm(torch.ones_like(conv.weight), None, norm)
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
            graph.set_submodule(node.target, conv)
        else:
            raise QuantizationError(
                f"layer {node.target!r} follows no linear layer that it could be folded into"
            )
    graph.recompile()
