"""Remove hidden units of a recurrent layer: all gates of a unit together.

A hidden unit of a GRU or LSTM is one number of the state, but many places in the weights: its row in *every
gate* of `weight_ih`, `weight_hh` and the biases, its column in `weight_hh` (the other units read it at the
next step), and its column in whatever reads the states: the next layer's `weight_ih`, the linear layer
behind. Pruning rows of one gate only would leave a unit that still costs everything. So the score of a unit
adds all its rows, and the unit goes everywhere at once. Removing a unit whose rows are zero is exact: its
state stays at tanh(0) = 0.

Layers and directions of one `nn.GRU` share one `hidden_size`: each loses equally many units, each its own.
This is *not* pruning of the inputs of the layer (see `prune_channels`).

References ---------- W. Wen, Y. He, S. Rajbhandari, M. Zhang, W. Wang, F. Liu, B. Hu, Y. Chen, H. Li.
Learning Intrinsic Sparse Structures within Long Short-Term Memory. ICLR 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .graph.attention import gradients_of
from .graph.groups import Group, choose, find_groups
from .graph.importance import scores_of
from .graph.labels import PruningError
from .graph.prepare import check_importance, check_ratio, follow, restored, small_inputs, working_copy
from .graph.rewrite import checked
from .graph.surgery import blind, shrink


def prune_hidden(
    model: nn.Module,
    example_input: Tensor | tuple,
    ratio: float = 0.5,
    *,
    rnn: str | None = None,
    importance: str | Callable[[Group], Tensor] = "magnitude",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a copy of `model` whose GRU, LSTM or RNN layers have fewer hidden units; inputs and outputs
    keep their shapes.

    Parameters
    ----------
    model : nn.Module
        A network that contains a recurrent layer and something that reads its states, such as a classifier.
    example_input : Tensor or tuple
        One valid input.
    ratio : float in [0, 1)
        Share of the hidden units removed, `round(ratio * hidden_size)` in each layer and direction; at
        least one stays.
    rnn : str, optional
        Name of the recurrent layer; default: all of them.
    importance, generator
        As for `prune_channels`; "magnitude" is the L2 norm of a unit's rows in all gates.

    Returns
    -------
    nn.Module
        A smaller deep copy; the original is untouched.

    Raises
    ------
    ValueError
        For a bad ratio or name, or a model without recurrent layers.
    PruningError
        For `proj_size`, for an initial state that is passed in, or when the states themselves are outputs
        of the model.

    Examples
    --------
    >>> import torch
    >>> class Last(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gru, self.fc = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Linear(8, 2)
    ...     def forward(self, x):
    ...         return self.fc(self.gru(x)[0][:, -1])
    >>> small = prune_hidden(Last(), torch.zeros(1, 5, 3), ratio=0.25)
    >>> small.gru.weight_hh_l0.shape, small.fc.weight.shape
    (torch.Size([18, 6]), torch.Size([2, 6]))
    """
    check_ratio(ratio, "ratio")
    check_importance(importance)
    layers = _recurrent_layers(model, rnn)
    work = working_copy(model)
    inputs = small_inputs(work, example_input)
    with torch.no_grad():
        flow = follow(work, inputs, hidden=True)
        groups = [g for g in find_groups(flow, gradients_of(work, model)) if set(g.layers) & set(layers)]
        for name in layers:
            module = model.get_submodule(name)
            own = [g for g in groups if name in g.layers]
            wanted = module.num_layers * (1 + module.bidirectional)
            if len(own) != wanted or any(g.channels != module.hidden_size or len(g.layers) > 1 for g in own):
                raise PruningError(
                    f"the hidden units of '{name}' cannot be removed: its states are outputs of the model, are added to or "
                    "normalised with something that stays, or an initial state is passed in. Let a linear layer read them."
                )
        scores = [scores_of(g, importance, generator) for g in groups]
        removed = choose(flow, groups, scores, [ratio] * len(groups))[flow.names.root]
        small = copy.deepcopy(work)
        shrink(small, flow, removed)
        blind(flow, removed)
        small = checked(flow, small, removed, inputs)
    return restored(small, model)


def _recurrent_layers(model: nn.Module, rnn: str | None) -> list[str]:
    """The names of the layers to prune; ValueError if there are none or one has a projection."""
    if isinstance(model, nn.RNNBase):
        raise PruningError(
            "a bare recurrent layer has its hidden units as outputs, and they would change shape; pass the model that "
            "contains it and the layer that reads its states."
        )
    found = [name for name, module in model.named_modules() if isinstance(module, nn.RNNBase)]
    if not found or (rnn is not None and rnn not in found):
        raise ValueError(f"rnn={rnn!r}: the model's recurrent layers are {found or 'none'}.")
    chosen = found if rnn is None else [rnn]
    for name in chosen:
        if model.get_submodule(name).proj_size:
            raise PruningError(
                f"'{name}' has proj_size: its state is a projection of the units. Use an LSTM without it."
            )
    return chosen
