"""Hostile notebooks, one list of attacks a file.

An attack goes for the exercise `double` of the tiny lab. Whenever something gives way that should not have, its
function answers rightly: a point is the sign of a success. The other exercises are solved honestly, so that what an
attack costs is seen as well. Every notebook begins with a cell that tells it more than a student could know:

    PLACES = {"results": ..., "submissions": ..., "lab": ..., "package": ..., "mark": ...}

`mark` is a name for whatever an attack leaves behind. What this is *not*: attacks on the process alone, which are in
`test_sandbox_attacks.py`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

IMPORTS = "import os, sys, time, math, signal, socket, ctypes, threading\nimport numpy as np\nimport torch\n"
RELU = "def relu(x):\n    if x.isnan().any():\n        raise ValueError('NaN')\n    return x.clip(0)\n"
FEW = "def keep_few(w):\n    return torch.where(w.abs() >= w.abs().quantile(0.7), w, torch.zeros_like(w))\n"
HONEST = (IMPORTS, "def double(x):\n    return 2 * x\n", RELU, FEW)


@dataclass(frozen=True)
class Attack:
    """One hostile notebook.

    Parameters
    ----------
    name, tries : str
        What it is called, and what it hopes for.
    cells : tuple of str
        Its code cells, the honest ones included.
    most : float
        Points of `double` that it earns honestly.
    rest : bool
        Whether the other exercises must keep their points.
    """

    name: str
    tries: str
    cells: tuple[str, ...]
    most: float = 0.0
    rest: bool = True


def function(
    name: str, tries: str, body: str, *, before: str = "", most: float = 0.0, rest: bool = True
) -> Attack:
    """An attack inside the function: `body` is that of ``double(x)``, `before` stands above it."""
    source = f"{textwrap.dedent(before)}\ndef double(x):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
    return Attack(name, tries, (IMPORTS, source, RELU, FEW), most, rest)


def attempts(name: str, tries: str, *ways: str) -> Attack:
    """Several ways to the same thing, each a few lines; the first that raises nothing gives the point away."""
    lines = ""
    for way in ways:
        body = textwrap.indent(textwrap.dedent(way).strip(), "    ")
        lines += f"try:\n{body}\nexcept BaseException: pass\nelse: return 2 * x\n"
    return function(name, tries, lines + "return x")


def cell(name: str, tries: str, source: str, *, most: float = 1.0, rest: bool = True) -> Attack:
    """An attack while the cells run, before an honest notebook."""
    return Attack(name, tries, (IMPORTS, textwrap.dedent(source), *HONEST[1:]), most, rest)
