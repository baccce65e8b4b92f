"""Splits that need no seed and leak nothing: a sample's side is a function of what it says.

Samples that share a key (the same sentence, the same mailing-list thread) belong to one group, and so do
chains of them: a connected component of the graph samples - keys. A group goes to the test part when the
SHA-256 of its smallest key, read as a number in [0, 1), is below the share. The side of a sample then depends
on neither the order of the file nor a random generator, and duplicates never face each other. What it is
*not*: stratified, or exact in size.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def letters(text: str) -> str:
    """Return the words of ``text`` in lower case, without digits and punctuation: near-copies become equal.

    A text without any letter is its own key.
    """
    return " ".join(re.findall(r"[^\W\d_]+", text.lower())) or text.strip()


def unit(key: str) -> float:
    """Return a number in [0, 1) that depends on ``key`` alone."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:6], "big") / 2**48


def groups(*keys: list[str]) -> np.ndarray:
    """Number the groups of samples that are connected through equal keys.

    Parameters
    ----------
    *keys : lists of str, each of length N
        One list a kind of key; an empty string connects nothing.

    Returns
    -------
    array of int, shape (N,)
    """
    n = len(keys[0])
    node: dict[tuple[int, str], int] = {}
    rows, columns = [], []
    for kind, column in enumerate(keys):
        for row, key in enumerate(column):
            if key:
                rows.append(row)
                columns.append(node.setdefault((kind, key), n + len(node)))
    size = n + len(node)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:n]


def held_out(*keys: list[str], share: float = 0.2) -> np.ndarray:
    """Return which samples are for testing; samples connected through equal keys stay together.

    Parameters
    ----------
    *keys : lists of str, each of length N
        See `groups`; the first list also gives each group its place, so it holds no empty string.
    share : float
        Expected part of the groups that goes to the test set.

    Returns
    -------
    array of bool, shape (N,)
    """
    group = groups(*keys)
    smallest: dict[int, str] = {}
    for number, key in zip(group.tolist(), keys[0], strict=True):
        smallest[number] = min(key, smallest.get(number, key))
    return np.array([unit(smallest[number]) < share for number in group.tolist()])


def order(keys: list[str]) -> np.ndarray:
    """Return a permutation that depends on the keys alone: the first n samples become a fair sample."""
    return np.argsort([unit("order " + key) for key in keys], kind="stable")
