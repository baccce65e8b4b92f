"""Moving a scale for each channel from a linear layer's weight into whatever comes before it, exactly.

    W x = (W diag(s)) (x / s),      and x / s is made for free if x = norm(..) * weight + bias, or x = a linear layer

A pair names what makes x and *all* its readers, which must be linear layers: one that is forgotten would read x / s.
Attention mixes positions and not channels, so an attention's v may stand before its output layer. It is *not* possible
through gelu, since gelu(x / s) is not gelu(x) / s: the second layer of a perceptron keeps its inputs. (Through ReLU it
is; see `equalize`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from dca_lab.models.transformer import CausalSelfAttention

Pairs = Mapping[str, Sequence[str]]


def norm_pairs(model: nn.Module) -> dict[str, list[str]]:
    """Each LayerNorm whose output is read by linear layers only, and these layers; found by tracing.

    Raises
    ------
    ValueError
        When torch.fx cannot trace the model: then name the pairs.

    Examples
    --------
    >>> from dca_lab.models.transformer import TransformerLM
    >>> norm_pairs(TransformerLM(layers=1))["blocks.0.norm2"]
    ['blocks.0.fc1']
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # whatever the model's own code raises when it meets a symbolic tensor
        raise ValueError(f"the model cannot be traced ({error}): pass pairs={{norm: [linears]}}") from error
    modules = dict(model.named_modules())
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    found = {}
    for node in graph.nodes:
        if node.op != "call_module" or not _may_give(modules[node.target]) or calls.count(node.target) > 1:
            continue
        users = [user for user in node.users if not _asks_for_shape(user)]
        readers = [user.target for user in users if _takes(user, modules)]
        once = all(calls.count(name) == 1 for name in readers)
        if readers and len(readers) == len(users) and once and not _tied(model, [node.target, *readers]):
            found[node.target] = readers
    return found


def attention_pairs(model: nn.Module) -> dict[str, list[str]]:
    """The v and the output layer of each `CausalSelfAttention`.

    Examples
    --------
    >>> from dca_lab.models.transformer import TransformerLM
    >>> attention_pairs(TransformerLM(layers=1))
    {'blocks.0.attention.v': ['blocks.0.attention.out']}
    """
    names = [name for name, each in model.named_modules() if isinstance(each, CausalSelfAttention)]
    prefixes = [f"{name}." if name else "" for name in names]
    return {f"{p}v": [f"{p}out"] for p in prefixes if not _tied(model, [f"{p}v", f"{p}out"])}


def checked_pairs(model: nn.Module, pairs: Pairs) -> dict[str, list[str]]:
    """The pairs as lists; ValueError when a name is not what a pair needs, or there is none."""
    modules = dict(model.named_modules())
    if not pairs:
        raise ValueError("no pair: no LayerNorm is read by linear layers only; pass pairs={norm: [linears]}")
    for previous, linears in pairs.items():
        if not (_may_give(modules.get(previous)) or type(modules.get(previous)) is nn.Linear):
            raise ValueError(f"{previous!r} is no LayerNorm with weights and no linear layer")
        if isinstance(linears, str) or not linears:
            raise ValueError(f"pairs[{previous!r}] must be a list of names, got {linears!r}")
        wrong = [name for name in linears if type(modules.get(name)) is not nn.Linear]
        if wrong:
            raise ValueError(f"pairs[{previous!r}]: no linear layer is called {wrong}")
        channels = len(modules[previous].weight)
        if any(modules[name].in_features != channels for name in linears):
            raise ValueError(f"{previous!r} gives {channels} channels, and not all of {linears} take as many")
    return {previous: list(linears) for previous, linears in pairs.items()}


@torch.no_grad()
def fold(model: nn.Module, previous: str, linears: Iterable[str], scale: Tensor) -> None:
    """Divide the output of `previous` by the scale (I,), multiply the columns of the linear layers; in place."""
    before = model.get_submodule(previous)
    scale = scale.double()
    if not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise ValueError(f"{previous!r}: a scale is not positive and finite")
    rows = scale[:, None] if before.weight.ndim == 2 else scale  # a linear layer's rows, or a norm's weights
    before.weight.copy_(before.weight.double() / rows)
    if before.bias is not None:
        before.bias.copy_(before.bias.double() / scale)
    for name in linears:
        weight = model.get_submodule(name).weight
        weight.copy_(weight.double() * scale)


def _may_give(module: nn.Module | None) -> bool:
    return isinstance(module, nn.LayerNorm) and module.weight is not None and module.weight.ndim == 1


def _takes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and type(modules[node.target]) is nn.Linear


def _asks_for_shape(node: fx.Node) -> bool:
    """Whether this step reads the shape, which no scale changes, and not the values."""
    attribute = (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim", "dtype")
    )
    return attribute or (node.op == "call_method" and node.target in ("size", "dim"))


def _tied(model: nn.Module, names: Iterable[str]) -> bool:
    """Whether a parameter of these modules has a second name: scaling it would change another layer."""
    every = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
    return any(every.count(id(p)) > 1 for name in names for p in model.get_submodule(name).parameters())
