r"""Masks: which weights are kept, and how they stay away while training goes on.

A mask is a boolean tensor of the weight's shape, True where the weight is kept, and a pruned layer computes
:math:`y = f((M \odot W) x + b)`. Setting the weights to zero once is not enough. An optimizer that has seen
gradients remembers them: with momentum :math:`v \leftarrow \mu v + g,\; w \leftarrow w - \eta v`, a
weight set to zero moves again at the next step even when its gradient is zero. So :class:`Masker` masks
three things: the gradient before the step, the weight after it, and the optimizer's own memory.

Masking at training time as in S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections
for Efficient Neural Networks", NeurIPS 2015.

What this file is *not*: it makes nothing smaller or faster. A masked weight is a stored zero; physically
smaller layers come from :mod:`dca_lab.pruning.channels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, nn.Parameter]:
    """The weights that pruning may touch: those of every convolution and linear layer.

    Biases, normalisation and embeddings are left out: they are few, and removing them saves little.
    Transposed convolutions are left out as well, since their first axis is the input. A weight that two
    layers share appears once, under its first name.

    Parameters
    ----------
    model : nn.Module
    layers : iterable of str, optional
        Parameter names such as ``"conv1.weight"``; default every prunable weight, in the model's order.

    Returns
    -------
    dict[str, nn.Parameter]
        Name -> the parameter itself, shape (O, I) or (O, I / groups, kh, kw).

    Raises
    ------
    ValueError
        If a name is not a prunable weight, or the model has none.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    >>> {name: tuple(weight.shape) for name, weight in prunable(model).items()}
    {'0.weight': (4, 1, 3, 3), '3.weight': (2, 36)}
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, _LAYERS) else None
        if weight is not None and id(weight) not in seen:
            seen.add(id(weight))
            found[f"{prefix}.weight" if prefix else "weight"] = weight
    if not found:
        raise ValueError(f"{type(model).__name__} has no convolution or linear layer to prune")
    if layers is None:
        return found
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of parameter names; write [{layers!r}]")
    chosen = list(layers)
    unknown = [name for name in chosen if name not in found]
    if unknown or not chosen:
        raise ValueError(f"{unknown or 'an empty list'} names no prunable weight; choose from {list(found)}")
    return {name: found[name] for name in chosen}


def _targets(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in parameters:
            raise ValueError(f"mask {name!r} names no parameter of {type(model).__name__}")
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise ValueError(
                f"mask {name!r} must be bool of shape {tuple(parameters[name].shape)} (True = kept), "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
    return {name: parameters[name] for name in masks}


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the pruned weights to zero, **in place**; everything else in the model is untouched.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    masks : mapping of str to BoolTensor
        Parameter name -> mask of the parameter's shape, True = kept.

    Raises
    ------
    ValueError
        If a mask names no parameter, is not boolean or has another shape.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> apply_masks(layer, {"weight": torch.tensor([[True, False, True], [False, False, True]])})
    >>> int((layer.weight == 0).sum())
    3
    """
    with torch.no_grad():
        for name, parameter in _targets(model, masks).items():
            parameter.masked_fill_(~masks[name].to(parameter.device), 0)


def mask_sparsity(masks: Mapping[str, Tensor]) -> float:
    """The share of masked weights that is pruned, over all masks together.

    Examples
    --------
    >>> mask_sparsity({"a": torch.tensor([True, False]), "b": torch.tensor([False, False])})
    0.75
    """
    total = sum(mask.numel() for mask in masks.values())
    if not total:
        raise ValueError("there is no mask, or every mask is empty: sparsity is not defined")
    return 1 - sum(int(mask.sum()) for mask in masks.values()) / total


class Masker:
    """Keeps the pruned weights of one model at zero while it is trained.

    From its creation until :meth:`close` (or the end of a ``with`` block):

    - the gradient of a pruned weight is zero,
    - calling the masker sets the pruned weights to zero: it is an ``on_step`` hook for ``training.fit``,
    - an optimizer given to :meth:`watch` ends each of its steps with pruned weights *and* their momentum,
      Adam moments, ... at zero.

    Parameters
    ----------
    model : nn.Module
        Its weights are masked at once, in place.
    masks : mapping of str to BoolTensor

    Examples
    --------
    >>> layer = nn.Linear(4, 1)
    >>> masker = Masker(layer, {"weight": torch.tensor([[True, False, True, False]])})
    >>> optimizer = masker.watch(torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9))
    >>> layer(torch.ones(8, 4)).sum().backward()
    >>> optimizer.step()
    >>> (layer.weight != 0).tolist()
    [[True, False, True, False]]
    >>> masker.close()
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        self.model = model
        self.masks: dict[str, Tensor] = {}
        self._parameters = _targets(model, masks)
        self.update(masks)
        self._handles = [
            parameter.register_hook(partial(self._mask_gradient, name))
            for name, parameter in self._parameters.items()
            if parameter.requires_grad
        ]

    def _mask_gradient(self, name: str, gradient: Tensor) -> Tensor:
        return gradient.masked_fill(~self.masks[name], 0)

    def update(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks (the same names) and apply them at once."""
        if set(masks) != set(self._parameters):
            raise ValueError(f"the new masks must have the names {list(self._parameters)}, got {list(masks)}")
        _targets(self.model, masks)
        self.masks = {name: mask.to(self._parameters[name].device) for name, mask in masks.items()}
        apply_masks(self.model, self.masks)

    def watch(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Mask the weights and the optimizer's state after each of its steps; returns the optimizer."""
        self._handles.append(optimizer.register_step_post_hook(lambda done, *_: self._after_step(done)))
        self._after_step(optimizer)
        return optimizer

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        apply_masks(self.model, self.masks)
        for name, parameter in self._parameters.items():
            # .get, since optimizer.state creates an entry for a parameter that is only looked at
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(~self.masks[name], 0)

    def __call__(self, step: int | None = None, model: nn.Module | None = None) -> None:
        """Set the pruned weights to zero; the arguments are those of ``on_step`` and are not needed."""
        apply_masks(self.model, self.masks)

    def close(self) -> None:
        """Stop: gradients and optimizers are no longer masked. The weights keep their values."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Masker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
