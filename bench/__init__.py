"""Our techniques beside other libraries: the same model, data, epochs and seeds, in one process.

``python -m bench`` (or ``make bench``) runs every comparison and writes what it measured to
``_build/bench.json``; ``python -m bench NAME`` runs one. A folder is a technique and a file in `COMPARISONS` a
comparison: a ``TITLE``, ``run(...)`` that gives rows of plain numbers, and ``report(rows)`` that makes tables
of them, with the goals beside the figures. A library that fails in a row, or is not installed, is a result: the
row holds the error. This is *not* part of the package and no chapter needs it; the peers are the optional extra
``bench``.
"""

from importlib import import_module
from types import ModuleType

COMPARISONS = {
    "architectures": "bench.pruning.architectures",
    "channel-pruning": "bench.pruning.channel_pruning",
    "affine": "bench.quantization.affine",
    "static-int8": "bench.quantization.static_int8",
    "hard-int8": "bench.quantization.hard_int8",
    "int4": "bench.quantization.int4",
    "qat": "bench.quantization.qat",
    "grading": "bench.grading.cost",
    "grading-kills": "bench.grading.kills",
    "grading-safety": "bench.grading.safety",
}


def comparison(name: str) -> ModuleType:
    """The module of a comparison; only what runs is imported."""
    return import_module(COMPARISONS[name])
