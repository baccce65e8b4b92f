r"""Prune a little at a time while ``model.fit`` trains: a plain Keras 3 callback.

The sparsity climbs along a cubic, fast while much is redundant and slowly at the end,

.. math:: s_t = s_f + (s_i - s_f) \left(1 - \frac{t - t_0}{t_1 - t_0}\right)^3 ,

and each time the weights of least :math:`|w|` go. Adam remembers the gradients of a weight that was just set to zero
and would move it at the next step: so the masks are laid over the weights after *every* batch. M. Zhu, S. Gupta, "To
Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression", ICLR Workshop 2018.

What this file is *not*: the choice of weights is in `masks`. Nothing gets smaller or faster here, see `filters`; and
pruned weights get no second chance, as they do in RigL and its kin.
"""

from __future__ import annotations

import keras

from dca_lab.keras.masks import Masks, apply_masks, check_sparsity, magnitude_masks, prunable, sparsity

__all__ = ["GradualPruning", "apply_masks", "cubic_sparsity", "magnitude_masks", "prunable", "sparsity"]


def cubic_sparsity(step: int, *, start: int, end: int, initial: float = 0.0, final: float) -> float:
    """The sparsity that the cubic schedule has reached at a step.

    Parameters
    ----------
    step : int
        Before ``start`` the schedule is at ``initial``, after ``end`` at ``final``.
    start, end : int
        start < end.
    initial, final : float in [0, 1)
        initial <= final.

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


class GradualPruning(keras.callbacks.Callback):
    """Prunes along the cubic schedule and holds the pruned weights at exactly zero, whatever the optimizer remembers.

    The masks are drawn anew at ``start``, every ``every`` steps after it and at ``end``. A step is a batch that was
    trained on; steps are counted on through several calls of ``fit`` with one model, so that a second call fine-tunes
    with the masks of the first. Each epoch's ``logs`` and the history carry ``sparsity`` (for callbacks that stand
    behind this one in the list).

    Parameters
    ----------
    final : float in [0, 1)
        The sparsity at ``end``.
    start, end : int
        0 <= start < end.
    every : int
        Steps between two prunings.
    initial : float in [0, 1)
        The sparsity at ``start``.
    scope : {"global", "layer"}
        As in `magnitude_masks`.

    Attributes
    ----------
    masks : dict[str, ndarray]
        Those that hold now; empty before ``start``.
    steps, sparsities : list
        When it pruned, and the sparsity that it reached.

    Raises
    ------
    ValueError
        For a schedule that is none; from ``fit``, if training stops before ``end`` or runs several steps in one call.

    Examples
    --------
    >>> import numpy as np
    >>> from dca_lab.keras.models import digit_cnn
    >>> model, x = digit_cnn(4), np.random.default_rng(0).random((64, 28, 28, 1), dtype=np.float32)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> pruning = GradualPruning(0.75, start=0, end=6, every=2)
    >>> history = model.fit(x, np.zeros(64), batch_size=8, verbose=0, callbacks=[pruning])
    >>> pruning.steps, [round(share, 2) for share in pruning.sparsities], history.history["sparsity"]
    ([0, 2, 4, 6], [0.0, 0.53, 0.72, 0.75], [0.75])
    """

    def __init__(
        self,
        final: float,
        *,
        start: int,
        end: int,
        every: int = 50,
        initial: float = 0.0,
        scope: str = "global",
    ):
        super().__init__()
        cubic_sparsity(0, start=start, end=end, initial=initial, final=final)  # refuses what is no schedule
        if start < 0 or isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"start >= 0 and a whole every >= 1 are needed, got {start!r} and {every!r}")
        if scope not in ("global", "layer"):
            raise ValueError(f"scope is 'global' or 'layer', not {scope!r}")
        self.final, self.start, self.end, self.every = final, start, end, every
        self.initial, self.scope = initial, scope
        self._trained: keras.Model | None = None
        self._restart()

    def _restart(self) -> None:
        self.step, self.masks, self.steps, self.sparsities = 0, {}, [], []
        self._held: list[tuple[keras.Variable, object]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Prunes at once if the schedule starts with step 0."""
        if self.model is not self._trained:  # steps and masks belong to one model
            self._trained = self.model
            self._restart()
        if self.model.steps_per_execution != 1:
            raise ValueError("compile with steps_per_execution=1: the masks are laid on after each step")
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if steps and self.step + steps * epochs < self.end:
            raise ValueError(
                f"training ends at step {self.step + steps * epochs}, before the schedule's end={self.end}: "
                "train longer in one call of fit, or end earlier"
            )
        if self.step == 0:
            self._prune()
        self._mask()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Prunes if it is time, and sets to zero what the optimizer has moved."""
        self.step += 1
        self._prune()
        self._mask()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Tells the sparsity."""
        if logs is not None:
            logs["sparsity"] = sparsity(self.model)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Masks once more: an optimizer with averaged weights has just written them into the model."""
        self._mask()

    def _prune(self) -> None:
        due = self.start <= self.step < self.end and (self.step - self.start) % self.every == 0
        if not due and self.step != self.end:
            return
        options = {"start": self.start, "end": self.end, "initial": self.initial, "final": self.final}
        share = cubic_sparsity(self.step, **options)
        self.masks: Masks = magnitude_masks(self.model, share, scope=self.scope, within=self.masks or None)
        kernels = prunable(self.model)
        self._held = [(kernels[p], keras.ops.convert_to_tensor(mask)) for p, mask in self.masks.items()]
        self.steps.append(self.step)
        self._mask()
        self.sparsities.append(sparsity(self.model))

    def _mask(self) -> None:
        for kernel, mask in self._held:
            kernel.assign(keras.ops.where(mask, kernel, 0.0))
