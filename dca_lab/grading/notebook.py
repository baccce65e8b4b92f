"""A student's file, read tolerantly and without trust: bytes in, code cells out, nothing is executed.

The bytes come from strangers, so reading is bounded. Outputs, pasted pictures and widget states, which a grader
does not need, are cut out of the text *before* it is parsed: what is left must be of a sensible size, whatever the
file's. Nothing but `Unreadable` leaves this file, with a reason that a student understands; what was odd but could be
read becomes a note for the feedback page.

What this is *not*: a validator. Wrong versions, missing keys and unknown cells are met with what can be made of them
(nbformat would refuse them). Magics and shell escapes stay in the code; the sandbox knows what to do with them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

LARGEST_FILE = 200 << 20
LARGEST_REST = (
    16 << 20
)  # without outputs and pictures; one value of JSON takes up to 24 times its bytes in Python
MOST_TOKENS = 20_000_000  # brackets and strings inside outputs: a few seconds

# A key with this text. Inside a JSON string its quotes would have backslashes, so that this finds keys only.
_BULK = re.compile(rb'(?<!\\)"(?:outputs|attachments|widgets)"\s*+:\s*+(?=[\[{])')
# Whole strings (so that a bracket in a string is none) and brackets. Possessive, and the closing quote may be
# missing (the rest of a cut-off file is one string): no text makes this go back, so that time stays linear.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[\]{}]', re.DOTALL)
_LAB = re.compile(r"""\blab_checks\(\s*["']([\w-]{1,80})["']""")
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"<", "a web page (HTML)"),
)


class Unreadable(ValueError):  # noqa: N818 - raised for a file, not for a mistake in the program
    """The file is not a notebook, or not one that can be read within bounds; the text says what to do."""


@dataclass(frozen=True)
class Cells:
    """The code cells of a notebook in order, notes for the feedback page, and the lab and variant that it says it is of."""

    sources: list[str]
    notes: list[str] = field(default_factory=list)
    lab: str | None = None
    constants: dict | None = None


def read_cells(data: bytes) -> Cells:
    """The code cells of the notebook whose bytes these are.

    Raises
    ------
    Unreadable
        Whatever else is wrong; no other exception.

    Examples
    --------
    >>> read_cells(b'{"cells": [{"cell_type": "code", "source": ["x = 1\\\\n", "y = 2"]}]}').sources
    ['x = 1\\ny = 2']
    """
    notes: list[str] = []
    if len(data) > LARGEST_FILE:
        raise Unreadable(
            f"the file has {len(data) >> 20:,} MB, more than the {LARGEST_FILE >> 20} MB that are read: "
            "clear the outputs (in Jupyter: Edit > Clear Outputs of All Cells), save, and hand it in again"
        )
    tree = _parse(_text(_without_bulk(_as_bytes(data, notes)), notes))
    if not isinstance(tree, dict):
        raise Unreadable("the file is JSON, but not a notebook: hand in the .ipynb file that Jupyter saved")
    cells = _cells(tree)
    sources = [_source(cell, number, notes) for number, cell in enumerate(cells, 1) if _is_code(cell, notes)]
    sources = [_clean(source, notes) for source in sources if source is not None]
    if not sources:
        _note(notes, "the notebook has no code cells")
    ours = _dict(_dict(tree.get("metadata")).get("dca_lab"))
    constants = _dict(ours.get("variant")).get("constants")
    return Cells(sources, notes, _lab(ours, sources), constants if isinstance(constants, dict) else None)


def _as_bytes(data: bytes, notes: list[str]) -> bytes:
    """UTF-8 (or something that is ASCII where JSON has its structure), from whatever Unicode encoding it was."""
    encoding = json.detect_encoding(data)
    if encoding == "utf-8-sig":
        return data[3:]
    if encoding == "utf-8":
        return data
    try:
        text = data.decode(encoding)
    except UnicodeError:
        raise Unreadable(
            f"the file begins like {encoding.upper()} text, but is damaged: save it again"
        ) from None
    _note(
        notes,
        f"the file was not UTF-8; it was read as {encoding.upper().replace('-LE', '').replace('-BE', '')}",
    )
    return text.encode("utf-8", "surrogatepass")


def _without_bulk(data: bytes) -> bytes:
    """The same JSON with empty outputs, attachments and widgets: found by their keys, skipped bracket by bracket."""
    kept, start, tokens = [], 0, 0
    while found := _BULK.search(data, start):
        kept.append(data[start : found.end()])
        depth, start = 0, found.end()
        for token in _TOKEN.finditer(data, start):
            tokens += 1
            if tokens > MOST_TOKENS:
                raise Unreadable(
                    "the outputs have too many parts: clear them, save, and hand the file in again"
                )
            mark = token.group()
            depth += (mark in b"[{") - (mark in b"]}") if len(mark) == 1 else 0
            if depth <= 0:
                break
        else:
            raise Unreadable(
                "the file ends in the middle of an output: it was cut off. Save and hand it in again"
            )
        kept.append(b"[]")
        start = token.end()
    kept.append(data[start:])
    rest = b"".join(kept)
    if len(rest) > LARGEST_REST:
        raise Unreadable(
            f"code and text alone have {len(rest) >> 20} MB, more than the {LARGEST_REST >> 20} MB that are read: "
            "remove pasted data and pictures, and hand the file in again"
        )
    return rest


def _text(data: bytes, notes: list[str]) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        _note(notes, "the file was not UTF-8; it was read as Latin-1")
        return data.decode("latin-1")


def _parse(text: str) -> object:
    start = text.lstrip()[:8]
    if not start:
        raise Unreadable("the file is empty")
    try:
        # numbers as floats: no key that is read holds one, and an integer of a million digits would take minutes
        return json.loads(text, strict=False, parse_int=float)
    except RecursionError:
        raise Unreadable(
            "the file nests brackets too deeply for a notebook: was it saved by Jupyter?"
        ) from None
    except ValueError as error:
        for mark, kind in _KINDS:
            if start.encode("latin-1", "replace").startswith(mark):
                raise Unreadable(f"the file is {kind}, not a notebook: hand in the .ipynb file") from None
        if "<<<<<<<" in text and ">>>>>>>" in text:
            raise Unreadable("the file holds marks of a merge conflict (<<<<<<<): resolve it first") from None
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "an unknown place"
        raise Unreadable(
            f"the file is not a whole notebook: its JSON breaks at {where}. Open and save it again"
        ) from None


def _cells(tree: dict) -> list[dict]:
    """Cells of version 4, or of the worksheets of versions 2 and 3."""
    found = tree.get("cells")
    if not isinstance(found, list):
        sheets = tree.get("worksheets")
        sheets = [sheet for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else []
        lists = [sheet.get("cells") for sheet in sheets]
        found = [cell for cells in lists if isinstance(cells, list) for cell in cells]
        if not sheets:
            raise Unreadable("the file is JSON without cells: hand in the .ipynb file that Jupyter saved")
    return [cell for cell in found if isinstance(cell, dict)]


def _is_code(cell: dict, notes: list[str]) -> bool:
    kind = cell.get("cell_type")
    if kind not in ("code", "markdown", "raw", "heading", "html"):
        _note(notes, "a cell of an unknown type was left out")
    return kind == "code"


def _source(cell: dict, number: int, notes: list[str]) -> str | None:
    source = cell.get("source", cell.get("input"))  # `input`: versions 2 and 3
    if isinstance(source, str):
        return source
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    _note(notes, f"cell {number} has no readable text and was left out")
    return None


def _clean(source: str, notes: list[str]) -> str:
    """Without what no Python source may hold."""
    if "\0" in source:
        _note(notes, "NUL characters were removed from the code")
        source = source.replace("\0", "")
    if _SURROGATE.search(source):
        _note(notes, "broken characters (half of a surrogate pair) were replaced in the code")
        source = source.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return source


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _lab(ours: dict, sources: list[str]) -> str | None:
    """What the release wrote into the metadata; else the name in the setup cell's ``lab_checks("name")``."""
    name = ours.get("lab")
    if isinstance(name, str) and re.fullmatch(r"[\w-]{1,80}", name):
        return name
    found = (_LAB.search(source) for source in sources)
    return next((match.group(1) for match in found if match), None)


def _note(notes: list[str], text: str) -> None:
    if text not in notes and len(notes) < 20:
        notes.append(text)
