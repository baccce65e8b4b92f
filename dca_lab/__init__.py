"""The techniques of *The Computing Art of Deep Neural Networks*, one room a technique.

Nothing is imported here: ``import dca_lab`` costs nothing, and a chapter names the room that it uses,
as in ``from dca_lab import pruning``.
"""

__version__ = "0.1.0"
