"""Cut the removed names out of a module's storage, and prove on the example that nothing else changed.

The proof: take the original and stop it from reading the removed channels (zero their columns in every
consumer). Everything it then computes must appear, value for value, in the small network at the positions
that are left. So the result cannot be silently wrong, whatever the rules say.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten

from .flow import Flow
from .labels import PruningError
from .rulebook import Named
from .trace import Tracer, describe


def survivors(flow: Flow, labels: Tensor, removed: Tensor) -> list[Tensor]:
    """For each axis of a labelled tensor the indices that are left."""
    kept = ~removed[flow.names.find(labels)]
    indices = []
    for axis in range(kept.dim()):
        others = [d for d in range(kept.dim()) if d != axis]
        line = kept.any(dim=others) if others else kept
        indices.append(line.nonzero().flatten())
    return indices


def left_of(flow: Flow, named: Named, removed: Tensor, tensor: Tensor) -> Tensor:
    """The part of a value that is left (every line of it keeps equally many entries)."""
    indices = survivors(flow, named.labels, removed)
    kept = ~removed[flow.names.find(named.labels)]
    if int(kept.sum()) == torch.Size(map(len, indices)).numel():
        return pick(tensor, indices)
    counts = kept.sum(
        -1
    ).unique()  # final states of a recurrent layer: each row keeps as many units, but others
    if len(counts) > 1:
        raise PruningError(f"internal: what is left of a tensor {tuple(kept.shape)} is not a rectangle")
    return tensor[kept.to(tensor.device)].reshape(*tensor.shape[:-1], int(counts))


def pick(tensor: Tensor, indices: list[Tensor]) -> Tensor:
    """The sub-rectangle of a tensor."""
    for axis, index in enumerate(indices):
        if len(index) < tensor.size(axis):
            tensor = tensor.index_select(axis, index.to(tensor.device))
    return tensor


def shrink(model: nn.Module, flow: Flow, removed: Tensor) -> None:
    """Slice, in place, every parameter, buffer and size of `model`, a deep copy of `flow.model`."""
    wanted: dict[int, list[Tensor]] = {}

    def twin(key: int) -> Tensor:
        path, _, name = flow.owners[key]
        return getattr(model.get_submodule(path), name)

    for (key, axis), entry in flow.axes.items():
        tensor = twin(key)
        indices = wanted.setdefault(id(tensor), [torch.arange(n) for n in tensor.shape])
        indices[axis] = (~removed[flow.names.find(entry.labels)]).nonzero().flatten()
    for key, labels in flow.elements.items():
        wanted[id(twin(key))] = survivors(flow, labels, removed)
    originals = [*model.parameters(), *model.buffers()]  # kept alive: `wanted` knows them by id
    new: dict[int, Tensor] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is None or id(tensor) not in wanted:
                    continue
                if id(tensor) not in new:
                    small = pick(tensor.detach(), wanted[id(tensor)])
                    if (
                        tensor.dim() == 4
                        and tensor.is_contiguous(memory_format=torch.channels_last)
                        and not tensor.is_contiguous()
                    ):
                        small = small.contiguous(memory_format=torch.channels_last)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    new[id(tensor)] = (
                        nn.Parameter(small.clone(), tensor.requires_grad) if is_parameter else small.clone()
                    )
                store[name] = new[id(tensor)]
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()  # its own list of the parameters
    del originals
    paths = {id(module): path for path, module in flow.model.named_modules()}
    for size in flow.sizes:
        left = int((~removed[flow.names.find(size.labels)]).sum())
        setattr(model.get_submodule(paths[id(size.module)]), size.attribute, left)
    for node in flow.graph.nodes:
        if node.op == "call_module" and isinstance(flow.model.get_submodule(node.target), nn.Unflatten):
            module = model.get_submodule(node.target)
            shape = [len(index) for index in survivors(flow, flow.labels[node].labels, removed)]
            start = module.dim % (len(shape) - len(module.unflattened_size) + 1)
            sizes = zip(module.unflattened_size, shape[start:], strict=False)
            module.unflattened_size = tuple(old if old == -1 else n for old, n in sizes)


def blind(flow: Flow, removed: Tensor) -> None:
    """Zero, in place, the columns of `flow.model` that read removed channels."""
    with torch.no_grad():
        for entry in flow.consumers:
            gone = removed[flow.names.find(entry.labels)].nonzero().flatten().to(entry.tensor.device)
            entry.tensor.index_fill_(entry.axis, gone, 0)


def values_of(model: nn.Module, inputs: tuple) -> dict[fx.Node, object]:
    """Every value of the forward pass."""
    tracer = Tracer(copy.deepcopy(inputs))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tracer.record(model)
    return tracer.values


def same(small: object, large: object) -> bool:
    """Equal up to rounding, relative to the largest value."""
    if small.shape != large.shape or small.dtype != large.dtype:
        return False
    if (
        not small.is_floating_point()
    ):  # comparisons and arg-max may flip where rounding decides; what follows from them is checked
        return True
    finite = large[torch.isfinite(large)]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(small, large, rtol=0.0, atol=1e-3 * scale + 1e-7, equal_nan=True)


def difference(
    flow: Flow, removed: Tensor, reference: dict[fx.Node, object], model: nn.Module, inputs: tuple
) -> str | None:
    """None if `model` computes what is left of the reference; otherwise where it first does not."""
    try:
        values = values_of(model, inputs)
    except PruningError as error:
        return str(error)
    if len(values) != len(reference):
        return "the shorter network runs another sequence of operations"
    for (node, small), large, twin in zip(values.items(), reference.values(), flow.graph.nodes, strict=True):
        if node.op == "get_attr" or twin not in flow.labels:
            continue
        pairs = zip(
            tree_flatten(small)[0], tree_flatten(large)[0], tree_flatten(flow.labels[twin])[0], strict=True
        )
        for a, b, name in pairs:
            if isinstance(name, Named) and not same(a, left_of(flow, name, removed, b)):
                return f"{describe(node)} gives {tuple(a.shape)}, expected is part of {tuple(b.shape)}"
    return None
