"""Submissions that are worth a look side by side: winnowed fingerprints of their tokens.

Two programs that differ in names, comments, layout and in the order of their functions have the same tokens once names
and literals are replaced by a placeholder. Every run of `RUN` tokens is hashed; of each `WINDOW` consecutive hashes the
smallest is kept, so that every shared passage of RUN + WINDOW - 1 tokens is found and most hashes need not be stored
(Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting", SIGMOD 2003). What everybody
was given (the released notebook) is taken away, and what more than a third of the class wrote, which is the natural way
to write it. Names that a library chose (``np.clip``) stay: a copy cannot rename them, and two people who think for
themselves choose different ones.

    share(a, b) = shared fingerprints / fingerprints of the one that has fewer

What this is *not*: a verdict. Two people may find the same short solution, a group larger than a third of the class
hides itself, and help that was allowed looks like a copy. A person reads both and decides.
"""

from __future__ import annotations

import builtins
import io
import keyword
import re
import tokenize
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

RUN = 12  # tokens of one fingerprint: a statement or two, longer than an idiom
WINDOW = 4  # hashes of which one is kept
FEWEST = 12  # fingerprints of its own that a notebook needs before a share says anything
MOST_UNITS = 300  # functions of one notebook that are held against each of another's
LONGEST = 200_000  # characters of one notebook that are compared
KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins)) | {"np", "torch", "math"}
TOKEN = re.compile(  # for code that Python cannot read: the same tokens, found one by one
    r"(?P<skip>\s+|\#[^\n]*)"
    r"|(?P<string>[rbfuRBFU]{0,2}(?:\"\"\"(?s:.*?)(?:\"\"\"|\Z)|'''(?s:.*?)(?:'''|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?))"
    r"|(?P<number>(?:0[xXoObB][\da-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)[jJ]?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<sign>\*\*=?|//=?|>>=?|<<=?|[-+*/%&|^@=!<>:]=|->|[^\s\w])"
)


def similar_pairs(
    sources: Mapping[str, Sequence[str]], skeleton: Sequence[str], *, threshold: float = 0.75
) -> list[tuple[str, str, float]]:
    """Pairs of submissions whose own code is largely the same, the most similar first.

    Parameters
    ----------
    sources : mapping of student to the sources of their notebook's code cells
    skeleton : sequence of str
        The code cells of the notebook that was handed out.
    threshold : float
        The smallest share that is listed. In simulated classes of 300 who worked alone, each writing every step in
        one of three or four ways, the largest share of any pair is 0.7; a copy with other names has 1.

    Returns
    -------
    list of (student, student, share)
        The two names in order; share between `threshold` and 1.

    Examples
    --------
    >>> line = "    total = total + weights[{0}] * inputs[{0}] ** {1} - abs(bias)\\n"
    >>> work = "def f(weights, inputs, bias):\\n    total = 0\\n" + "".join(line.format("i" * k, "-" * k + "k") for k in range(9))
    >>> similar_pairs({"ann": [work], "bob": [work.replace("total", "s")], "eve": ["f = max"]}, [])
    [('ann', 'bob', 1.0)]
    """
    students = sorted(sources)
    given = np.unique(
        np.concatenate([_hashes(unit) for unit in _units(skeleton)] or [np.empty(0, np.uint64)])
    )
    prints = [np.setdiff1d(_prints(_units(sources[student])), given) for student in students]
    marks, owners = np.unique(np.concatenate([*prints, np.empty(0, np.uint64)]), return_inverse=True)
    rows = np.repeat(np.arange(len(students)), [len(one) for one in prints])
    # an inverted index: the row of a student, the column of a fingerprint; a product counts what two rows share
    index = csr_matrix((np.ones(len(rows)), (rows, owners)), shape=(len(students), len(marks)))
    common = np.asarray(index.sum(axis=0)).ravel() > max(3, len(students) / 3)
    index = index[:, ~common]
    own = np.asarray(index.sum(axis=1)).ravel()
    shared = (index @ index.T).toarray()
    pairs = []
    for a, b in zip(*np.nonzero(np.triu(shared, k=1)), strict=True):
        fewer = min(own[a], own[b])
        share = float(shared[a, b] / fewer)
        if fewer >= FEWEST and share >= threshold:
            pairs.append((students[a], students[b], share))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def closest_functions(a: Sequence[str], b: Sequence[str], skeleton: Sequence[str]) -> tuple[str, str]:
    """The function of each of two submissions that has most in common with one of the other.

    Parameters
    ----------
    a, b, skeleton : sequence of str
        Code cells, as in `similar_pairs`.

    Returns
    -------
    tuple of two str
        Their sources; empty texts when the two share nothing that was not handed out.
    """
    given = {mark for unit in _units(skeleton) for mark in _hashes(unit).tolist()}
    left, right = (
        [(unit, set(_prints([unit]).tolist()) - given) for unit in _units(cells)[:MOST_UNITS]]
        for cells in (a, b)
    )
    found = ((len(one & other), u, v) for u, one in left for v, other in right if one & other)
    _, u, v = max(found, key=lambda entry: entry[0], default=(0, "", ""))
    return u, v


def tokens(unit: str) -> list[str]:
    """The tokens of a piece of code without names, literals, comments and docstrings.

    Examples
    --------
    >>> tokens("total = np.abs(weights).sum()  # the L1 norm")
    ['v', '=', 'np', '.', 'abs', '(', 'v', ')', '.', 'sum', '(', ')']
    >>> tokens("x = (1 +")
    ['v', '=', '(', '0', '+']
    """
    try:
        found = list(_python_tokens(unit))
    except (tokenize.TokenError, SyntaxError, ValueError):
        found = list(_found_tokens(unit))
    normal, before, line_begins = [], "", True
    for kind, text in found:
        if kind == "end":
            line_begins = True
            continue
        if kind == "string" and line_begins:
            continue  # a docstring, or a string that nothing uses
        if kind == "name" and text not in KEPT and before != ".":
            text = "v"
        normal.append({"string": "''", "number": "0"}.get(kind, text))
        before, line_begins = text, False
    return normal


def _python_tokens(unit: str) -> Iterator[tuple[str, str]]:
    kinds = {tokenize.NAME: "name", tokenize.NUMBER: "number", tokenize.STRING: "string", tokenize.OP: "sign"}
    opens, closes = getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None)
    depth = 0  # Python 3.12 gives the parts of an f-string: here it is one string, as before
    for token in tokenize.generate_tokens(io.StringIO(unit).readline):
        if token.type == opens:
            depth += 1
        elif token.type == closes:
            depth -= 1
            if not depth:
                yield "string", token.string
        elif depth:
            continue
        elif token.type in kinds:
            yield kinds[token.type], token.string
        elif token.type == tokenize.NEWLINE:
            yield "end", ""
        elif token.type == tokenize.ERRORTOKEN and token.string.strip():
            yield "sign", token.string


def _found_tokens(unit: str) -> Iterator[tuple[str, str]]:
    depth = 0
    for match in TOKEN.finditer(unit):
        kind, text = str(match.lastgroup), match.group()
        if kind != "skip":
            depth = max(0, depth + (text in ("(", "[", "{")) - (text in (")", "]", "}")))
            yield kind, text
        elif "\n" in text and not depth:
            yield "end", ""


def _units(cells: Sequence[str]) -> list[str]:
    """The cells cut before each function or class that begins in the first column."""
    units: list[str] = []
    left = LONGEST
    for cell in cells:
        cell = cell[:left]
        left -= len(cell)
        units += re.split(r"(?m)^(?=(?:async )?def |class )", cell)
    return [unit for unit in units if unit.strip()]


@lru_cache(maxsize=4096)
def _hashes(unit: str) -> np.ndarray:
    """A hash of every run of RUN tokens; the same in every process, unlike Python's own."""
    codes = np.array(
        [zlib.crc32(token.encode("utf-8", "replace")) for token in tokens(unit)], dtype=np.uint64
    )
    if len(codes) < RUN:
        return np.empty(0, np.uint64)
    total = np.zeros(len(codes) - RUN + 1, dtype=np.uint64)
    for place in range(RUN):  # a polynomial modulo 2**64
        total = total * np.uint64(0x9E3779B97F4A7C15) + codes[place : place + len(total)]
    return (total ^ (total >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def _prints(units: Iterable[str]) -> np.ndarray:
    """Winnowing: of each WINDOW consecutive hashes the smallest."""
    kept = [np.empty(0, np.uint64)]
    for unit in units:
        hashes = _hashes(unit)
        if len(hashes):
            windows = np.lib.stride_tricks.sliding_window_view(hashes, min(WINDOW, len(hashes)))
            kept.append(windows.min(axis=1))
    return np.unique(np.concatenate(kept))
