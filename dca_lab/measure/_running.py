"""Run a model without leaving a trace in it: its mode and the number of threads are put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """Put every `nn.Module` among `models` in evaluation mode; restore the mode of each part afterwards."""
    modes = [
        (part, part.training) for model in models if isinstance(model, nn.Module) for part in model.modules()
    ]
    try:
        for part, _ in modes:
            part.training = False  # not .eval(): a model may override it
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def threads_set_to(threads: int) -> Iterator[None]:
    """Let torch use `threads` threads inside one operation, and the former number afterwards."""
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads={threads!r}: give a whole number of at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def call(model: Any, example_input: Any) -> Any:
    """``model(x)``, or ``model(*inputs)`` for a tuple or a list (a packed sequence is one input)."""
    if isinstance(example_input, (tuple, list)) and not isinstance(example_input, PackedSequence):
        return model(*example_input)
    return model(example_input)


def require_module(model: Any) -> None:
    """Raise ValueError unless `model` is a module that hooks can see into."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"expected a torch.nn.Module, got {type(model).__name__}: this measure looks at the layers"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a ScriptModule hides its layers from hooks: measure the module it was made from")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"parameter {name!r} has no shape yet (lazy layer): run the model once, then measure"
            )


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dicts, each storage counted by its own caller."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)


def nbytes(value: Any) -> int:
    """Bytes of all elements of all distinct tensors in `value`."""
    distinct = {id(tensor): tensor for tensor in tensors_in(value)}
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())
