r"""GPTQ: round the weights one input at a time, and let the inputs that are still free make up for the error.

A layer's squared error on calibration inputs X is, for each output row w,

.. math:: \lVert X w - X \hat w \rVert^2 = (w - \hat w)^T H\, (w - \hat w), \qquad H = X^T X .

Rounding :math:`w_j` to :math:`\hat w_j` costs least if the free weights F move as Optimal Brain Surgeon says:

.. math:: \delta_F = -\frac{w_j - \hat w_j}{[H_F^{-1}]_{jj}}\, [H_F^{-1}]_{j,F},
   \qquad \frac{[H_F^{-1}]_{j,F}}{[H_F^{-1}]_{jj}} = \frac{U_{j,F}}{U_{jj}}, \qquad H^{-1} = U^T U .

All rows take the inputs in one order, so one triangular U (of Cholesky) holds what each step needs, and nothing is
eliminated step by step. Correlated inputs share what one of them lost; if H is diagonal, GPTQ *is* rounding to nearest.

E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023; the step: E. Frantar, D. Alistarh, "Optimal Brain Compression", NeurIPS 2022.

What this file is *not*: the best rounding (a search over all of them; this is one greedy pass, and each scale is taken
from the range of its group). The paper's lazy batches of 128 columns, which feed a GPU, are left out: same result.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from dca_lab.quantization._calibration import checked_hessian, input_batches, linear_layers, next_hessians
from dca_lab.quantization.group_weights import GroupWeights
from dca_lab.quantization.nearest import group_grid, quantize_groupwise
from dca_lab.quantization.weight_only import replace_linears


def gptq(
    weight: Tensor,
    hessian: Tensor,
    *,
    bits: int = 4,
    group_size: int | None = 64,
    symmetric: bool = False,
    damping: float = 0.01,
    act_order: bool = False,
) -> GroupWeights:
    """Quantize one linear layer's weight.

    Parameters
    ----------
    weight : Tensor
        (O, I), finite. Not changed.
    hessian : Tensor
        (I, I): X^T X of what the layer receives; its scale does not matter.
    bits, group_size, symmetric
        The grid, as for `quantize_groupwise`. A group's scale is taken from the weights as they are when its first
        input is due, with all corrections so far.
    damping : float
        Added to the diagonal of H, as a share of its mean: fewer tokens than inputs need it.
    act_order : bool
        Take the inputs in the order of falling H_jj, so that those that matter most are rounded while most others can
        still correct them. Scales are then those of the original weights ("static groups"), and the codes stay where
        they were: the packed format does not change.

    Returns
    -------
    GroupWeights

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, a negative damping, or a singular H.

    References
    ----------
    Frantar, Ashkboos, Hoefler, Alistarh, ICLR 2023, algorithm 1.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(500, 64, generator=generator) @ torch.randn(64, 64, generator=generator)
    >>> weight = torch.randn(8, 64, generator=generator)
    >>> error = lambda found: float((x @ (weight - found.dequantize()).T).square().sum())
    >>> found, nearest = gptq(weight, x.T @ x, bits=3), quantize_groupwise(weight, bits=3)
    >>> found.codes.shape, error(found) < error(nearest)
    (torch.Size([8, 64]), True)
    """
    start = quantize_groupwise(
        weight, bits=bits, group_size=group_size, symmetric=symmetric
    )  # checks the weight
    size, top = start.group_size, 2**bits - 1
    scale, zero_point = start.scale, start.zero_point  # (O, G)
    hessian = _checked(hessian, weight.shape[1], damping)
    order = (
        hessian.diagonal().argsort(descending=True, stable=True) if act_order else torch.arange(len(hessian))
    )
    factor = _inverse_factor(hessian[order][:, order], damping)  # U, of the inputs in the order of rounding
    free = weight.detach().double()[:, order]  # a copy: what is left of it to the right is corrected as we go
    codes = torch.empty_like(start.codes)
    for step, j in enumerate(order.tolist()):
        group = j // size
        if not act_order and j % size == 0:
            parts = free[:, j : j + size]
            scale[:, group], zero_point[:, group] = group_grid(parts, bits=bits, symmetric=symmetric)
        s, z = scale[:, group].float(), zero_point[:, group].float()
        # Divided in float32, as `quantize_groupwise` does: a weight without corrections gets the very same code.
        code = ((free[:, step].float() / s).round() + z).clamp(0, top)
        codes[:, j] = code.to(torch.uint8)
        error = (free[:, step] - ((code - z) * s).double()) / factor[step, step]
        free[:, step + 1 :].addr_(error, factor[step, step + 1 :], alpha=-1)
    return GroupWeights(codes, scale, zero_point, bits, size)


def quantize_gptq(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    bits: int = 4,
    group_size: int | None = 64,
    symmetric: bool = False,
    damping: float = 0.01,
    act_order: bool = False,
    layers: Iterable[str] | None = None,
    rest: torch.dtype = torch.float32,
) -> nn.Module:
    """A copy of the model whose linear layers are packed, quantized one after the other by GPTQ.

    The layers are taken in the order in which the model calls them, and each sees what comes out of the layers that
    are quantized already: it corrects on the inputs that it will really receive.

    Parameters
    ----------
    model : nn.Module
        Not changed; called with one batch of `calibration` at a time, in evaluation mode.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches (B, ...); for a language model, windows of tokens. No labels.
    bits, group_size, symmetric, damping, act_order
        As for `gptq`.
    layers, rest
        As for `quantize_weights`.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        Empty calibration, NaN, a layer that is never called, or one that cannot be quantized; the text names it.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    >>> quantize_gptq(model, torch.randn(100, 64), bits=3, group_size=32)[2]
    PackedLinear(in_features=32, out_features=4, bias=True, bits=3, group_size=32)
    """
    options = {"bits": bits, "group_size": group_size, "symmetric": symmetric}
    options |= {"damping": damping, "act_order": act_order}
    batches, work, found = input_batches(calibration), deepcopy(model), {}
    pending = linear_layers(work, layers)
    while pending:
        for name, hessian in next_hessians(work, batches, pending).items():
            layer = pending.pop(name)
            try:
                found[name] = gptq(layer.weight, hessian, **options)
            except ValueError as error:
                raise ValueError(f"layer {name!r}: {error}") from error
            # A new parameter: the old one may also be an embedding's, which stays as it is.
            layer.weight = nn.Parameter(found[name].dequantize())
    return replace_linears(model, found, rest=rest)


def _checked(hessian: Tensor, inputs: int, damping: float) -> Tensor:
    """H in float64, or a ValueError."""
    hessian = checked_hessian(hessian, inputs)
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping!r}")
    if (hessian.diagonal() < 0).any():
        raise ValueError("the hessian has a negative diagonal: it must be X^T X, not another matrix")
    return hessian


def _inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper triangular U with U^T U = (H + damping)^-1."""
    diagonal = hessian.diagonal()
    # An input that was always zero has no say and no correlation: any positive number rounds it to nearest.
    hessian = hessian + torch.diag(damping * diagonal.mean() + (diagonal == 0).double())
    # H = R R^T with R upper triangular is Cholesky read from the last row to the first; then U = R^-1.
    # That is the paper's Cholesky factor of the inverse, without forming the inverse.
    lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    pivots = lower.diagonal()
    if failed or bool(pivots.min() <= 1e-7 * pivots.max()):
        raise ValueError(
            "X^T X is singular (dependent inputs, or fewer tokens than inputs): pass damping=0.01"
        )
    return torch.linalg.solve_triangular(lower.flip(0, 1), torch.eye(len(hessian)).double(), upper=True)
