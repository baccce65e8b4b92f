"""Small exact changes to a traced network that leave fewer cases: no dropout, nothing in place, no sharing.

Each pass works on the graph in place, and the network computes what it computed before. They are *not*
optimisations: their purpose is that the rest of the package need not think about these cases.
"""

from __future__ import annotations

import copy
import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

_GONE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_GONE_CALLS = (F.dropout, F.dropout2d, torch.dropout, "contiguous", "detach", "clone")
_IN_PLACE = {operator.iadd: operator.add, "add_": "add", "relu_": "relu", torch.relu_: torch.relu}
_IN_PLACE |= {"sigmoid_": "sigmoid", "tanh_": "tanh"}
_RESHAPES = (
    torch.reshape,
    torch.squeeze,
    torch.flatten,
    "view",
    "reshape",
    "squeeze",
    "view_as",
    "reshape_as",
    "flatten",
)


def drop_identities(graph: fx.GraphModule) -> None:
    """Remove what does nothing in evaluation mode: dropout, identity, detach."""
    for node in list(graph.graph.nodes):
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        called = node.op in ("call_function", "call_method") and node.target in _GONE_CALLS
        if isinstance(module, _GONE) or called:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()


def out_of_place(graph: fx.GraphModule) -> None:
    """Let nothing overwrite its input: who reads a tensor after an in-place operation reads its result."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        inside = getattr(module, "inplace", False) or node.kwargs.get("inplace", False)
        if not inside and not (node.op in ("call_function", "call_method") and node.target in _IN_PLACE):
            continue
        node.args[0].replace_all_uses_with(node, lambda user, at=order[node]: order[user] > at)
        if module is not None:
            module.inplace = False
        elif inside:
            node.kwargs = {**node.kwargs, "inplace": False}
        else:
            node.target = _IN_PLACE[node.target]


def unshare(graph: fx.GraphModule) -> None:
    """Give each call of a layer that is called several times a layer of its own, named like its node.

    The copies see different inputs, hence need different grids and fold different batch-norms. A file of
    the quantized network holds their weights once a call.
    """
    seen: set[int] = set()
    for node in graph.graph.nodes:
        if node.op == "call_module":
            module = graph.get_submodule(node.target)
            if id(module) in seen and (list(module.parameters()) or list(module.buffers())):
                module = copy.deepcopy(module)
                graph.add_submodule(node.name, module)
                node.target = node.name
            seen.add(id(module))


def name_flattenings(graph: fx.GraphModule) -> None:
    """Spell every reshape from (B, ...) to (B, values) as ``torch.flatten(x, 1)``; its sizes become unused."""
    for node in list(graph.graph.nodes):
        if not _reshapes(node):
            continue
        source = node.args[0]
        while _reshapes(source):  # two squeezes in a row: none changes the order of the values
            source = source.args[0]
        if node.target is torch.flatten and node.args == (source, 1) and not node.kwargs:
            continue  # spelled so already: a graph that is prepared again keeps its names
        before, after = source.meta["tensor_meta"].shape, node.meta["tensor_meta"].shape
        if after == before:
            node.replace_all_uses_with(source)
        elif node.target is torch.flatten and source is node.args[0]:
            continue  # spelt like this already
        elif len(after) == 2 and after[0] == before[0]:
            with graph.graph.inserting_after(node):
                flat = graph.graph.call_function(torch.flatten, (source, 1))
            flat.meta = dict(node.meta)
            node.replace_all_uses_with(flat)
    graph.graph.eliminate_dead_code()


def _reshapes(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and node.target in _RESHAPES
