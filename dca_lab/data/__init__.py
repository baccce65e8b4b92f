"""Real data, small enough to travel with the repository, with splits that leak nothing.

``load(name)`` returns a `Dataset`. Its file is compared with a checksum before it is parsed, its arrays are
read-only, and its test part shares no subject, speaker, prompt, drawing, thread or sentence with its training
part wherever the set makes that possible; the loader's docstring says what is left. Importing this room needs
numpy and scipy; torch is imported by `as_tensors` when it is called. Nothing here downloads anything.

Provenance and licence of each file: ``data/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from dca_lab.data import driving, medical, sound, text, vision
from dca_lab.data._store import DataError, find_root, stamp
from dca_lab.data._verify import FileRecord, verify
from dca_lab.data.dataset import Dataset
from dca_lab.data.preprocess import MinMax, Standard, clean
from dca_lab.data.tensors import as_tensors
from dca_lab.data.windows import windows

__all__ = [
    "DataError",
    "Dataset",
    "FileRecord",
    "MinMax",
    "Standard",
    "as_tensors",
    "clean",
    "files",
    "load",
    "names",
    "verify",
    "windows",
]

_SETS: dict[str, tuple[Callable[[Path], Dataset], tuple[str, ...]]] = {
    "mnist": (vision.load_mnist, vision.MNIST_FILES),
    "fashion": (vision.load_fashion, vision.FASHION_FILES),
    "spam": (text.load_spam, text.SPAM_FILES),
    "sentiment": (text.load_sentiment, text.SENTIMENT_FILES),
    "translation": (text.load_translation, text.TRANSLATION_FILES),
    "austen": (text.load_austen, text.AUSTEN_FILES),
    "tones": (sound.load_tones, sound.TONES_FILES),
    "voices": (sound.load_voices, sound.VOICES_FILES),
    "rehab": (medical.load_rehab, medical.REHAB_FILES),
    "cells": (medical.load_cells, medical.CELLS_FILES),
    "signs": (driving.load_signs, driving.SIGNS_FILES),
}


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_SETS)


def files(name: str) -> tuple[str, ...]:
    """Return the files of one set, below the data folder.

    Examples
    --------
    >>> files("cells")
    ('medical/cells.csv.gz',)
    """
    if name not in _SETS:
        raise ValueError(f"unknown data set {name!r}; there are: {', '.join(_SETS)}")
    return _SETS[name][1]


# Four sets: more than any chapter uses at once, and little memory. The stamp makes a changed file a new
# entry, so an altered file is noticed in a running notebook too.
@lru_cache(maxsize=4)
def _load(name: str, root: Path, _stamp: tuple) -> Dataset:
    return _SETS[name][0](root)


def load(name: str, *, root: Path | str | None = None) -> Dataset:
    """Load one data set, after its files were compared with their checksums.

    Parameters
    ----------
    name : str
        One of `names`.
    root : path, optional
        The data folder; without it the environment variable ``DCA_DATA``, else ``data`` next to the package.

    Returns
    -------
    Dataset
        With read-only arrays, which later calls share.

    Raises
    ------
    ValueError
        For an unknown name.
    DataError
        When a file is missing, truncated or altered; the text says how to restore it.

    Examples
    --------
    >>> cells = load("cells")
    >>> cells.x_train.shape, cells.classes
    ((1009, 56), ('poorly segmented', 'well segmented'))
    """
    paths = files(name)
    folder = find_root(root).resolve()
    found = _load(name, folder, stamp(folder, paths))
    # The dict is the caller's to change, the arrays are shared.
    return replace(found, extras=dict(found.extras))
