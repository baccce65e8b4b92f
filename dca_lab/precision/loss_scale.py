r"""Loss scaling: multiply the loss so that small gradients survive float16, divide the gradients before the step.

The gradients of a network are small: many lie below the smallest number of float16 and would become zero, while its
large numbers are not used at all. Since differentiation is linear,

.. math:: \nabla (S L) = S \, \nabla L

a loss that is multiplied by S moves all gradients up by S. How large may S be? As large as it can without an
overflow, and training itself finds out: start high, *halve* S and skip the step when a gradient is not finite, and
*double* it after `growth_interval` steps in a row without one.

P. Micikevicius et al., "Mixed Precision Training", ICLR, 2018 (section 3.2). The rule that finds S is the one of
``torch.amp.GradScaler``, which is the oracle of the tests.

What this file is *not*: needed for bfloat16, which has the exponents of float32; nor a cure for a loss that is NaN by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SMALLEST = 2.0**-24  # a loss that overflows even so is not overflowing because of its scale


class LossScaler:
    """The loss scale of a training run, and its rule.

    Parameters
    ----------
    scale : float
        The first one: high, since it is halved quickly and doubled slowly.
    growth_factor, backoff_factor : float
        What the scale is multiplied by after `growth_interval` good steps, and after a bad one.
    growth_interval : int
        Good steps in a row before the scale grows.

    Attributes
    ----------
    scale : float
        The present one.
    skipped : int
        Steps that were not taken.

    Raises
    ------
    ValueError
        When a setting is out of range.

    Examples
    --------
    >>> scaler, weight = LossScaler(scale=8.0, growth_interval=1), nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([weight], lr=0.5)
    >>> scaler.scaled(weight.sum()).backward()
    >>> weight.grad.item(), scaler.step(optimizer), weight.item(), scaler.scale
    (8.0, True, 0.5, 16.0)
    """

    def __init__(
        self,
        scale: float = 2.0**16,
        *,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ):
        if not (
            0 < scale < math.inf and growth_factor > 1 and 0 < backoff_factor < 1 and growth_interval >= 1
        ):
            raise ValueError(
                f"scale={scale} must be positive and finite, growth_factor={growth_factor} above 1, "
                f"backoff_factor={backoff_factor} between 0 and 1, growth_interval={growth_interval} at least 1"
            )
        self.scale = float(scale)
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval = growth_interval
        self.skipped = 0
        self._good_steps = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call ``backward`` on."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Divide all gradients by the scale, in place; True when all of them are finite."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient.mul_(1 / self.scale)
        return all(bool(gradient.isfinite().all()) for gradient in gradients)

    def update(self, finite: bool) -> None:
        """Choose the next scale, knowing whether the gradients were finite.

        Raises
        ------
        FloatingPointError
            When the scale has become so small that it cannot be what overflows.
        """
        if not finite:
            self.skipped += 1
            self._good_steps = 0
            self.scale *= self.backoff_factor
            if self.scale < SMALLEST:
                raise FloatingPointError(
                    f"the gradients are not finite even at a loss scale of {self.scale}: look for NaN and infinite "
                    "values in the data, the weights and the loss, or lower the learning rate"
                )
            return
        self._good_steps += 1
        if self._good_steps == self.growth_interval:
            self._good_steps = 0
            grown = self.scale * self.growth_factor
            if grown <= torch.finfo(torch.float32).max:  # an infinite scale would spoil the loss for ever
                self.scale = grown

    def step(self, optimizer: Optimizer) -> bool:
        """Unscale the gradients, take the optimizer's step if they are finite, choose the next scale.

        Returns
        -------
        bool
            Whether the step was taken. When not, gradients are left infinite: call ``zero_grad`` as always.
        """
        finite = self.unscale(parameter for group in optimizer.param_groups for parameter in group["params"])
        if finite:
            optimizer.step()
        self.update(finite)
        return finite

    def state_dict(self) -> dict[str, float]:
        """All that the next step depends on."""
        return {"scale": self.scale, "good_steps": self._good_steps, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from where `state_dict` was taken."""
        self.scale = float(state["scale"])
        self._good_steps, self.skipped = int(state["good_steps"]), int(state["skipped"])
