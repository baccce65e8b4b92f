"""Remove whole layers: the blocks of a residual network whose shortcut is an identity.

A residual block computes x + F(x). If F(x) is small beside x, the block hardly changes what passes through,
and leaving it out is leaving out F: the shortcut remains. The score of a block is its relative change on
data,

    change = ||block(x) - x|| / ||x||,

and the lowest goes first; scores are measured again after each removal, because the blocks behind now read
something else. A plain chain has no such blocks: taking a layer out of it breaks the composition, and this
file refuses. It is *not* channel removal: the width of what stays is unchanged (see `channels.py`).

References ---------- A. Veit, M. Wilber, S. Belongie. Residual Networks Behave Like Ensembles of Relatively
Shallow Networks. NIPS 2016. X. Men et al. ShortGPT: Layers in Large Language Models are More Redundant Than
You Expect. Findings of ACL 2025.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .graph.labels import PruningError
from .graph.prepare import restored, run, working_copy
from .graph.trace import Tracer

_SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_AFTER = (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_", F.dropout)


def block_changes(model: nn.Module, x: Tensor) -> dict[str, float]:
    """The relative change that each removable residual block makes.

    Parameters
    ----------
    model : nn.Module
        The network; it is not changed.
    x : Tensor
        A batch of inputs; more samples give steadier numbers.

    Returns
    -------
    dict of str to float
        Name of the block -> ||block(x) - x|| / ||x||, in the order of the forward pass. Removable is a
        module that is called once, has a shortcut from its input to its output without parameters, and
        keeps the shape.

    Examples
    --------
    >>> import torch
    >>> from dca_lab.models import ResNet18
    >>> list(block_changes(ResNet18(width=8), torch.randn(2, 1, 28, 28)))
    ['layer1.0', 'layer1.1', 'layer2.1', 'layer3.1', 'layer4.1']
    """
    return _changes(working_copy(model), x)


def remove_layers(
    model: nn.Module,
    x: Tensor,
    *,
    count: int = 1,
    names: Sequence[str] | None = None,
    importance: str = "change",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a copy of `model` without its least important residual blocks; the original is untouched.

    Parameters
    ----------
    model : nn.Module
        A residual network.
    x : Tensor
        Inputs on which the blocks are compared.
    count : int
        How many blocks to remove.
    names : sequence of str, optional
        Remove exactly these blocks instead.
    importance : {"change", "random"}
        The relative change on `x`, or the control.
    generator : torch.Generator, optional
        For "random".

    Returns
    -------
    nn.Module
        A deep copy. A block inside `nn.Sequential` or `nn.ModuleList` is taken out of the list, so later
        ones move up; a block that is an attribute becomes `nn.Identity`.

    Raises
    ------
    ValueError
        For a count that is not between 0 and the number of removable blocks, or a name that is no removable
        block.

    Examples
    --------
    >>> import torch
    >>> from dca_lab.models import ResNet18
    >>> small = remove_layers(ResNet18(width=8), torch.randn(2, 1, 28, 28), count=2)
    >>> sum(len(stage) for stage in (small.layer1, small.layer2, small.layer3, small.layer4))
    6
    """
    if importance not in ("change", "random"):
        raise ValueError(f"importance={importance!r}: use 'change' or 'random'.")
    work = working_copy(model)
    for name, module in work.named_modules():
        module._original_name = name  # lists renumber what remains
    left = _changes(work, x)
    if names is None and (isinstance(count, bool) or not 0 <= count <= len(left)):
        raise ValueError(
            f"count={count!r}, but {type(model).__name__} has {len(left)} removable residual blocks"
            + (
                f" ({', '.join(left)})."
                if left
                else ": none of its modules adds its own input to its result."
            )
        )
    for name in names or ():
        if name not in left:
            raise PruningError(
                f"{name!r} is not a removable residual block of {type(model).__name__}; these are: {', '.join(left) or 'none'}."
            )
    blocks = [work.get_submodule(name) for name in dict.fromkeys(names)] if names is not None else []
    expected = run(work, (x[:2],)).shape
    for step in range(count if names is None else 0):
        scores = _changes(work, x) if step else left
        order = list(scores)
        if importance == "random":
            chosen = order[int(torch.randint(len(order), (), generator=generator))]
        else:
            chosen = min(order, key=scores.__getitem__)
        _take_out(work, work.get_submodule(chosen))
    for block in blocks:
        _take_out(work, block)
    if run(work, (x[:2],)).shape != expected:
        raise PruningError(f"{type(model).__name__}: without these blocks the output has another shape.")
    return _with_modes(work, model)


def _with_modes(work: nn.Module, model: nn.Module) -> nn.Module:
    """Modes and hooks of the original, found by the names that the modules had."""
    for module in list(work.modules()):
        name = module.__dict__.pop("_original_name", None)
        if name is not None:
            origin = model.get_submodule(name)
            children, module._modules = module._modules, {}
            restored(module, origin)
            module._modules = children
    return work


def _take_out(model: nn.Module, block: nn.Module) -> None:
    """Remove one module from the list that holds it, or put an identity in its place."""
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if child is block:
                if isinstance(parent, (nn.Sequential, nn.ModuleList)):
                    del parent[int(key) if key.isdigit() else list(parent._modules).index(key)]
                else:
                    setattr(parent, key, nn.Identity())


def _changes(work: nn.Module, x: Tensor) -> dict[str, float]:
    """Relative change of every removable block of a working copy."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def listen(name: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict, result: object) -> None:
            first = args[0] if args else None
            plain = isinstance(first, Tensor) and isinstance(result, Tensor) and first.shape == result.shape
            calls.setdefault(name, []).append((first.clone(), result.clone()) if plain else None)

        return hook

    handles = [
        m.register_forward_hook(listen(n), with_kwargs=True)
        for n, m in work.named_modules()
        if n and next(m.children(), None) is not None
    ]
    try:
        run(work, (x,))
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name in [n for n, _ in work.named_modules() if n in calls]:
        if len(calls[name]) == 1 and calls[name][0] is not None:
            before, after = calls[name][0]
            if _is_residual(work.get_submodule(name), before[:2]):
                found[name] = float((after - before).norm() / before.norm().clamp(min=1e-30))
    return {
        name: change
        for name, change in found.items()
        if not any(inner.startswith(f"{name}.") for inner in found)
    }


def _is_residual(block: nn.Module, x: Tensor) -> bool:
    """True if the input reaches the output through additions, without a parameter on the way (a relu may
    follow).
    """
    tracer = Tracer((x,))
    try:
        with torch.no_grad():
            graph = tracer.record(block)
    except PruningError:
        return False
    carries: set[fx.Node] = set()
    added = False
    for node in graph.nodes:
        target = type(block.get_submodule(node.target)) if node.op == "call_module" else node.target
        inputs = [a for a in node.args if isinstance(a, fx.Node)]
        if node.op == "placeholder":
            carries.add(node)
        elif (
            inputs
            and inputs[0] in carries
            and (target in _SAME or target in _AFTER or target in ("contiguous", "clone"))
        ):
            carries.add(node)
        elif (
            target in (operator.add, operator.iadd, torch.add, "add", "add_")
            and len(inputs) == 2
            and carries & set(inputs)
        ):
            carries.add(node)
            added = True
        elif node.op == "output":
            return added and bool(carries & set(inputs))
    return False
