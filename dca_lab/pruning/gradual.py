r"""How often: a little at a time, while training goes on.

The masks are drawn anew every few steps, and the sparsity follows a cubic,

.. math:: s_t = s_f + (s_i - s_f) \left(1 - \frac{t - t_0}{t_1 - t_0}\right)^3 ,

fast at first, when much is redundant, and slowly at the end. What is pruned stays pruned.

M. Zhu, S. Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression",
ICLR Workshop 2018.

What this file is *not*: pruned weights get no second chance here, as they do in RigL and its kin.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dca_lab.pruning._checks import check_sparsity
from dca_lab.pruning.budget import make_masks
from dca_lab.pruning.masks import Masker, mask_sparsity
from dca_lab.pruning.schedules import Importance, PruningRun, Scope, finetune, refuse_checkpoint
from dca_lab.pruning.scores import magnitude


def cubic_sparsity(step: int, *, start: int, end: int, initial: float = 0.0, final: float) -> float:
    """The sparsity that the cubic schedule has reached at a step.

    Parameters
    ----------
    step : int
        Before ``start`` the schedule is at ``initial``, after ``end`` at ``final``.
    start, end : int
        The first and the last step of the climb, start < end.
    initial, final : float in [0, 1)
        initial <= final.

    Returns
    -------
    float

    Examples
    --------
    >>> [cubic_sparsity(step, start=0, end=4, final=0.64) for step in (0, 1, 2, 4, 9)]
    [0.0, 0.37, 0.56, 0.64, 0.64]
    """
    initial, final = check_sparsity(initial, "initial"), check_sparsity(final, "final")
    if not start < end:
        raise ValueError(f"start must come before end, got start={start}, end={end}")
    if initial > final:
        raise ValueError(f"the schedule only climbs: initial={initial:g} is above final={final:g}")
    left = 1 - min(max((step - start) / (end - start), 0.0), 1.0)
    return final + (initial - final) * left**3


def gradual(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    sparsity: float,
    epochs: int,
    initial: float = 0.0,
    start: int = 0,
    end: int | None = None,
    every: int = 10,
    importance: Importance = magnitude,
    scope: Scope = "global",
    granularity: str = "weight",
    batch_size: int = 64,
    **fit_options: Any,
) -> PruningRun:
    """Prune along the cubic schedule while training, **in place**.

    Parameters as in :func:`one_shot`, and

    epochs : int
        At least 1: the training during which the model is pruned.
    initial : float in [0, 1)
        The sparsity at ``start``.
    start, end : int
        Steps between which the sparsity climbs; ``end`` is three quarters of all steps by default, so
        that the last quarter trains at the final sparsity.
    every : int
        Steps between two prunings; the last one is at ``end``.

    Raises
    ------
    ValueError
        As :func:`one_shot`; a schedule that does not end before training does; a ``checkpoint``.
    """
    refuse_checkpoint(fit_options)
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1: the model is pruned while it trains; got {epochs}")
    steps = epochs * math.ceil(len(x) / batch_size)
    end = max(start + 1, 3 * steps // 4) if end is None else end
    cubic_sparsity(0, start=start, end=end, initial=initial, final=check_sparsity(sparsity))
    if every < 1 or start < 0 or end > steps:
        raise ValueError(f"0 <= start < end <= {steps} and every >= 1 are needed, got {start, end, every}")
    run = PruningRun({name: torch.ones_like(w, dtype=torch.bool) for name, w in importance(model).items()})
    with Masker(model, run.masks) as masker:

        def prune(step: int) -> None:
            if step != end and (not start <= step < end or (step - start) % every):
                return
            share = cubic_sparsity(step, start=start, end=end, initial=initial, final=sparsity)
            scores, before = importance(model), masker.masks
            masker.update(make_masks(scores, share, scope=scope, granularity=granularity, within=before))
            run.sparsities.append(mask_sparsity(masker.masks))
            run.steps.append(step)

        if start == 0:
            prune(0)
        options = {"epochs": epochs, "batch_size": batch_size, **fit_options}
        run.histories.append(finetune(model, x, y, masker, before_masking=prune, **options))
        run.masks = masker.masks
    return run
