r"""Which weights matter, judged by what the loss would lose: the Taylor expansion of pruning.

Setting weight :math:`w_i` to zero is the step :math:`\delta = -w_i e_i`, so

.. math:: L(w + \delta) - L(w) = -g_i w_i + \tfrac12 H_{ii} w_i^2 + O(|w_i|^3).

- :func:`taylor` keeps the first term and squares it: :math:`(g_i w_i)^2` (P. Molchanov et al., "Importance
  Estimation for Neural Network Pruning", CVPR 2019).
- :func:`obs_diagonal` assumes a trained network, :math:`g = 0`, and keeps the second:
  :math:`\tfrac12 H_{ii} w_i^2` (Y. LeCun, J. S. Denker, S. A. Solla, "Optimal Brain Damage", NeurIPS
  1989). H comes from the empirical Fisher information, from Hutchinson's estimator, or exactly.

Both judge one weight at a time: what two weights do together (the off-diagonal of H) is what obs.py adds.

What this file is *not*: it changes no weight, and it says nothing about a loss far from quadratic; remove
half of a network and the expansion has left its neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dca_lab.pruning._probe import Loss, call, copies, mean_gradients, unchanged
from dca_lab.pruning.masks import prunable

_EXACT_LIMIT = 20_000  # one backward pass a weight
_CHUNK = 64


def taylor(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss = F.cross_entropy,
    layers: Iterable[str] | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    r"""The squared first-order change of the loss, :math:`(g w)^2`, with g the gradient of the mean loss.

    Summed over a filter it is the paper's importance of the filter.

    Parameters
    ----------
    model : nn.Module
        Evaluated in eval mode; mode, gradients, buffers and weights are left as they are.
    x, y : Tensor, (N, ...)
    loss : callable
        (outputs, targets) -> scalar, the *mean* over the rows.
    layers : iterable of str, optional
        Default every prunable weight.
    batch_size : int
        Rows at a time; the result does not depend on it beyond rounding.

    Returns
    -------
    dict[str, Tensor]
        Name -> scores of the weight's shape.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> scores = taylor(model, torch.rand(8, 2, 2), torch.zeros(8, dtype=torch.long))
    >>> tuple(scores["1.weight"].shape), model[1].weight.grad is None
    ((2, 4), True)
    """
    weights = prunable(model, layers)
    gradients = mean_gradients(model, weights, x, y, loss=loss, batch_size=batch_size)
    return {name: (gradients[name] * weight.detach()).square() for name, weight in weights.items()}


def _fisher(
    model: nn.Module,
    weights: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    loss: Loss,
) -> dict[str, Tensor]:
    """The mean over the rows of the squared gradient of each row's own loss."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for row in range(len(x)):
        one = slice(row, row + 1)
        gradients = mean_gradients(model, weights, x[one], y[one], loss=loss, batch_size=1)
        for name, gradient in gradients.items():
            total[name] += gradient.square() / len(x)
    return total


def _hessian_diagonal(
    model: nn.Module,
    weights: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    loss: Loss,
    probes: int | None,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    r"""diag(H) by :math:`e_i^T H e_i` for every i, or by Hutchinson's :math:`E[z \odot Hz]`, z = +-1."""
    # the fused attention kernel cannot be differentiated twice, the plain one can
    with unchanged(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaves = copies(weights)
        first = torch.autograd.grad(loss(call(model, leaves, x), y), list(leaves.values()), create_graph=True)
        flat = torch.cat([gradient.flatten() for gradient in first])
        if not flat.requires_grad:
            raise ValueError("the loss is linear in the weights: its Hessian is zero and scores nothing")

        def products(vectors: Tensor) -> Tensor:  # (k, P) -> (k, P), the rows H v
            rows = torch.autograd.grad(
                flat,
                list(leaves.values()),
                vectors,
                retain_graph=True,
                is_grads_batched=True,
                materialize_grads=True,
            )
            return torch.cat([row.flatten(1) for row in rows], dim=1)

        if probes is None:
            diagonal = torch.cat(
                [
                    products(unit).gather(1, unit.argmax(1, keepdim=True)).flatten()
                    for start in range(0, len(flat), _CHUNK)
                    for unit in [
                        F.one_hot(torch.arange(start, min(start + _CHUNK, len(flat))), len(flat)).to(
                            flat.dtype
                        )
                    ]
                ]
            )
        else:
            diagonal = torch.zeros_like(flat)
            for _ in range(probes):
                z = torch.randint(0, 2, (1, len(flat)), generator=generator).to(flat.dtype) * 2 - 1
                diagonal = diagonal + (z * products(z)).flatten().detach() / probes
    pieces = diagonal.detach().split([weight.numel() for weight in weights.values()])
    return {name: piece.reshape(weights[name].shape) for name, piece in zip(weights, pieces, strict=True)}


def obs_diagonal(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    hessian: str = "fisher",
    loss: Loss = F.cross_entropy,
    layers: Iterable[str] | None = None,
    probes: int = 32,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""The second-order saliency :math:`\tfrac12 H_{ii} w_i^2` of each weight.

    Parameters
    ----------
    model, x, y, loss, layers
        As in :func:`taylor`. The second-order variants see all rows at once: pass a few hundred.
    hessian : {"fisher", "hutchinson", "exact"}
        "fisher": the mean squared gradient of single rows; one backward pass a row, never negative, equal to
        H in expectation where the model's probabilities are right. "hutchinson": an unbiased estimate of the
        true diagonal from ``probes`` Hessian-vector products. "exact": one Hessian-vector product a weight.
    probes : int
        Random vectors of "hutchinson".
    generator : torch.Generator
        Needed by "hutchinson" only.

    Returns
    -------
    dict[str, Tensor]
        Name -> scores of the weight's shape. With the true Hessian a score can be negative, where the loss is
        concave: the expansion expects the loss to fall.

    Raises
    ------
    ValueError
        Unknown ``hessian``, no generator for "hutchinson", more than 20,000 weights for "exact".

    Examples
    --------
    >>> layer = nn.Linear(3, 1, bias=False)
    >>> scores = obs_diagonal(layer, torch.eye(3), torch.zeros(3, 1), loss=F.mse_loss, hessian="exact")
    >>> torch.allclose(scores["weight"], layer.weight**2 / 3)
    True
    """
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x and y must have as many rows, at least one; got {len(x)} and {len(y)}")
    weights = prunable(model, layers)
    size = sum(weight.numel() for weight in weights.values())
    if hessian == "fisher":
        diagonal = _fisher(model, weights, x, y, loss)
    elif hessian == "exact":
        if size > _EXACT_LIMIT:
            raise ValueError(f"an exact diagonal takes {size} backward passes; use hessian='hutchinson'")
        diagonal = _hessian_diagonal(model, weights, x, y, loss, None, None)
    elif hessian == "hutchinson":
        if generator is None or probes < 1:
            raise ValueError("hessian='hutchinson' draws random vectors: pass generator= and probes >= 1")
        diagonal = _hessian_diagonal(model, weights, x, y, loss, probes, generator)
    else:
        raise ValueError(f"hessian must be 'fisher', 'hutchinson' or 'exact', got {hessian!r}")
    return {name: diagonal[name] * weight.detach().square() / 2 for name, weight in weights.items()}
