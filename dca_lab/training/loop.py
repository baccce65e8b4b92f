"""The training loop: shuffle, predict, differentiate, step; deterministic, and resumable to the last bit.

    w <- w - update(d/dw mean loss(model(x[batch]), y[batch]))

H. Robbins, S. Monro, "A Stochastic Approximation Method", Annals of Mathematical Statistics, 1951; the
default update is D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR, 2015. It is *not*
distributed and holds no technique: pruning, quantization and the others come in through `on_step` and
`on_epoch`.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from dca_lab.progress import hidden
from dca_lab.training.evaluation import evaluate, mode
from dca_lab.training.history import History
from dca_lab.training.losses import cross_entropy
from dca_lab.training.resume import Run, fingerprint


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    seed: int = 0,
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
    on_step: Callable[[int, nn.Module], object] | None = None,
    on_epoch: Callable[[int, nn.Module], object] | None = None,
    checkpoint: str | Path | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    progress: bool = True,
) -> History:
    """Trains `model` in place.

    Parameters
    ----------
    model : nn.Module
        Trained in training mode; each module gets back the mode that it had.
    x, y : Tensor
        N examples and their labels. With the default loss: logits (B, C) and y (N,), or logits (B, T, V) and
        y (N, T).
    epochs : int
        Passes over the examples, in a new order each; 0 trains nothing.
    batch_size : int
        Examples a step; the last batch of an epoch may be smaller (a single one is too few for BatchNorm1d).
    lr : float
        Learning rate of the default optimizer, Adam; not used when `optimizer` is given.
    optimizer : callable, optional
        ``optimizer(parameters)`` makes the optimizer of the parameters that require a gradient.
    loss : callable
        ``loss(outputs, y)`` gives a scalar.
    seed : int
        Orders the examples and seeds what the model draws (dropout). torch's global generator is left as it
        was.
    schedule : callable, optional
        ``schedule(optimizer, total_steps)`` makes the learning-rate schedule, stepped after each batch.
    on_step : callable, optional
        ``on_step(step, model)`` after each optimizer step, counted from 1 over all epochs. Masks hook in
        here.
    on_epoch : callable, optional
        ``on_epoch(epoch, model)`` after each epoch, counted from 1, after its validation and before its
        checkpoint.
    checkpoint : path, optional
        Saved atomically after each epoch. When the file is there, the run goes on from it, and ends with the
        same bits as an uninterrupted run on the same number of threads; when it holds all epochs, nothing is
        trained. On an error, the model is set back to the last checkpoint (or to its initial weights), so
        calling again resumes. What callbacks keep to themselves is not saved.
    validation : tuple, optional
        (x, y) whose accuracy is taken after each epoch.
    progress : bool
        Shows a bar in a notebook or on a terminal (stderr), unless the variable DCA_QUIET is set.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        When the examples are none, no tensors, not as many as the labels, or a setting is out of range.
    FloatingPointError
        When the loss is not finite; the step that would have used it is not taken.
    CheckpointError
        A ValueError: when the checkpoint is damaged or belongs to a run with other settings.
    OSError
        When the checkpoint cannot be written; the former one is kept.

    Examples
    --------
    >>> x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    >>> fit(nn.Linear(4, 3), x, y, epochs=2, batch_size=4, progress=False).steps
    4
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    _check(parameters, x, y, epochs, batch_size)
    total_steps = epochs * math.ceil(len(x) / batch_size)
    # fused: the same update in one pass over the memory, a third of a small network's training time
    update = optimizer(parameters) if optimizer else torch.optim.Adam(parameters, lr=lr, fused=True)
    plan = schedule(update, total_steps) if schedule and total_steps else None
    run = Run(model, update, plan, torch.Generator().manual_seed(seed))
    path = Path(checkpoint) if checkpoint is not None else None
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(mode(model, training=True))
        torch.default_generator.manual_seed(seed)
        if path:
            run.settings = fingerprint(
                run,
                data={"x": x, "y": y},
                validation=validation,
                loss=loss,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
            )
            stack.enter_context(run.resumed(path, epochs=epochs))
        steps = {"total": total_steps, "initial": run.history.steps, "unit": "step"}
        bar = tqdm(**steps, leave=False, disable=hidden(progress))
        stack.enter_context(bar)
        while run.epoch < epochs:
            began, earlier = time.perf_counter(), run.history.seconds
            _train_one_epoch(run, x, y, batch_size, loss, on_step, bar)
            run.epoch += 1
            if validation is not None:
                run.history.accuracies.append(evaluate(model, *validation))
            if on_epoch:
                on_epoch(run.epoch, model)
            run.history.seconds = earlier + time.perf_counter() - began
            if path:
                run.save(path)
    return run.history


def _train_one_epoch(
    run: Run,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    loss: Callable,
    on_step: Callable | None,
    bar: tqdm,
) -> None:
    run.model.train()  # a callback may have left the model in evaluation mode
    for batch in torch.randperm(len(x), generator=run.generator).split(batch_size):
        mean_loss = loss(run.model(x[batch]), y[batch])
        value, step = mean_loss.item(), run.history.steps + 1
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {step}: lower the learning rate, "
                "or look for NaN and infinite values in x",
            )
        run.optimizer.zero_grad()
        mean_loss.backward()
        run.optimizer.step()
        if run.schedule:
            run.schedule.step()
        run.history.losses.append(value)
        if on_step:
            on_step(step, run.model)
        bar.update()
        bar.set_postfix(loss=f"{value:.3f}", refresh=False)


def _check(parameters: list, x: Tensor, y: Tensor, epochs: int, batch_size: int) -> None:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise ValueError(f"x and y must be tensors, not {type(x).__name__} and {type(y).__name__}")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y has {len(y)} labels: they must be as many")
    if len(x) == 0:
        raise ValueError("there is nothing to train on: x holds no example")
    if epochs < 0:
        raise ValueError(f"epochs must be 0 or more, not {epochs}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if not parameters:
        raise ValueError("the model has no parameter that requires a gradient: there is nothing to train")
