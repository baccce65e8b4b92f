r"""Which weights matter, judged from the weights alone.

==================  ======================================================
========================================== function            score of weight w
paper ==================  ======================================================
========================================== magnitude           :math:`|w|^p`
S. Han et al., NeurIPS 2015 random_scores       uniform on [0, 1): the control for all the others       -
batchnorm_scale     :math:`|\gamma|` of its filter's batch-norm             Z. Liu et al. (network
slimming), ICCV 2017 geometric_median    :math:`\sum_j \lVert W_o - W_j \rVert_2` of its filter  Y. He et
al. (FPGM), CVPR 2019 ==================  ======================================================
==========================================

Every function takes a model and returns a dict of parameter name -> scores of the weight's shape, none
negative, larger = keep. Where the paper scores filters, each weight of a filter carries the filter's
score.

What this file is *not*: scores that need data are in scores_gradient.py (loss) and scores_data.py
(activations); who competes with whom is a question of budget.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dca_lab.pruning._probe import unchanged
from dca_lab.pruning.masks import prunable

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _filters(per_filter: Tensor, weight: Tensor) -> Tensor:
    """(O,) -> the weight's shape (O, I, ...)."""
    return per_filter.reshape(-1, *[1] * (weight.ndim - 1)).expand(weight.shape).clone()


def magnitude(
    model: nn.Module,
    *,
    layers: Iterable[str] | None = None,
    power: float = 1,
) -> dict[str, Tensor]:
    r"""The size of each weight, :math:`|w|^{power}`.

    The power changes nothing for single weights. For blocks it does: summed over a block, power 1 gives
    its L1 norm and power 2 the square of its L2 norm.

    Parameters
    ----------
    model : nn.Module
    layers : iterable of str, optional
        Parameter names; default all of :func:`dca_lab.pruning.masks.prunable`.
    power : float
        Greater than 0.

    Returns
    -------
    dict[str, Tensor]
        Name -> scores of the weight's shape and dtype.

    Examples
    --------
    >>> scores = magnitude(nn.Linear(3, 2))
    >>> {name: tuple(score.shape) for name, score in scores.items()}
    {'weight': (2, 3)}
    """
    if not power > 0:
        raise ValueError(f"power must be greater than 0, got {power!r}")
    return {name: weight.detach().abs() ** power for name, weight in prunable(model, layers).items()}


def random_scores(
    model: nn.Module,
    *,
    generator: torch.Generator,
    layers: Iterable[str] | None = None,
) -> dict[str, Tensor]:
    """Uniform random scores in [0, 1): whatever a score claims to know, it must beat this.

    Parameters
    ----------
    model, layers
        As in :func:`magnitude`.
    generator : torch.Generator
        The only source of randomness; it advances.

    Examples
    --------
    >>> scores = random_scores(nn.Linear(3, 2), generator=torch.Generator().manual_seed(0))
    >>> tuple(scores["weight"].shape)
    (2, 3)
    """
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    return {
        name: torch.rand(weight.shape, generator=generator, dtype=torch.float32)
        for name, weight in prunable(model, layers).items()
    }


def geometric_median(model: nn.Module, *, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
    r"""The sum of a filter's distances to the other filters of its layer.

    The point that minimises this sum is the geometric median. A filter near it can be represented by the
    others, so it is replaceable although it may be large: scaling all filters changes no order, and
    neither does moving all of them together, which no norm-based score survives.

    Parameters and returns as in :func:`magnitude`; every weight of a filter has the filter's score. Use
    it with the granularity "filter".

    Examples
    --------
    >>> layer = nn.Linear(1, 3, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[0.0], [1.0], [5.0]]))
    >>> geometric_median(layer)["weight"].flatten().tolist()
    [6.0, 5.0, 9.0]
    """
    scores = {}
    for name, weight in prunable(model, layers).items():
        filters = weight.detach().flatten(1).double()
        # |a|^2 - 2ab + |b|^2 loses the small distances of large filters: hence float64
        square = filters.square().sum(1)
        distance = (square[:, None] + square - 2 * filters @ filters.T).clamp(min=0).sqrt()
        scores[name] = _filters(distance.fill_diagonal_(0).sum(1).to(weight.dtype), weight)
    return scores


def batchnorm_scale(
    model: nn.Module,
    x: Tensor,
    *,
    layers: Iterable[str] | None = None,
) -> dict[str, Tensor]:
    r"""The size :math:`|\gamma|` of the batch-norm scale that multiplies a filter's output.

    Which batch-norm follows which layer is read from one forward pass, not guessed from the order in the
    source. The score means something when training pushed the scales towards zero, with an L1 penalty on
    them.

    Parameters
    ----------
    model : nn.Module
    x : Tensor
        An input that the model accepts; its values do not matter.
    layers : iterable of str, optional
        Default every prunable weight whose output goes straight into a batch-norm; the others are left out.

    Returns
    -------
    dict[str, Tensor]
        Every weight of filter o has the score :math:`|\gamma_o|`.

    Raises
    ------
    ValueError
        If no batch-norm with a scale follows a layer, or one that ``layers`` names, or several follow the
        same one.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> {name: tuple(score.shape) for name, score in batchnorm_scale(model, torch.zeros(1, 1, 8, 8)).items()}
    {'0.weight': (4, 1, 3, 3)}
    """
    weights = prunable(model, layers)
    outputs: list[tuple[Tensor, int]] = []  # kept alive, so that none is mistaken for another
    followed_by: dict[int, list[nn.Module]] = {}

    def leaves_layer(module: nn.Module, _: object, output: Tensor) -> None:
        outputs.append((output, id(module.weight)))

    def enters_norm(module: nn.Module, arguments: tuple) -> None:
        for output, weight in outputs:
            if output is arguments[0] and module not in followed_by.setdefault(weight, []):
                followed_by[weight].append(module)

    handles = []
    for module in model.modules():
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            handles.append(module.register_forward_hook(leaves_layer))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
            handles.append(module.register_forward_pre_hook(enters_norm))
    try:
        with unchanged(model), torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    scores = {}
    for name, weight in weights.items():
        norms = followed_by.get(id(weight), [])
        if len(norms) > 1:
            raise ValueError(f"{name!r} feeds {len(norms)} batch-norms: its filters have no single scale")
        if norms:
            scores[name] = _filters(norms[0].weight.detach().abs(), weight)
        elif layers is not None:
            raise ValueError(f"no batch-norm follows {name!r}; leave it out of layers")
    if not scores:
        raise ValueError(f"no layer of {type(model).__name__} goes straight into a batch-norm")
    return scores
