"""From a module to a list of layers: what static quantization, its exporters and its corrections stand on.

1. ``prepare`` traces a network (`torch.fx`), ``tidy`` and ``fold`` simplify it exactly, ``ops`` knows each operation
   or refuses it by name, ``functions`` lists those that become lookup tables.
2. ``plan`` lists the layers that will be steps, and which tensor decides the grid of each.
"""

from .errors import QuantizationError
from .plan import Planned, plan
from .prepare import prepare

__all__ = ["Planned", "QuantizationError", "plan", "prepare"]
