"""A pytest plugin: what nbval executes as a test goes into the book's cache, so that no notebook is executed twice.

    PYTHONPATH=book pytest -p keep_results --nbval-lax chapters

When the last code cell of a notebook has passed, its outputs are stored as `execute` would store them, with the same
key. A notebook in which a cell failed is not stored. What this is *not*: a test; nbval decides what passes.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import nbformat
import pytest
from execute import dependency_key, keep
from jupyter_cache import get_cache
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell

_done: dict[Path, tuple[float, list[list]]] = {}  # notebook: when it began, and the outputs of each code cell


def _execute_and_remember(kernel: RunningKernel, cell_input: str, allow_stdin: bool | None = None) -> str:
    """nbval's own, but with the history, in which IPython looks for the semicolon that hides a value."""
    return kernel.kc.execute(cell_input, allow_stdin=allow_stdin, stop_on_error=False)


RunningKernel.execute_cell_input = _execute_and_remember


def executed(notebook: nbformat.NotebookNode, outputs: list[list]) -> nbformat.NotebookNode:
    """A copy of the notebook in which each code cell has its outputs."""
    result = copy.deepcopy(notebook)
    cells = [cell for cell in result.cells if cell.cell_type == "code"]
    for count, (cell, found) in enumerate(zip(cells, outputs, strict=True), start=1):
        cell.execution_count, cell.outputs = count, found
    return result


@pytest.hookimpl
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> None:
    """Collect the outputs of a cell that passed; store the notebook after its last one."""
    if call.when != "call" or call.excinfo is not None or not isinstance(item, IPyNbCell):
        return
    path, notebook = Path(item.parent.path), item.parent.nb
    began, outputs = _done.setdefault(path, (time.monotonic() - call.duration, []))
    outputs.append(copy.deepcopy(item.test_outputs))
    if len(outputs) == sum(cell.cell_type == "code" for cell in notebook.cells):
        root = item.config.rootpath
        cache = root / "_build" / ".jupyter_cache"
        cache.mkdir(parents=True, exist_ok=True)
        key = dependency_key(notebook, root, path.parent)
        keep(get_cache(cache), path, executed(notebook, outputs), key, time.monotonic() - began)
