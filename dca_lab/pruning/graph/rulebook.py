"""The words in which rules are written: what a rule receives, what it may say, and the book it is entered
in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

if TYPE_CHECKING:
    from .flow import Flow

RULES: dict[Any, Callable] = {}


def rule(*targets: Any) -> Callable[[Callable], Callable]:
    """Register the decorated function for functions, method names (str) or module classes."""

    def register(function: Callable) -> Callable:
        for target in targets:
            RULES[target] = function
        return function

    return register


class Named:
    """A tensor of the forward pass, its labels, and the stored parameter or buffer if it is one as it
    stands.
    """

    def __init__(
        self, flow: Flow, value: Tensor, labels: Tensor | None = None, stored: Tensor | None = None
    ) -> None:
        self.flow, self.value, self._labels, self.stored = flow, value, labels, stored

    @property
    def labels(self) -> Tensor:
        if self._labels is None:
            self._labels = self.flow.element_names(self.stored)
        return self.flow.names.find(self._labels)


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter: `labels[i]` is the name of its index `i`."""

    layer: str
    tensor: Tensor
    axis: int
    labels: Tensor


@dataclass(frozen=True)
class Size:
    """A module attribute that counts names, such as `out_channels`."""

    module: nn.Module
    attribute: str
    labels: Tensor


@dataclass(frozen=True)
class Call:
    """What a rule is given: the node, its module (for layers), its result, and where it is."""

    node: fx.Node
    module: nn.Module | None
    value: Any
    layer: str

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Execute the same function or method on other tensors (label tensors, mostly)."""
        if self.node.op == "call_module":
            return self.module(*args, **kwargs)
        if self.node.op == "call_method":
            return getattr(args[0], self.node.target)(*args[1:], **kwargs)
        return self.node.target(*args, **kwargs)
