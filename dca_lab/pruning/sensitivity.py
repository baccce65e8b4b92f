r"""How much of each layer: measure what each alone can lose, then spend the budget where it costs least.

:func:`sensitivity` prunes one layer at a time to each sparsity of a grid and evaluates. :func:`allocate`
takes the curves and solves

.. math:: \min_{s_1, \dots, s_L} \sum_l \ell_l(s_l) \quad \text{with} \quad \sum_l n_l s_l \ge s \sum_l n_l ,

:math:`\ell_l(s)` the accuracy lost by layer l alone, :math:`n_l` its size: a multiple-choice knapsack,
solved by dynamic programming over its Pareto front (fewer removed and more lost than another choice:
forgotten).

Sensitivity scans: S. Han et al., NeurIPS 2015; H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf,
"Pruning Filters for Efficient ConvNets", ICLR 2017.

What this file is *not*: the sum assumes that losses of different layers add up. They do not, quite: the
allocation is the best of the model of the network, and has to be measured like any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from dca_lab.pruning._checks import check_sparsity
from dca_lab.pruning.budget import layerwise_masks
from dca_lab.pruning.masks import apply_masks, prunable
from dca_lab.pruning.scores import magnitude
from dca_lab.training import evaluate as measure_accuracy

_LARGEST_FRONT = 20_000


@dataclass(frozen=True)
class Sensitivity(Mapping):
    """Accuracy against sparsity, a layer at a time; a mapping of layer -> array of accuracies.

    Attributes
    ----------
    sparsities : ndarray, (S,)
    accuracies : dict[str, ndarray of shape (S,)]
    baseline : float
        The accuracy of the unpruned model.
    """

    sparsities: np.ndarray
    accuracies: dict[str, np.ndarray]
    baseline: float

    def __getitem__(self, layer: str) -> np.ndarray:
        return self.accuracies[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.accuracies)

    def __len__(self) -> int:
        return len(self.accuracies)


def _masked(
    model: nn.Module,
    layer: str,
    sparsity: float,
    *,
    scores: Mapping[str, Tensor],
    granularity: str,
) -> nn.Module:
    pruned = copy.deepcopy(model)
    apply_masks(pruned, layerwise_masks({layer: scores[layer]}, sparsity, granularity=granularity))
    return pruned


def _accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return measure_accuracy(model, *data)


def sensitivity(
    model: nn.Module,
    evaluate: Callable[[nn.Module], float] | tuple[Tensor, Tensor],
    sparsities: Sequence[float],
    *,
    layers: Iterable[str] | None = None,
    importance: Callable[[nn.Module], dict[str, Tensor]] = magnitude,
    granularity: str = "weight",
    apply: Callable[[nn.Module, str, float], nn.Module] | None = None,
) -> Sensitivity:
    """Prune one layer at a time and evaluate, without fine-tuning.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    evaluate : callable or (x, y)
        model -> accuracy (or any number of which more is better), or the data for ``training.evaluate``.
        Not the test set: an allocation chosen on it has seen it.
    sparsities : sequence of float in [0, 1)
    layers : iterable of str, optional
        Default every prunable weight. Required with ``apply``: the names that it understands.
    importance, granularity
        Which weights go, in which blocks.
    apply : callable, optional
        (model, layer, sparsity) -> the model to evaluate, leaving ``model`` alone. Default: masks on a
        copy. For channels, with ``layers=[group.layers[0] for group in coupled_groups(model, example)]``:
        ``lambda m, layer, r: prune_channels(m, example, ratio=0.0, per_layer={layer: r})``.

    Returns
    -------
    Sensitivity

    Raises
    ------
    ValueError
        Sparsity outside [0, 1), an empty grid, an unknown layer.

    Examples
    --------
    >>> model = nn.Linear(4, 1)
    >>> kept = lambda m: float((m.weight != 0).sum())
    >>> sensitivity(model, kept, [0.0, 0.5, 0.75])["weight"].tolist()
    [4.0, 2.0, 1.0]
    """
    grid = [check_sparsity(float(s)) for s in sparsities]
    if not grid:
        raise ValueError("sparsities must hold at least one value")
    score_model = evaluate if callable(evaluate) else partial(_accuracy, data=evaluate)
    if apply is None:
        names = list(prunable(model, layers))
        scores = importance(model)
        if missing := [name for name in names if name not in scores]:
            raise ValueError(f"the importance gives no score to {missing}; leave them out of layers")
        apply = partial(_masked, scores=scores, granularity=granularity)
    elif layers is None:
        raise ValueError("with apply, layers must say which names it is called with")
    else:
        names = list(layers)
    accuracies = {name: np.array([float(score_model(apply(model, name, s))) for s in grid]) for name in names}
    return Sensitivity(np.array(grid), accuracies, float(score_model(model)))


def _choices(curve: np.ndarray, grid: np.ndarray, baseline: float, size: float) -> list[tuple[float, ...]]:
    """(sparsity, weights removed, accuracy lost) of one layer; leaving it dense is always a choice."""
    choices = [(0.0, 0.0, 0.0)] if 0.0 not in grid else []
    measured = zip(grid.tolist(), curve.tolist(), strict=True)
    return choices + [(s, s * size, baseline - accuracy) for s, accuracy in measured]


def allocate(
    result: Sensitivity,
    sizes: Mapping[str, int],
    target: float,
) -> dict[str, float]:
    """The sparsity of each layer that meets a total budget with the least predicted loss.

    Parameters
    ----------
    result : Sensitivity
    sizes : mapping of str to int
        Weights of each layer (or parameters that go with its channels); the names of ``result``.
    target : float in [0, 1)
        Share of all these weights that is removed, at least.

    Returns
    -------
    dict[str, float]
        Layer -> a sparsity of the grid, or 0: ready for ``layerwise_masks`` or ``per_layer=``.

    Raises
    ------
    ValueError
        Names that do not match, NaN accuracies, or a target that the grid cannot reach.

    Examples
    --------
    >>> grid = np.array([0.0, 0.5, 0.9])
    >>> curves = {"robust": np.array([0.9, 0.9, 0.8]), "fragile": np.array([0.9, 0.5, 0.1])}
    >>> allocate(Sensitivity(grid, curves, 0.9), {"robust": 1000, "fragile": 100}, 0.8)
    {'robust': 0.9, 'fragile': 0.0}
    """
    target = check_sparsity(target, "target")
    if set(sizes) != set(result) or any(not size > 0 for size in sizes.values()):
        raise ValueError(f"sizes must give a positive size to each of {list(result)}, got {dict(sizes)}")
    if not all(np.isfinite(curve).all() for curve in result.values()) or not np.isfinite(result.baseline):
        raise ValueError("the accuracies contain NaN or infinity")
    total = float(sum(sizes.values()))
    removed, lost = np.zeros(1), np.zeros(1)
    history: list[tuple[list[tuple[float, ...]], np.ndarray, np.ndarray]] = []
    for name in result:
        choices = _choices(result[name], result.sparsities, result.baseline, sizes[name])
        gain, cost = np.array([c[1] for c in choices]), np.array([c[2] for c in choices])
        all_removed, all_lost = (removed[:, None] + gain).ravel(), (lost[:, None] + cost).ravel()
        # from most removed to least, only what loses less than everything before it can be part of an optimum
        order = np.lexsort((all_lost, -all_removed))
        best = np.minimum.accumulate(np.concatenate([[np.inf], all_lost[order][:-1]]))
        front = order[all_lost[order] < best]
        if len(front) > _LARGEST_FRONT:  # one representative a step of the total: the front stays small
            step = np.floor(all_removed[front] / total * _LARGEST_FRONT)
            last = np.append(step[1:] != step[:-1], True)
            last[0] = True  # the most that can be removed
            front = front[last]
        removed, lost = all_removed[front], all_lost[front]
        history.append((choices, front // len(choices), front % len(choices)))
    enough = np.flatnonzero(removed >= target * total * (1 - 1e-12))
    if not len(enough):
        raise ValueError(f"the grid removes at most {removed.max() / total:.4f} of all, not {target:g}")
    state = int(enough[np.argmin(lost[enough])])
    chosen = {}
    for name, (choices, previous, choice) in reversed(list(zip(result, history, strict=True))):
        chosen[name] = choices[choice[state]][0]
        state = int(previous[state])
    return {name: chosen[name] for name in result}
