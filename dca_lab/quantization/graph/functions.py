"""The elementwise functions that become lookup tables, and the part of their input that matters.

A function of one level has at most 256 answers, so integers are mapped to integers by a table and no function
is approximated. `MATTERS` gives the interval outside which a function is constant (hard-swish below -3) or
within 1/1000 of its asymptote: levels spent outside would be levels wasted, so the grid of a tensor that only
such a function reads is chosen inside. It is *not* a list of activations worth using.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
}
# What a function takes beside its input, in the order of its positional arguments.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "hardtanh": ("min_val", "max_val"),
    "gelu": ("approximate",),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "softplus": ("beta", "threshold"),
}
MODULES: dict[type[nn.Module], str] = {
    nn.ReLU6: "relu6",
    nn.Hardtanh: "hardtanh",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.Softplus: "softplus",
}
CALLS: dict[Callable | str, str] = {
    **{function: name for name, function in FUNCTIONS.items()},
    F.sigmoid: "sigmoid",
    F.tanh: "tanh",
    "sigmoid": "sigmoid",  # x.sigmoid()
    "tanh": "tanh",
}
MATTERS: dict[str, tuple[float, float]] = {
    "relu6": (0.0, 6.0),
    "hardswish": (-3.0, math.inf),
    "hardsigmoid": (-3.0, 3.0),
    "sigmoid": (-7.0, 7.0),
    "tanh": (-4.0, 4.0),
    "gelu": (-3.5, math.inf),
    "silu": (-10.0, math.inf),
}


def apply(function: str, x: Tensor, arguments: dict[str, float | str]) -> Tensor:
    """The function called `function`, elementwise.

    Examples
    --------
    >>> apply("leaky_relu", torch.tensor([-1.0, 2.0]), {"negative_slope": 0.5})
    tensor([-0.5000,  2.0000])
    """
    return FUNCTIONS[function](x, **arguments)
