"""Where a training run stands, as a checkpoint: taken, put back, and refused when it belongs to another run.

The state of a run is *all* that its next step depends on: weights and buffers, the optimizer's moments, the
schedule's position, the generator that shuffles, the global generator that dropout draws from, and the number
of epochs done. A fingerprint of the settings, the data and the initial weights says which run it is. It is
*not* the file format: that is `checkpoint.py`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dca_lab.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from dca_lab.training.history import History


@dataclass
class Run:
    """The moving parts of one training run, and the fingerprint of its settings."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    generator: torch.Generator
    history: History = field(default_factory=History)
    epoch: int = 0
    settings: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the run's state, atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "generator": self.generator.get_state(),
            "global_generator": torch.get_rng_state(),
            "history": asdict(self.history),
            "epoch": self.epoch,
            "step": self.history.steps,
            "settings": self.settings,
        }
        save_checkpoint(path, state)

    @contextmanager
    def resumed(self, path: Path, *, epochs: int) -> Iterator[None]:
        """Goes on from the checkpoint when there is one; an error inside sets the model back to the last.

        So whoever calls again with the same model, in the same process or in a new one, resumes.
        """
        initial = {name: value.clone() for name, value in self.model.state_dict().items()}
        if path.exists():
            self._restore(path, epochs)
        try:
            yield
        except BaseException:
            self.model.load_state_dict(load_checkpoint(path)["model"] if path.exists() else initial)
            raise

    def _restore(self, path: Path, epochs: int) -> None:
        state = load_checkpoint(path)
        _refuse_another_run(path, state, self.settings)
        if state["epoch"] > epochs:
            raise CheckpointError(
                f"{path} holds {state['epoch']} epochs and only {epochs} were asked for: "
                f"ask for at least {state['epoch']}, or delete the file to train anew",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["global_generator"])
        self.history = History(**state["history"])
        self.epoch = state["epoch"]
        self.settings = state["settings"]


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and every bit.

    Examples
    --------
    >>> digest({"w": torch.zeros(2)}) == digest({"w": torch.zeros(2, dtype=torch.float64)})
    False
    """
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def fingerprint(
    run: Run,
    *,
    data: dict[str, Tensor],
    validation: tuple[Tensor, Tensor] | None,
    loss: Callable,
    epochs: int,
    batch_size: int,
    seed: int,
) -> dict[str, str]:
    """The settings that must be equal for two runs to be one, each as a short text.

    The number of epochs belongs to them only under a schedule, which is stretched over all of them.
    """
    model, schedule = run.model, run.schedule
    groups = [{k: v for k, v in group.items() if k != "params"} for group in run.optimizer.param_groups]
    return {
        "model": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters",
        "initial weights": digest(model.state_dict()),
        "data": digest(data),
        "validation": digest(dict(zip("xy", validation, strict=True))) if validation is not None else "none",
        "optimizer": _text([type(run.optimizer).__name__, *groups]),
        "schedule": _text([type(schedule).__name__, schedule.state_dict()]) if schedule else "none",
        "epochs": str(epochs) if schedule else "any",
        "loss": _name(loss),
        "batch_size": str(batch_size),
        "seed": str(seed),
    }


def _name(function: Callable) -> str:
    """A function's full name, or the text of a callable object that has none."""
    if hasattr(function, "__qualname__"):
        return f"{function.__module__}.{function.__qualname__}"
    return _text(function)


def _text(value: Any) -> str:
    """repr without memory addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _refuse_another_run(path: Path, state: dict[str, Any], settings: dict[str, str]) -> None:
    """Raises when the settings differ; a model with the checkpoint's own weights may go on from them."""
    if "settings" not in state:
        raise CheckpointError(f"{path} was not written by fit: name another file, or delete it")
    saved = dict(state["settings"])
    if settings["initial weights"] == digest(state["model"]):
        saved["initial weights"] = settings["initial weights"]
    names = [name for name in {**saved, **settings} if saved.get(name) != settings.get(name)]
    if names:
        rows = "\n".join(f"  {n}: {saved.get(n)} in the file, {settings.get(n)} now" for n in names)
        raise CheckpointError(
            f"{path} belongs to a training run with other settings:\n{rows}\n"
            "To resume that run, give its settings and a model with its initial weights; "
            f"to begin a new one, delete {path} or name another file",
        )
