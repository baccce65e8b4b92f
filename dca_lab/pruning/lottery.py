r"""When: the lottery ticket. Train, prune, go back to the beginning, and train only what is left.

A dense network contains a small one that, *from the same initial weights*, trains to the same accuracy.
It is found by iterative magnitude pruning with rewinding:

1. keep :math:`\theta_0` (or :math:`\theta_k`, the weights after k steps: larger networks need that),
2. train to :math:`\theta_T`, prune the smallest weights that are left,
3. set the survivors back to :math:`\theta_0` (or :math:`\theta_k`) and repeat from 2.

J. Frankle, M. Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", ICLR 2019;
rewinding to step k: J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, "Linear Mode Connectivity and the
Lottery Ticket Hypothesis", ICML 2020.

What this file is *not*: a cheap way to a small network. It costs rounds + 1 trainings; it is an
experiment about why training works. Its control is the same mask on newly drawn weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dca_lab.pruning._checks import check_sparsity
from dca_lab.pruning.budget import make_masks
from dca_lab.pruning.masks import Masker, apply_masks, mask_sparsity, prunable
from dca_lab.pruning.schedules import Importance, Scope, finetune, refuse_checkpoint
from dca_lab.pruning.scores import magnitude
from dca_lab.training import History


@dataclass
class Ticket:
    """A subnetwork and the weights from which it is to be trained.

    Attributes
    ----------
    masks : dict[str, BoolTensor]
        The masks of the last round.
    state : dict[str, Tensor]
        The state dict after ``rewind_step`` steps, before any mask (step 0: as the model came).
    trained : dict[str, Tensor]
        The state dict of the ticket after its own training.
    rounds : list of dict[str, BoolTensor]
        The masks with which each training ran, the dense one (no mask prunes anything) first.
    sparsities : list of float
        The sparsity of each entry of ``rounds``.
    histories : list of History
        The training of each entry of ``rounds``.
    """

    masks: dict[str, Tensor]
    state: dict[str, Tensor]
    trained: dict[str, Tensor] = field(default_factory=dict)
    rounds: list[dict[str, Tensor]] = field(default_factory=list)
    sparsities: list[float] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)

    def put_into(self, model: nn.Module) -> None:
        """Give the model the ticket: the rewound weights, masked. **In place**; train it with a Masker."""
        model.load_state_dict(self.state)
        apply_masks(model, self.masks)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def lottery_ticket(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    sparsity: float,
    rounds: int,
    epochs: int,
    rewind_step: int = 0,
    importance: Importance = magnitude,
    scope: Scope = "global",
    granularity: str = "weight",
    **fit_options: Any,
) -> Ticket:
    """Find a lottery ticket by iterative pruning with rewinding.

    Parameters
    ----------
    model : nn.Module
        Untrained. It is **not** changed; a copy is trained ``rounds + 1`` times.
    x, y : Tensor
        Training data.
    sparsity : float in [0, 1)
        Of the final ticket; round k prunes to 1 - (1 - sparsity)^(k / rounds).
    rounds : int
        At least 1. One round is one-shot: one dense training, one pruning, the ticket's training.
    epochs : int
        Of each training, at least 1.
    rewind_step : int
        Go back to the weights after this many steps of the first training; 0 is the initialisation.
    importance, scope, granularity
        As in :func:`dca_lab.pruning.schedules.one_shot`.
    **fit_options
        Passed on to ``training.fit``; with ``validation=(x, y)`` the histories hold the accuracies of
        each round.

    Returns
    -------
    Ticket

    Raises
    ------
    ValueError
        Sparsity outside [0, 1), rounds or epochs below 1, a rewind step that training never reaches, a
        ``checkpoint``.

    Examples
    --------
    >>> model = nn.Linear(10, 2)
    >>> x, y = torch.rand(16, 10), torch.zeros(16).long()
    >>> ticket = lottery_ticket(model, x, y, sparsity=0.75, rounds=2, epochs=1, progress=False)
    >>> ticket.sparsities, bool((ticket.state["weight"] == model.weight).all())
    ([0.0, 0.5, 0.75], True)
    """
    sparsity = check_sparsity(sparsity)
    refuse_checkpoint(fit_options)
    if rounds < 1 or epochs < 1 or rewind_step < 0:
        given = (rounds, epochs, rewind_step)
        raise ValueError(f"rounds >= 1, epochs >= 1 and rewind_step >= 0 are needed, got {given}")
    searched = copy.deepcopy(model)
    dense = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(searched).items()}
    ticket = Ticket(dense, _state(searched))
    reached = rewind_step == 0

    def remember(step: int) -> None:
        nonlocal reached
        if step == rewind_step and not reached:
            ticket.state, reached = _state(searched), True

    for k in range(rounds + 1):
        if k:
            share = sparsity if k == rounds else 1 - (1 - sparsity) ** (k / rounds)
            scores = importance(searched)
            within = {name: ticket.masks[name] for name in scores}
            ticket.masks = make_masks(scores, share, scope=scope, granularity=granularity, within=within)
            ticket.put_into(searched)
        with Masker(searched, ticket.masks) as masker:
            history = finetune(searched, x, y, masker, epochs=epochs, before_masking=remember, **fit_options)
        if not reached:
            raise ValueError(f"rewind_step={rewind_step}, but training has only {history.steps} steps")
        ticket.rounds.append(ticket.masks)
        ticket.sparsities.append(mask_sparsity(ticket.masks))
        ticket.histories.append(history)
    ticket.trained = _state(searched)
    return ticket
