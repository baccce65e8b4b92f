"""Whole experiments: several techniques on one network, one command each, their results kept in files.

A chapter shows one technique and trains what it needs in front of the reader. A study composes them, over several
seeds and for longer than a reader waits; its results are stored (`store`), and the chapter that shows them runs a part
again and fails if that part disagrees.

    dca study results           the document's table: original, pruned, quantized, mixed precision
    dca study case-study        the document's case study: eleven million parameters, every technique in turn
    dca study language-model    the transformer that the language-model chapter quantizes

This room is the only one that may import every other. Importing it imports nothing heavy: each study imports its
framework when it runs.
"""

from importlib import import_module
from typing import Any

__all__ = ["load", "network", "save"]


def __getattr__(name: str) -> Any:
    """`load`, `network` and `save` of `store`, imported when they are used: ``dca --help`` answers at once."""
    if name in __all__:
        return getattr(import_module("dca_lab.studies.store"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
