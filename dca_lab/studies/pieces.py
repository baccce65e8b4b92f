"""A long study in pieces: what is finished is kept, so that a study that was killed goes on where it was.

    piece(name, settings) = the JSON file of that name, if it was made with the same settings; made now otherwise

A piece is one seed of one framework: minutes, not hours. It is written when it is whole. The settings are the recipe:
change a learning rate and every piece is made again; what they cannot know is that the *code* has changed, for which
there is ``--fresh``. What this is *not*: a checkpoint of a training run (`training.checkpoint`), nor a result that
travels with the repository (`store`): pieces lie in the build folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dca_lab.files import replacing
from dca_lab.hardware import build_folder
from dca_lab.ledger.values import plain


def work_folder(study: str) -> Path:
    """The folder of a study's pieces and networks while it runs, made if it is not there.

    Examples
    --------
    >>> work_folder("toy").name
    'toy'
    """
    place = build_folder() / "studies" / study
    place.mkdir(parents=True, exist_ok=True)
    return place


def piece(
    place: Path,
    name: str,
    make: Callable[[], Mapping[str, Any]],
    *,
    settings: Mapping[str, Any],
    files: tuple[str, ...] = (),
    fresh: bool = False,
) -> dict[str, Any]:
    """The result of ``make()``, kept: read if it is there with the same settings.

    Parameters
    ----------
    place : Path
        A folder, from `work_folder`.
    name : str
        Of the piece, such as ``"torch-seed-0"``.
    make : callable
        Returns a dict of plain numbers, texts, lists and dicts.
    settings : dict
        What the result depends on.
    files : tuple of str
        Files in `place` that `make` writes besides; if one is gone, the piece is made again.
    fresh : bool
        Make it again in any case.

    Returns
    -------
    dict

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     first = piece(Path(place), "a", lambda: {"x": 1}, settings={"epochs": 3})
    ...     again = piece(Path(place), "a", lambda: {"x": 2}, settings={"epochs": 3})
    ...     other = piece(Path(place), "a", lambda: {"x": 2}, settings={"epochs": 4})
    >>> first, again, other
    ({'x': 1}, {'x': 1}, {'x': 2})
    """
    settings = plain("settings", settings)
    file = place / f"{name}.json"
    if not fresh and all((place / needed).is_file() for needed in files):
        kept = _read(file)
        if kept is not None and kept["settings"] == settings:
            return kept["result"]
    result = plain(name, make())
    with replacing(file) as beside:
        beside.write_text(json.dumps({"settings": settings, "result": result}, indent=1), encoding="utf-8")
    return result


def _read(file: Path) -> dict[str, Any] | None:
    """A piece, or None where there is none that is whole."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return kept if {"settings", "result"} <= kept.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
