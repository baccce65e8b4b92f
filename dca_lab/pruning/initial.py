r"""When to prune: before training, by what the untrained network does.

- :func:`snip` asks the data once: the loss's sensitivity to each connection, :math:`|g\,w|`, on one batch
  (N. Lee, T. Ajanthan, P. H. S. Torr, "SNIP: Single-Shot Network Pruning Based on Connection
  Sensitivity", ICLR 2019).
- :func:`synflow` asks no data. With absolute weights and an input of ones,
  :math:`R = \mathbf 1^T \prod_l |W_l| \mathbf 1` counts the flow of all paths, and a weight's score is
  its share of it, :math:`\frac{\partial R}{\partial |w|}\,|w|`. The flow is conserved: the scores that
  enter a hidden unit and those that leave it have the same sum, so a layer's scores add up to R whatever
  its size. Small layers therefore have large scores, and pruning a little, many times, never cuts the
  network while another choice is left (H. Tanaka, D. Kunin, D. L. K. Yamins, S. Ganguli, "Pruning Neural
  Networks without Any Data by Iteratively Conserving Synaptic Flow", NeurIPS 2020).

What this file is *not*: nothing is trained and no model is changed; the masks are for a Masker.
Conservation holds for layers that are positively homogeneous (linear, convolution, ReLU, pooling,
batch-norm at its start), and not through softmax, attention or gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dca_lab.pruning._checks import check_sparsity
from dca_lab.pruning._probe import Loss, call, mean_gradients, unchanged
from dca_lab.pruning.budget import global_masks
from dca_lab.pruning.masks import prunable


def snip_scores(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss = F.cross_entropy,
    layers: Iterable[str] | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    r"""The connection sensitivity :math:`|g\,w| / \sum |g\,w|` of each weight; all scores add up to 1.

    The model runs in train mode, since an untrained batch-norm has no statistics but those of the batch; its
    buffers are copies and do not move.

    Parameters
    ----------
    model, x, y, loss, layers, batch_size
        As in :func:`dca_lab.pruning.scores_gradient.taylor`.

    Raises
    ------
    ValueError
        If every sensitivity is zero: then the network is cut, or the loss does not depend on it.

    Examples
    --------
    >>> scores = snip_scores(nn.Linear(4, 3), torch.rand(8, 4), torch.zeros(8, dtype=torch.long))
    >>> round(scores["weight"].sum().item(), 4)
    1.0
    """
    weights = prunable(model, layers)
    gradients = mean_gradients(model, weights, x, y, loss=loss, batch_size=batch_size, training=True)
    scores = {name: (gradients[name] * weight.detach()).abs() for name, weight in weights.items()}
    total = sum(score.sum() for score in scores.values())
    if not total > 0:
        raise ValueError(f"the sensitivities add up to {float(total)}: the loss does not reach the weights")
    return {name: score / total for name, score in scores.items()}


def snip(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    sparsity: float,
    loss: Loss = F.cross_entropy,
    layers: Iterable[str] | None = None,
    batch_size: int = 256,
) -> dict[str, Tensor]:
    """Global masks from one look at the data, before training.

    Parameters
    ----------
    model, x, y, loss, layers, batch_size
        As in :func:`snip_scores`.
    sparsity : float in [0, 1)

    Returns
    -------
    dict[str, BoolTensor]
        True = kept; the model is unchanged.

    Examples
    --------
    >>> masks = snip(nn.Linear(5, 4), torch.rand(8, 5), torch.zeros(8, dtype=torch.long), sparsity=0.75)
    >>> int(masks["weight"].sum())
    5
    """
    check_sparsity(sparsity)
    return global_masks(snip_scores(model, x, y, loss=loss, layers=layers, batch_size=batch_size), sparsity)


def synflow_scores(
    model: nn.Module,
    example_input: Tensor,
    *,
    layers: Iterable[str] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    r"""The synaptic flow :math:`\frac{\partial R}{\partial |w|}\,|w|` through each weight, in float64.

    The flow multiplies over the layers; float64 keeps a deep network's from overflowing.

    Parameters
    ----------
    model : nn.Module
        Runs in eval mode with the absolute values of all its parameters; it is left unchanged.
    example_input : Tensor, (B, ...)
        Only its shape without the batch is used: the input is one row of ones.
    layers : iterable of str, optional
    masks : mapping of str to BoolTensor, optional
        Weights that are pruned already.

    Raises
    ------
    ValueError
        For inputs that are not floating point (token numbers cannot flow).

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    >>> a, b = synflow_scores(model, torch.zeros(1, 4)).values()
    >>> tuple(a.shape), torch.allclose(a.sum(), b.sum())
    ((3, 4), True)
    """
    if not example_input.is_floating_point():
        raise ValueError(f"SynFlow needs a floating-point input, got {example_input.dtype}")
    weights = prunable(model, layers)
    ones = torch.ones(1, *example_input.shape[1:], dtype=torch.float64)
    parameters = {name: p.detach().double().abs() for name, p in model.named_parameters()}
    buffers = {name: value.double() for name, value in model.named_buffers() if value.is_floating_point()}
    for name, mask in (masks or {}).items():
        parameters[name] = parameters[name] * mask
    leaves = {name: parameters[name].requires_grad_() for name in weights}
    with unchanged(model), torch.enable_grad():
        flow = call(model, {**buffers, **parameters}, ones).sum()
        gradients = torch.autograd.grad(flow, list(leaves.values()), materialize_grads=True)
    return {name: g * leaves[name].detach() for name, g in zip(leaves, gradients, strict=True)}


def synflow(
    model: nn.Module,
    example_input: Tensor,
    *,
    sparsity: float,
    rounds: int = 100,
    layers: Iterable[str] | None = None,
) -> dict[str, Tensor]:
    r"""Global masks from the synaptic flow, pruned in many small steps, without data.

    After round k the sparsity is :math:`1 - (1 - s)^{k / rounds}`, and the flow is measured again. With
    one round it may cut a layer off; the rounds are the method.

    Parameters
    ----------
    model, example_input, layers
        As in :func:`synflow_scores`.
    sparsity : float in [0, 1)
    rounds : int
        At least 1.

    Returns
    -------
    dict[str, BoolTensor]
        True = kept; the model is unchanged.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 2))
    >>> masks = synflow(model, torch.zeros(1, 10), sparsity=0.9, rounds=10)
    >>> sum(int(mask.sum()) for mask in masks.values())
    12
    """
    sparsity = check_sparsity(sparsity)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(model, layers).items()}
    for k in range(1, rounds + 1):
        share = sparsity if k == rounds else 1 - (1 - sparsity) ** (k / rounds)
        scores = synflow_scores(model, example_input, layers=layers, masks=masks)
        masks = global_masks(scores, share, within=masks)
    return masks
