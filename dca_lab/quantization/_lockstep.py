"""Run the float network and the quantized one side by side, and revise the quantized layers one after another.

Errors add up along a network: what a layer reads was already rounded. A correction that knows this must see
the quantized input beside the float output, and the layers behind it must see the corrected layer. So the two
networks advance together, and each layer with weights may be replaced before anything reads it. It is *not* a
correction itself: `bias_correction`, `refit` and `adaround` say what to replace.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx
from tqdm.auto import tqdm

from dca_lab.progress import hidden

from .model import StaticModel
from .simulate import simulate_step
from .steps import Step

Revise = Callable[[Step, Tensor, Tensor], Step]


@torch.no_grad()
def lockstep(
    graph: fx.GraphModule, static: StaticModel, x: Tensor, revise: Revise, *, title: str
) -> StaticModel:
    """Replace each step with weights by what `revise` makes of it, in order of execution.

    Parameters
    ----------
    graph : fx.GraphModule
        The float network, from `prepare`.
    static : StaticModel
        Made from `graph`: its steps have the names of the nodes.
    x : Tensor
        (N, ...), calibration examples.
    revise : callable
        ``revise(step, quantized_input, float_output)`` gives the step that the layers behind shall read. The
        output is that of the layer alone, before a ReLU.
    title : str
        Of the progress bar.

    Returns
    -------
    StaticModel
        With the revised steps.
    """
    steps = {step.name: step for step in static.steps}
    order = list(graph.graph.nodes)
    last_use = {source: i for i, node in enumerate(order) for source in node.all_input_nodes}
    last_read = {name: i for i, step in enumerate(static.steps) for name in step.inputs}
    position = {step.name: i for i, step in enumerate(static.steps)}
    floats = fx.Interpreter(graph)
    rounded = {"input": static.input_grid.fake_quantize(x)}
    layers = sum(step.weight is not None for step in static.steps)
    with tqdm(total=layers, desc=title, unit="layer", leave=False, delay=2, disable=hidden()) as bar:
        for i, node in enumerate(order):
            floats.env[node] = x if node.op == "placeholder" else floats.run_node(node)
            if node.name in steps:
                step = steps[node.name]
                inputs, sources = [rounded[name] for name in step.inputs], static.sources(step)
                if step.weight is not None:
                    step = steps[node.name] = revise(step, inputs[0], floats.env[node])
                    bar.update()
                rounded[step.name] = simulate_step(step, inputs, sources)
                for name in [
                    n for n in rounded if last_read.get(n, -1) <= position[step.name] and n != step.name
                ]:
                    del rounded[name]  # nobody reads it any more
            for source in [s for s in node.all_input_nodes if last_use[s] == i]:
                del floats.env[source]
    return StaticModel([steps[step.name] for step in static.steps], static.input_grid, static.input_shape)
