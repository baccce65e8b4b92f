"""Execute the notebooks that need it, in parallel, into the cache that the book is built from.

jupyter-cache recognises a notebook by its code cells alone, so a prose change re-executes nothing, but neither would
a change in ``dca_lab``. Therefore a *key* is stored with each cached notebook: a hash of the package files that the
notebook's imports reach, of the data's checksums and of the installed versions. A cached notebook whose key differs
is executed again; one whose imports do not reach the changed file is not.

What this is not: the test of the notebooks. nbval executes them each time, whatever the cache holds, and what passes is
put into this cache (`keep_results`).
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from tqdm import tqdm

CELL_TIMEOUT = 300  # seconds; a whole chapter should finish within 60
VERSIONS = (
    "torch",
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "onnxruntime",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "ipykernel",
)


def notebooks(root: Path) -> list[Path]:
    """Paths of the notebooks that ``_toc.yml`` lists, in reading order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))

    def files(node) -> Iterable[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    yield value
                else:
                    yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    found = (root / f"{name.removesuffix('.ipynb')}.ipynb" for name in files(toc))
    return [path for path in found if path.is_file()]


def _imported(source: str, package: tuple[str, ...] = ()) -> set[str]:
    """Dotted names of everything under ``dca_lab`` that a piece of Python imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "dca_lab"}


def package_files(root: Path, names: set[str]) -> set[Path]:
    """The files of ``dca_lab`` that importing ``names`` can reach, found without running any of them."""
    reached: set[Path] = set()
    waiting = list(names)
    while waiting:
        parts = waiting.pop().split(".")
        # importing a.b.c runs a/__init__, a/b/__init__ and a/b/c.py (or finds c inside a/b)
        for end in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:end])
            path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
            if path.is_file() and path not in reached:
                reached.add(path)
                package = path.parent.relative_to(root).parts
                waiting += _imported(path.read_text(encoding="utf-8"), package)
    return reached


def dependency_key(notebook: nbformat.NotebookNode, root: Path, folder: Path | None = None) -> str:
    """Hash of all that a notebook's outputs depend on, besides its own code cells: modules in its `folder` too."""
    names: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # magics and shell lines are not Python; they import nothing of ours
            lines = (line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!")))
            try:
                names |= _imported("\n".join(lines))
            except SyntaxError:
                pass  # a cell that is meant to fail is executed like any other, and shows its error
    digest = hashlib.sha256()
    style = root / "dca_lab" / "style.mplstyle"
    beside = sorted(folder.glob("*.py")) if folder else []
    sums = [root / "data" / "SHA256SUMS", root / "data" / "studies" / "SHA256SUMS"]
    for path in [*sorted(package_files(root, names)), *beside, style, *sums]:
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    for name in VERSIONS:
        digest.update(f"{name}=={metadata.version(name)}".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()


def stale(root: Path, cache) -> list[tuple[Path, nbformat.NotebookNode, str]]:
    """Drop cached results whose key changed; return the notebooks that have no result now."""
    waiting = []
    for path in notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        key = dependency_key(notebook, root, path.parent)
        try:
            record = cache.match_cache_notebook(notebook)
            if record.data.get("key") == key:
                cache.get_cache_bundle(record.pk)  # a record whose file is gone counts as none
                continue
            cache.remove_cache(record.pk)
        except KeyError:
            pass
        waiting.append((path, notebook, key))
    return waiting


def keep(cache, path: Path, notebook: nbformat.NotebookNode, key: str, seconds: float) -> None:
    """Store an executed notebook with the key of what it depends on."""
    about = {"execution_seconds": seconds, "key": key}
    bundle = CacheBundleIn(notebook, str(path), data=about)
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def execute(root: Path, cache_path: Path, *, workers: int | None = None) -> list[Path]:
    """Bring the cache up to date.

    Each result is stored as soon as its notebook is finished, so an interrupted run loses at most the notebooks
    that were running.

    Parameters
    ----------
    root : Path
        Folder of ``_toc.yml`` and ``dca_lab``.
    cache_path : Path
        Folder of the jupyter-cache, as ``_config.yml`` tells the book.
    workers : int, optional
        Notebooks at a time; by default one a core. Each kernel computes on one thread, so timings stay honest.

    Returns
    -------
    list of Path
        The notebooks that were executed.

    Raises
    ------
    SystemExit
        When a notebook fails: every failure is printed with its traceback, after the others have finished.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("DCA_QUIET", "1")  # progress bars are for readers, not for the rendered page
    cache_path.mkdir(parents=True, exist_ok=True)
    cache = get_cache(cache_path)
    waiting = stale(root, cache)
    failures = {}
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        running = {
            pool.submit(
                single_nb_execution, notebook, cwd=str(path.parent), allow_errors=False, timeout=CELL_TIMEOUT
            ): (path, notebook, key)
            # the longest first, or the last one would keep one core while the others idle
            for path, notebook, key in sorted(waiting, key=lambda item: -item[0].stat().st_size)
        }
        for done in tqdm(as_completed(running), total=len(running), desc="notebooks", disable=not running):
            path, notebook, key = running[done]
            result = done.result()
            name = path.relative_to(root).as_posix()
            if result.err is not None:
                failures[name] = result.exc_string
                continue
            tqdm.write(f"executed {name} in {result.time:.0f} s", file=sys.stderr)
            keep(cache, path, notebook, key, result.time)
    for name, trace in failures.items():
        print(f"\n{name} failed:\n{trace}", file=sys.stderr)
    if failures:
        raise SystemExit(f"{len(failures)} of {len(waiting)} notebooks failed: {', '.join(failures)}")
    return [path for path, _, _ in waiting]
