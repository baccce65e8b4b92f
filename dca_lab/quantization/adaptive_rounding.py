r"""AdaRound: whether each weight is rounded up or down is learned, so that the layer's output stays the same.

Rounding to the nearest level is best for each weight alone, and not for their sum: when one error points up,
the next should point down. With :math:`w = s\,(\lfloor w/s \rfloor + h)`, :math:`h \in \{0, 1\}`, the choice is
relaxed to a rectified sigmoid of a free variable v and driven to 0 or 1 while the output is matched:

.. math:: h(v) = \mathrm{clip}(\sigma(v)(\zeta - \gamma) + \gamma,\, 0,\, 1), \qquad
   \min_v \; \lVert f(\tilde y) - f(y) \rVert^2 + \lambda \sum_i \bigl(1 - |2 h(v_i) - 1|^\beta\bigr)

with :math:`\zeta = 1.1, \gamma = -0.1`, and :math:`\beta` falling from 20 to 2; f is the activation function behind
the layer. The relaxation can end in a poor corner, so single weights are then flipped while that helps; and each
output channel keeps the best of what was found and of rounding to nearest.

M. Nagel, R. A. Amjad, M. van Baalen, C. Louizos, T. Blankevoort, "Up or Down? Adaptive Rounding for
Post-Training Quantization", ICML, 2020. Here the first term is divided by the error of
rounding to nearest and the second by the number of weights, so that one lambda serves all layers. It is *not*
the whole network: `adaround` goes through its layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._checks import is_whole
from .affine import levels

_ZETA, _GAMMA = 1.1, -0.1
_BETA_FIRST, _BETA_LAST = 20.0, 2.0
_WARM_UP = 0.2  # share of the iterations that only match the output
_ROWS = 512  # output positions that one iteration looks at


def round_adaptively(
    weight: Tensor,
    scale: Tensor,
    x: Tensor,
    target: Tensor,
    *,
    bits: int = 8,
    bias: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
    iterations: int = 500,
    lr: float = 0.05,
    regularisation: float = 0.3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Round the weights of one layer down or up.

    Parameters
    ----------
    weight : Tensor
        (..., O, K), float32; leading axes are groups, each a layer of its own.
    scale : Tensor
        (..., O), the distance of two levels.
    x : Tensor
        (..., R, K): what the quantized layer reads.
    target : Tensor
        (..., R, O): what the float layer gives, before its activation function.
    bits : int
        Levels are -(2^(bits-1) - 1) to 2^(bits-1) - 1.
    bias : Tensor, optional
        (..., O).
    activation : callable, optional
        f; identity without.
    iterations, lr, regularisation : int, float, float
        Steps of Adam, its learning rate, and lambda.
    generator : torch.Generator, optional
        Chooses the rows of each iteration where there are more than 512.

    Returns
    -------
    Tensor
        int8, (..., O, K). A row (output channel) whose error over all of `x` is not below that of rounding to
        nearest *is* rounded to nearest.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, a scale is not positive, or iterations are no whole number.

    Examples
    --------
    >>> w, x = torch.tensor([[0.4, 0.3, 0.2, 0.1]]), torch.ones(8, 4)  # the sum is 1, and each weight nearly 0
    >>> round_adaptively(w, torch.ones(1), x, x @ w.T).tolist()
    [[1, 0, 0, 0]]
    """
    for name, values in {"weight": weight, "scale": scale, "x": x, "target": target}.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{name} holds NaN or infinite values")
    if not bool((scale > 0).all()):
        raise ValueError(f"scale is the distance of two levels, above zero, not {float(scale.min())}")
    if not is_whole(iterations) or iterations < 0:
        raise ValueError(f"iterations={iterations!r}: give a whole number from 0")
    highest = levels(bits, signed=True, symmetric=True)[1]
    f = activation or (lambda y: y)
    shift = 0.0 if bias is None else bias[..., None, :]
    wanted, ratio = f(target), weight / scale[..., None]
    low, nearest = ratio.floor(), ratio.round().clamp(-highest, highest)

    def outputs(codes: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        return f(x[..., rows, :] @ (codes * scale[..., None]).transpose(-1, -2) + shift)

    def errors(codes: Tensor) -> Tensor:
        return (outputs(codes) - wanted).double().square().mean(-2)  # (..., O)

    before = errors(nearest)
    unit = before.float().clamp(min=1e-12 * float(wanted.square().mean()) + 1e-30)
    share = ((ratio - low).clamp(0.01, 0.99) - _GAMMA) / (_ZETA - _GAMMA)
    with torch.enable_grad():
        v = torch.logit(share).requires_grad_()  # h(v) begins at the weight's own fraction
        update = torch.optim.Adam([v], lr=lr)
        for i in range(iterations):
            rows = slice(None)
            if x.shape[-2] > _ROWS:
                rows = torch.randint(x.shape[-2], (_ROWS,), generator=generator)
            h = (torch.sigmoid(v) * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)
            y = outputs((low + h).clamp(-highest, highest), rows)
            loss = ((y - wanted[..., rows, :]).square().mean(-2) / unit).mean()
            progress = (i / iterations - _WARM_UP) / (1 - _WARM_UP)
            if progress >= 0:
                beta = _BETA_LAST + (_BETA_FIRST - _BETA_LAST) * (1 - progress)
                loss = loss + regularisation * (1 - (2 * h - 1).abs().pow(beta)).mean()
            update.zero_grad()
            loss.backward()
            update.step()
    learned = (low + (v.detach() >= 0)).clamp(-highest, highest)  # h(0) = 1/2
    gram, cross = x.transpose(-1, -2) @ x, (target - shift).transpose(-1, -2) @ x  # (..., K, K), (..., O, K)
    top = (low + 1).clamp(-highest, highest)
    flipped = [
        _flip(codes, low.clamp(-highest, highest), top, scale, gram, cross) for codes in (learned, nearest)
    ]
    best, least = nearest, before
    for codes in (learned, *flipped):
        error = errors(codes)
        best = torch.where((error < least)[..., None], codes, best)
        least = torch.minimum(error, least)
    return best.to(torch.int8)


def _flip(codes: Tensor, low: Tensor, top: Tensor, scale: Tensor, gram: Tensor, cross: Tensor) -> Tensor:
    """Move one weight of each row to its other level, the one that helps most, until none helps.

    The squared error of the sums is a quadratic form, e(w + d) - e(w) = 2 d (H w - p) + d^2 H_ii for one weight,
    so that all possible moves are compared at once. f is left out here.
    """
    codes, size = codes.clone(), gram.diagonal(dim1=-2, dim2=-1)[..., None, :]
    slope = (codes * scale[..., None]) @ gram - cross  # (..., O, K): half of the gradient
    for _ in range(codes.shape[-1]):
        move = torch.where(codes == low, top - codes, low - codes) * scale[..., None]
        gain = 2 * move * slope + move.square() * size
        found, at = gain.min(-1, keepdim=True)
        step = move.gather(-1, at) * (found < 0)  # (..., O, 1)
        if not step.any():
            break
        codes.scatter_add_(-1, at, (step / scale[..., None]).round())
        rows = gram.expand(*codes.shape[:-2], *gram.shape[-2:]).gather(
            -2, at.expand(*at.shape[:-1], gram.shape[-1])
        )
        slope += step * rows
    return codes
