r"""How often: prune once, or in rounds, and fine-tune.

- :func:`one_shot`: prune to the target, then fine-tune.
- :func:`iterative`: n rounds of prune and fine-tune; round k ends at :math:`1 - (1 - s)^{k/n}`, the same
  share of what is left each time (S. Han et al., "Learning both Weights and Connections for Efficient
  Neural Networks", NeurIPS 2015).

Both change the model **in place** and leave its pruned weights at zero; what is pruned stays pruned.
Pruning a little at a time while training goes on is in gradual.py.

What this file is *not*: it has no opinion on which weights go. ``importance`` is any function model ->
scores, such as ``magnitude`` or ``lambda m: taylor(m, x, y)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dca_lab.pruning._checks import check_sparsity
from dca_lab.pruning.budget import make_masks
from dca_lab.pruning.masks import Masker, mask_sparsity
from dca_lab.pruning.scores import magnitude
from dca_lab.training import History, fit

Importance = Callable[[nn.Module], dict[str, Tensor]]
Scope = str | Callable[..., dict[str, Tensor]]


@dataclass
class PruningRun:
    """What a schedule did.

    Attributes
    ----------
    masks : dict[str, BoolTensor]
        The final masks; the model is already masked.
    sparsities : list of float
        The sparsity after each pruning.
    steps : list of int
        The optimizer step at which each pruning took place, counted over the whole run.
    histories : list of History
        One a call of ``fit``.
    """

    masks: dict[str, Tensor]
    sparsities: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)


def finetune(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    masks: Mapping[str, Tensor] | Masker,
    *,
    epochs: int,
    before_masking: Callable[[int], object] | None = None,
    **fit_options: Any,
) -> History:
    """Train a masked model, **in place**: pruned weights and their gradients stay zero.

    So does the momentum of an ``optimizer`` that is passed. That of fit's own is never fed by one;
    what it remembers of a weight that is pruned later is undone after each step.

    Parameters
    ----------
    model : nn.Module
    x, y : Tensor
        Training data.
    masks : mapping of str to BoolTensor, or a Masker of the model
        A masker that is given stays open.
    epochs : int
    before_masking : callable, optional
        Called with the step after the optimizer's step: the place to give a masker new masks.
    **fit_options
        Passed on to ``training.fit``; an ``on_step`` among them sees the model masked.

    Returns
    -------
    History

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> masks = {"weight": torch.tensor([[True, False, True], [False, True, True]])}
    >>> _ = finetune(layer, torch.rand(8, 3), torch.zeros(8).long(), masks, epochs=2, progress=False)
    >>> bool((layer.weight[~masks["weight"]] == 0).all())
    True
    """
    if not isinstance(masks, Masker):
        with Masker(model, masks) as masker:
            return finetune(model, x, y, masker, epochs=epochs, before_masking=before_masking, **fit_options)
    masker, theirs, factory = masks, fit_options.pop("on_step", None), fit_options.get("optimizer")
    if factory is not None:
        fit_options["optimizer"] = lambda parameters: masker.watch(factory(parameters))

    def on_step(step: int, trained: nn.Module) -> None:
        if before_masking is not None:
            before_masking(step)
        masker()
        if theirs is not None:
            theirs(step, trained)

    return fit(model, x, y, epochs=epochs, on_step=on_step, **fit_options)


def refuse_checkpoint(options: Mapping[str, Any]) -> None:
    """A run of several trainings, or one whose masks change, cannot go on from the checkpoint of ``fit``."""
    if options.get("checkpoint") is not None:
        raise ValueError("a checkpoint holds weights but no masks: leave it out, or use one_shot")


def one_shot(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    sparsity: float,
    epochs: int,
    importance: Importance = magnitude,
    scope: Scope = "global",
    granularity: str = "weight",
    **fit_options: Any,
) -> PruningRun:
    """Prune once to the target, then fine-tune, **in place**.

    Parameters
    ----------
    model : nn.Module
        Trained; changed in place.
    x, y : Tensor
        Training data.
    sparsity : float in [0, 1)
    epochs : int
        Of fine-tuning; 0 prunes only.
    importance : callable
        model -> dict of scores.
    scope : {"global", "layer", "row"} or callable
        As in :func:`dca_lab.pruning.budget.make_masks`.
    granularity : str
    **fit_options
        Passed on to ``training.fit``: lr, batch_size, seed, validation, optimizer, on_step, ...

    Returns
    -------
    PruningRun

    Examples
    --------
    >>> run = one_shot(nn.Linear(10, 2), torch.rand(8, 10), torch.zeros(8).long(), sparsity=0.5, epochs=0)
    >>> run.sparsities
    [0.5]
    """
    masks = make_masks(importance(model), check_sparsity(sparsity), scope=scope, granularity=granularity)
    run = PruningRun(masks, [mask_sparsity(masks)], [0])
    with Masker(model, masks) as masker:
        if epochs > 0:
            run.histories.append(finetune(model, x, y, masker, epochs=epochs, **fit_options))
    return run


def iterative(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    sparsity: float,
    rounds: int,
    epochs: int,
    importance: Importance = magnitude,
    scope: Scope = "global",
    granularity: str = "weight",
    **fit_options: Any,
) -> PruningRun:
    """Prune and fine-tune in rounds, each removing the same share of what is left, **in place**.

    Parameters as in :func:`one_shot`, and

    rounds : int
        At least 1; one round is :func:`one_shot`.
    epochs : int
        Of fine-tuning in *each* round.

    Raises
    ------
    ValueError
        As :func:`one_shot`; a ``checkpoint``, which could not tell one round from another.

    Examples
    --------
    >>> x, y = torch.rand(8, 10), torch.zeros(8).long()
    >>> run = iterative(nn.Linear(10, 2), x, y, sparsity=0.75, rounds=2, epochs=0)
    >>> run.sparsities
    [0.5, 0.75]
    """
    sparsity = check_sparsity(sparsity)
    refuse_checkpoint(fit_options)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    run = PruningRun({name: torch.ones_like(w, dtype=torch.bool) for name, w in importance(model).items()})
    done = 0
    for k in range(1, rounds + 1):
        share = sparsity if k == rounds else 1 - (1 - sparsity) ** (k / rounds)
        scores = importance(model)
        run.masks = make_masks(scores, share, scope=scope, granularity=granularity, within=run.masks)
        run.sparsities.append(mask_sparsity(run.masks))
        run.steps.append(done)
        with Masker(model, run.masks) as masker:
            if epochs > 0:
                history = finetune(model, x, y, masker, epochs=epochs, **fit_options)
                run.histories.append(history)
                done += len(history.losses)
    return run
