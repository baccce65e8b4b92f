"""What surrounds the surgery: a safe working copy, a small example input, the ratios, the final check,
putting back hooks and modes.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from . import rules_layers, rules_mix, rules_move, rules_pass, rules_product  # noqa: F401  (registers the rules)
from .attention import HeadAttention, close_attention, open_attention
from .flow import Flow
from .groups import Group
from .importance import IMPORTANCE
from .labels import PruningError
from .surgery import same

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def check_ratio(ratio: float, name: str) -> None:
    """Raise ValueError unless it is a number in [0, 1)."""
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ValueError(
            f"{name} is the share of channels to remove and must be a number in [0, 1), got {ratio!r}."
        )


def check_importance(importance: Any) -> None:
    """Raise ValueError unless it is a known name or a function."""
    if not callable(importance) and importance not in (*IMPORTANCE, "random"):
        known = ", ".join(sorted([*IMPORTANCE, "random"]))
        raise ValueError(
            f"importance={importance!r} is not known; use one of {known}, or a function of a Group."
        )


def working_copy(model: nn.Module) -> nn.Module:
    """A deep copy in evaluation mode whose hooks do not run."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {type(model).__name__}.")
    try:
        work = copy.deepcopy(model)
    except Exception as error:
        raise PruningError(
            f"{type(model).__name__} cannot be deep-copied ({error}); detach tensors that it keeps as attributes."
        ) from error
    for module in work.modules():
        for hooks in _HOOKS:
            setattr(module, hooks, type(getattr(module, hooks))())
    return work.eval()


def opened(work: nn.Module, inputs: tuple) -> nn.Module:
    """The working copy with attention layers whose heads can be removed, computing the same."""
    if any(isinstance(m, nn.MultiheadAttention) for m in work.modules()):
        expected, plain = run(work, inputs), copy.deepcopy(work)
        open_attention(work)
        try:
            if _equal(run(work, inputs), expected):
                return work
        except Exception:  # noqa: BLE001  (a model may reach into the layer's own weights: then it stays whole)
            pass
        return plain
    return work


def _equal(found: Any, expected: Any) -> bool:
    pairs = list(zip(tree_flatten(found)[0], tree_flatten(expected)[0], strict=False))
    return len(tree_flatten(found)[0]) == len(tree_flatten(expected)[0]) and all(
        same(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else type(a) is type(b)
        for a, b in pairs
    )


def restored(small: nn.Module, model: nn.Module) -> nn.Module:
    """Give the result the modes and the hooks of the original."""
    small.train(model.training)
    for path, module in small.named_modules():
        try:
            origin = model.get_submodule(path)
        except AttributeError:
            continue
        module.training = origin.training
        for hooks in _HOOKS:
            setattr(module, hooks, copy.copy(getattr(origin, hooks)))
    if not isinstance(small, torch.fx.GraphModule):
        close_attention(small, model)
        for name in [n for n in vars(small) if n.startswith("_tensor_constant") and not hasattr(model, n)]:
            delattr(small, name)  # left by the recorder
    return small


def small_inputs(work: nn.Module, example: Any) -> tuple:
    """The example as a tuple: at most two samples, and noise in place of a constant tensor, where the model
    accepts that.
    """
    given = example if isinstance(example, (tuple, list)) else (example,)
    given = tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in given)
    tensors = [x for x in given if isinstance(x, Tensor)]
    if not tensors:
        raise ValueError(
            f"example_input must be a tensor or a tuple with tensors, got {type(example).__name__}."
        )
    batches = {x.size(0) for x in tensors if x.dim()}
    noise = torch.Generator().manual_seed(0)

    def tried(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        x = x[:2] if len(batches) == 1 and x.dim() > 1 else x
        if x.is_floating_point() and x.numel() > 1 and (x == x.flatten()[0]).all():
            x = torch.randn(x.shape, generator=noise).to(x)
        return x

    smaller = tuple(tried(x) for x in given)
    try:
        outputs = tree_flatten(run(work, smaller))[0]
        if all(bool(torch.isfinite(o).all()) for o in outputs if isinstance(o, Tensor)):
            return smaller
    except Exception:  # noqa: BLE001  (a model may insist on its batch size: then the example is used as it is)
        pass
    try:
        run(work, given)
    except Exception as error:
        raise ValueError(
            f"{type(work).__name__} does not run on example_input: {type(error).__name__}: {error}"
        ) from error
    return given


def run(model: nn.Module, inputs: tuple) -> Any:
    """The output, with a fixed random state, leaving the inputs and the global state as they are."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(*copy.deepcopy(inputs))


def follow(work: nn.Module, inputs: tuple, hidden: bool = False) -> Flow:
    """The names in `work`, after checking that the recorded program is the model's."""
    expected = run(work, inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = Flow(work, copy.deepcopy(inputs), hidden)
    output = next(n for n in flow.graph.nodes if n.op == "output")
    if not _equal(flow.values[output], expected):
        raise PruningError(
            f"{type(work).__name__}: the program that torch.fx recorded does not compute what the model computes "
            "(a branch on isinstance, a random number, or a tensor changed in place). Rewrite that part of forward."
        )
    return flow


def ratios_of(
    model: nn.Module, groups: list[Group], ratio: float, per_layer: Mapping[str, float], ignore: Iterable[str]
) -> list[float]:
    """The ratio of each group; ValueError for a name that does not exist, cannot be pruned, or contradicts
    another.
    """
    known = [name for name, _ in model.named_modules() if name] + [name for g in groups for name in g.layers]
    wanted = [
        *per_layer.items(),
        *((name, None) for name in ([ignore] if isinstance(ignore, str) else ignore)),
    ]
    chosen: list[dict[str, float]] = [{} for _ in groups]
    for name, value in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            raise ValueError(
                f"the model has no layer {name!r}." + (f" Did you mean {', '.join(close)}?" if close else "")
            )
        own = {name}
        if name in known and isinstance(module := dict(model.named_modules()).get(name), HeadAttention):
            own = {f"{name}.{part}" for part, _ in module.named_children() if part != "out"}
        mine = [i for i, g in enumerate(groups) if own & {*g.layers, *g.followers}]
        if value and not mine:
            raise PruningError(
                f"per_layer: the output channels of '{name}' cannot be removed: they are outputs of the model, or tied to its "
                "inputs or outputs, or the layer makes none. See coupled_groups(model, example_input)."
            )
        for i in mine:
            chosen[i][name] = 0.0 if value is None else float(value)
    for group, values in zip(groups, chosen, strict=True):
        if len(set(values.values())) > 1:
            text = ", ".join(f"{name}: {value:g}" for name, value in values.items())
            raise ValueError(
                f"these layers lose channels together and need one ratio: {text}. (Group: {', '.join(group.layers)}.)"
            )
    return [next(iter(values.values()), float(ratio)) for values in chosen]
