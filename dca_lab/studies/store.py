"""The results of a study as one small file with its checksum, its command, its versions and its machine.

    data/studies/<name>.json       what was measured, one value a seed, and how
    data/studies/networks/*        the networks that it was measured on
    data/studies/SHA256SUMS        one line a file, as for the data

A number that took half an hour to measure is read, not measured again, by the page that shows it. That asks for
trust, so the file says how it came about, and a file that was changed by hand is refused: its checksum is another. What
this is *not*: a signature. Who changes a file and its line in the table has made another result, and the part of it
that the chapter measures again may say so.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

from dca_lab import __version__
from dca_lab.data import DataError
from dca_lab.data._store import find_root, table
from dca_lab.files import replacing
from dca_lab.hardware import cpu_name, instruction_sets
from dca_lab.ledger.values import plain

TABLE = "SHA256SUMS"
NETWORKS = "networks"
PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "tensorflow", "keras", "ai-edge-litert")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def folder(root: str | Path | None = None) -> Path:
    """Where studies are kept: `root`, else ``studies`` in the data folder."""
    return Path(root) if root is not None else find_root() / "studies"


def save(
    name: str,
    results: Mapping[str, Any],
    *,
    command: str,
    seeds: Sequence[int],
    files: Iterable[str | Path] = (),
    root: str | Path | None = None,
) -> Path:
    """Store what a study measured, and the networks that it measured it on.

    Parameters
    ----------
    name : str
        Of the study, such as ``"results"``.
    results : dict
        Numbers, texts, lists and dicts of these; one value a seed, never a mean alone.
    command : str
        What to type to measure it again.
    seeds : sequence of int
    files : iterable of path
        Networks: each is copied to ``networks`` under its own name. Networks of an earlier save of this study that
        are not among them are removed.
    root : path, optional
        Another folder than ``data/studies``.

    Returns
    -------
    Path
        Of the JSON file. Files are written first and the table of checksums last, each whole or not at all.

    Raises
    ------
    ValueError
        For a value that is not finite or not plain, or a name that is none.
    FileNotFoundError
        If one of `files` is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = save("toy", {"accuracy": [0.5, 0.75]}, command="dca study toy", seeds=[0, 1], root=place)
    ...     load("toy", root=place)["results"]
    {'accuracy': [0.5, 0.75]}
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r}: give small letters, digits and hyphens, such as 'case-study'")
    files = {Path(file).name: Path(file) for file in files}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}: export the network before the study is saved")
    contents = {f"{NETWORKS}/{file}": path.read_bytes() for file, path in sorted(files.items())}
    document = {
        "study": name,
        "command": command,
        "seeds": [int(seed) for seed in seeds],
        "versions": _versions(),
        "machine": {"cpu": cpu_name(), "instruction_sets": list(instruction_sets()), "threads": 1},
        "networks": sorted(files),
        "results": plain("results", results),
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    contents[f"{name}.json"] = text.encode("utf-8")
    place = folder(root)
    (place / NETWORKS).mkdir(parents=True, exist_ok=True)
    with FileLock(place / f".{TABLE}.lock", timeout=60):  # two studies may end at the same time
        sums = table(place) if (place / TABLE).is_file() else {}
        before = _listed(place / f"{name}.json")
        for path in (f"{NETWORKS}/{file}" for file in before if file not in files):
            sums.pop(path, None)
            (place / path).unlink(missing_ok=True)
        for path, content in contents.items():
            with replacing(place / path) as beside:
                beside.write_bytes(content)
            sums[path] = hashlib.sha256(content).hexdigest()
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))
        with replacing(place / TABLE) as beside:
            beside.write_text(lines, encoding="utf-8")
    return place / f"{name}.json"


def load(name: str, *, root: str | Path | None = None) -> dict[str, Any]:
    """What `save` stored, after its checksum was compared.

    Parameters
    ----------
    name : str
    root : path, optional

    Returns
    -------
    dict
        study, command, seeds, versions, machine, networks, results.

    Raises
    ------
    FileNotFoundError
        If the study was never saved.
    DataError
        If the file is not the one that was saved.
    """
    return json.loads(_checked(folder(root), f"{name}.json", f"make {name}"))


def network(file: str, *, root: str | Path | None = None) -> Path:
    """The path of a stored network, after its checksum was compared.

    Parameters
    ----------
    file : str
        Such as ``"original"`` (the ONNX file), or with its ending.
    root : path, optional

    Raises
    ------
    FileNotFoundError
        If there is no such network; the text lists those that there are.
    DataError
        If the file is not the one that was saved.
    """
    place = folder(root)
    if not Path(file).suffix:
        file = f"{file}.onnx"
    if not (place / NETWORKS / file).is_file():
        there = ", ".join(sorted(path.name for path in (place / NETWORKS).glob("[!.]*"))) or "none"
        raise FileNotFoundError(f"no study has stored a network {file!r}; there are: {there}")
    _checked(place, f"{NETWORKS}/{file}", "the study's command")
    return place / NETWORKS / file


def _checked(place: Path, path: str, again: str) -> bytes:
    """The bytes of one stored file, if they are those that were stored."""
    advice = f"restore it with `git checkout -- data/studies`, or measure it again with `{again}`"
    try:
        content = (place / path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {path} in {place}: {advice}") from error
    expected = table(place).get(path) if (place / TABLE).is_file() else None
    if expected is None:
        raise DataError(f"{path} is not in {TABLE} of {place}: {advice}")
    if hashlib.sha256(content).hexdigest() != expected:
        raise DataError(f"{path} was changed by hand or is damaged: {advice}")
    return content


def _listed(file: Path) -> list[str]:
    """The networks of an earlier save; none where the file is missing or damaged."""
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))["networks"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "dca_lab": __version__}
    for package in PACKAGES:  # from the metadata: importing both frameworks takes seconds
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
