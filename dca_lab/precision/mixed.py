r"""Mixed precision training: half the bits where they suffice, float32 where they do not.

The weights stay in float32 (*master weights*). In each forward pass ``torch.autocast`` rounds them and the
activations to 16 bits for products and convolutions, and computes sums such as a softmax in float32; the backward pass
uses the same types. The step adds to the float32 weights: with a learning rate of 0.001, an update is often less than
half an ulp of a 16-bit weight, and rounding would swallow it.

`fit_mixed` is ``dca_lab.training.fit`` with this put around the network: the loss comes out unscaled, callbacks and
checkpoints work as always. With a `LossScaler`, gradients are multiplied where they enter the 16-bit part, at the
network's output, and divided before the step; a step with infinite gradients is skipped.

P. Micikevicius et al., "Mixed Precision Training", ICLR, 2018.

What this file is *not*: faster by itself. A processor without 16-bit matrix instructions takes longer; what is
always saved is memory (`memory.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dca_lab.precision.loss_scale import LossScaler
from dca_lab.training import History, fit

DTYPES = (torch.float16, torch.bfloat16)


class MixedPrecision(nn.Module):
    """A network that computes in 16 bits, with float32 weights, inputs and outputs.

    Parameters
    ----------
    model : nn.Module
        Not copied: its weights are the master weights.
    dtype : torch.dtype
        ``torch.bfloat16`` or ``torch.float16``.
    scaler : LossScaler, optional
        Its scale multiplies the gradient that comes in at the output. Its state is part of ``state_dict``.

    Raises
    ------
    ValueError
        When the dtype is another, or a weight is not float32.

    Examples
    --------
    >>> model = MixedPrecision(nn.Linear(784, 10))
    >>> model(torch.zeros(5, 784)).dtype, model.model.weight.dtype
    (torch.float32, torch.float32)
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype = torch.bfloat16, *, scaler: LossScaler | None = None
    ):
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype}: choose torch.float16 or torch.bfloat16")
        other = [name for name, weight in model.named_parameters() if weight.dtype != torch.float32]
        if other:
            raise ValueError(f"the master weights must be float32, {other[0]!r} is not: give model.float()")
        self.model, self.dtype, self.scaler = model, dtype, scaler

    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of x, in float32."""
        with torch.autocast("cpu", dtype=self.dtype):
            y = self.model(x)
        y = y.float()
        if self.scaler is not None and y.requires_grad:
            scale = self.scaler.scale
            y.register_hook(
                lambda gradient: gradient * scale
            )  # in float32 still: the cast's backward comes next
        return y

    def get_extra_state(self) -> Tensor:
        """The scaler's state, so that a checkpoint holds it."""
        state = self.scaler.state_dict().values() if self.scaler else ()
        return torch.tensor([*state], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a checkpoint."""
        if self.scaler:
            self.scaler.load_state_dict(dict(zip(self.scaler.state_dict(), state.tolist(), strict=True)))


def fit_mixed(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    dtype: torch.dtype = torch.bfloat16,
    scaler: LossScaler | None = None,
    lr: float = 1e-3,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    on_step: Callable[[int, nn.Module], object] | None = None,
    on_epoch: Callable[[int, nn.Module], object] | None = None,
    **settings: Any,
) -> History:
    """``dca_lab.training.fit`` in mixed precision: trains `model` in place.

    Parameters
    ----------
    model : nn.Module
        With float32 weights, which it keeps.
    x, y : Tensor
        As for ``fit``.
    dtype : torch.dtype
        ``torch.bfloat16`` or ``torch.float16``.
    scaler : LossScaler, optional
        For float16. Afterwards it tells the last scale and how many steps were skipped; a skipped step counts in
        the history and in a schedule as if it had been taken.
    lr, optimizer, on_step, on_epoch
        As for ``fit``; callbacks get `model`.
    **settings
        The other settings of ``fit``: ``epochs=``, ``batch_size=``, ``seed=``, ``checkpoint=`` ...

    Returns
    -------
    History
        With losses that are not scaled.

    Raises
    ------
    ValueError, FloatingPointError
        As ``fit``; and when gradients are infinite at any scale.

    Examples
    --------
    >>> x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    >>> fit_mixed(nn.Linear(4, 3), x, y, epochs=2, batch_size=4, progress=False).steps
    4
    """

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        parameters = list(parameters)
        update = optimizer(parameters) if optimizer else torch.optim.Adam(parameters, lr=lr, fused=True)
        if scaler is not None:
            update.register_step_pre_hook(lambda *_: _unscale_or_drop(scaler, parameters))
        return update

    return fit(
        MixedPrecision(model, dtype, scaler=scaler),
        x,
        y,
        optimizer=make,
        on_step=on_step and (lambda step, mixed: on_step(step, mixed.model)),
        on_epoch=on_epoch and (lambda epoch, mixed: on_epoch(epoch, mixed.model)),
        **settings,
    )


def _unscale_or_drop(scaler: LossScaler, parameters: list[nn.Parameter]) -> None:
    """Before each step: without gradients, an optimizer's step changes nothing, moments included."""
    finite = scaler.unscale(parameters)
    if not finite:
        for parameter in parameters:
            parameter.grad = None
    scaler.update(finite)
