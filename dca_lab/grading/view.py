"""A record as it may be shown: every text cleaned and cut, every number finite, whatever a submission put there.

A student's name, an error's text, a note about the file: all come from outside, so they may hold terminal colours,
characters that turn the reading direction round, halves of surrogate pairs that no file can hold, or a million
letters. `view` reads a record once and gives plain fields; the CSV, the results.json and both HTML pages are made from
these fields only. What this is *not*: escaping. HTML is escaped by the templates, formulas by `grades_csv`, since only
they know what their format is afraid of.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
# control characters, invisible ones, and those that reorder what is read (Unicode's bidirectional controls)
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
UNWRITABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")  # no UTF-8 exists for these
# what became of an exercise, in words; everything not listed here is shown as it is called
OUTCOMES = {
    "right": "right",
    "wrong": "not right yet",
    "partial": "partly right",
    "raised": "raised an exception",
    "missing": "no function of this name",
    "crashed": "the process ended while it ran",
    "timeout": "took too long",
    "exhausted": "the time for the notebook was used up before",
    "refused": "returned something that is not a value",
    "not written yet": "not written yet",
    "grader error": "could not be graded, by a mistake of the grader",
    "unreadable": "the file could not be read",
}
STOPPED = (
    "crashed",
    "timeout",
    "exhausted",
    "unreadable",
    "grader error",
)  # what an instructor may want to look at by hand


@dataclass(frozen=True)
class Part:
    """One exercise of one student."""

    name: str
    points: float
    out_of: float
    outcome: str  # a key of OUTCOMES, or another word
    mistake: str  # name of the typical mistake, "" for none
    message: str  # what the hidden check said
    seen: bool | None  # whether the visible check passed; None: it did not run
    seen_message: str  # what the visible check said

    @property
    def full(self) -> bool:
        return self.out_of > 0 and self.points >= self.out_of


@dataclass(frozen=True)
class View:
    """One graded submission."""

    student: str
    digest: str
    level: str
    outcome: str  # "graded", or why not
    score: float
    out_of: float
    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    errors: tuple[tuple[str, str], ...]  # (where, what)
    constants: tuple[tuple[str, str], ...]
    seconds: float
    platform_id: str = ""

    @property
    def graded(self) -> bool:
        """Whether the exercises say something of their own; otherwise the notes tell why there are none."""
        return bool(self.parts) and self.outcome in ("graded", "grader error")

    @property
    def stopped(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.outcome in STOPPED)


def clean(text: Any, *, limit: int = 1000, lines: bool = True) -> str:
    r"""Text that can be written, read and shown: no control characters, no surrogates, at most `limit` characters.

    Parameters
    ----------
    text : Any
        None becomes an empty text; anything else that is no text is turned into one.
    limit : int
        The longest text that is given; a longer one ends in an ellipsis.
    lines : bool
        Whether line breaks and tabs stay; otherwise they become spaces.

    Examples
    --------
    >>> clean("\x1b[31mred\x1b[0m \u202edesrever\ud800")
    'red desrever�'
    >>> clean("two\nlines", lines=False), clean("x" * 99, limit=5)
    ('two lines', 'xxxx…')
    """
    text = "" if text is None else text if isinstance(text, str) else str(text)
    text = text[: 4 * limit]  # so that a million characters cost nothing below
    text = TERMINAL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = UNWRITABLE.sub("\ufffd", INVISIBLE.sub("", text))
    text = text.strip() if lines else " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: Any, *, most: float = math.inf) -> float:
    """A finite number between 0 and `most`; 0 for whatever is none.

    Examples
    --------
    >>> number(2), number(float("nan")), number("7"), number(9, most=4)
    (2.0, 0.0, 0.0, 4.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        value = float(value)  # an integer of a thousand digits is none
    except OverflowError:
        return 0.0
    return max(0.0, min(value, float(most))) if math.isfinite(value) else 0.0


def points(value: float) -> str:
    """Points as people write them.

    Examples
    --------
    >>> points(3.0), points(2.5), points(2 / 3)
    ('3', '2.5', '0.67')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def page_name(student: str) -> str:
    """File name of a student's feedback page: safe on every system.

    The ids that `student_ids` gives stay as they are. Any other name is changed and gets digits of its sha256, so that
    two names that look alike after the change are two pages.

    Examples
    --------
    >>> page_name("student_07"), page_name("Zoë")
    ('student_07.html', 'Zoë.html')
    >>> page_name("../../etc/passwd")
    'etc_passwd-3754d6cb.html'
    """
    safe = re.sub(r"[^\w.@-]+", "_", student[:200]).strip("_.-@")
    while len(safe.encode("utf-8", "surrogatepass")) > 200:  # a file name may have 255 bytes
        safe = safe[:-1]
    reserved = re.fullmatch(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", safe, flags=re.IGNORECASE)
    if safe != student or not safe or reserved:
        digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        safe = f"{safe or 'student'}-{digest}"
    return f"{safe}.html"


def view(record: Mapping[str, Any]) -> View:
    """The fields of a record that are shown, cleaned.

    Parameters
    ----------
    record : mapping
        As `grade.grade_submission` gives it. A missing or damaged field becomes empty or zero: a class is not stopped
        by one of its files.

    Returns
    -------
    View

    Examples
    --------
    >>> view({"student": "ann", "score": 2, "out_of": 4, "level": "landlock"}).score
    2.0
    """
    out_of = number(record.get("out_of"))
    exercises = record.get("exercises")
    return View(
        student=clean(record.get("student"), limit=100, lines=False) or "(no name)",
        digest=clean(record.get("digest"), limit=80, lines=False),
        level=clean(record.get("level"), limit=40, lines=False),
        outcome=clean(record.get("outcome"), limit=40, lines=False) or "graded",
        score=number(record.get("score"), most=out_of),
        out_of=out_of,
        parts=tuple(_part(name, entry) for name, entry in _items(exercises)[:200]),
        notes=tuple(clean(note, limit=300, lines=False) for note in _listed(record.get("notes"))[:20]),
        errors=tuple(_error(error) for error in _listed(record.get("errors"))[:10]),
        constants=tuple(
            (clean(name, limit=40, lines=False), clean(value, limit=40, lines=False))
            for name, value in _items(record.get("constants"))[:20]
        ),
        seconds=number(record.get("seconds")),
        platform_id=clean(record.get("platform_id"), limit=200, lines=False),
    )


def _part(name: str, entry: Any) -> Part:
    entry = entry if isinstance(entry, Mapping) else {}
    public = entry.get("public") if isinstance(entry.get("public"), Mapping) else {}
    out_of = number(entry.get("out_of"))
    gained = number(entry.get("points"), most=out_of)
    whole, none = bool(out_of) and gained >= out_of, gained == 0
    seen = public.get("passed", None if public.get("fraction") is None else number(public["fraction"]) >= 1)
    return Part(
        name=clean(name, limit=80, lines=False),
        points=gained,
        out_of=out_of,
        outcome=clean(entry.get("outcome"), limit=40, lines=False)
        or ("right" if whole else "wrong" if none else "partial"),
        mistake=clean(entry.get("mistake"), limit=80, lines=False),
        message=clean(entry.get("message"), limit=1500),
        seen=None if seen is None else bool(seen),
        seen_message=clean(public.get("message"), limit=1500),
    )


def _error(error: Any) -> tuple[str, str]:
    """An error in the student's cells, as (where, what)."""
    if not isinstance(error, Mapping):
        return "", clean(error, limit=500)
    where = [
        f"{word} {int(number(error.get(key))) + first}"
        for word, key, first in (("code cell", "cell", 1), ("line", "line", 0))  # text cells are not counted
        if isinstance(error.get(key), int)
    ]
    what = f"{clean(error.get('exception'), limit=80, lines=False)}: {clean(error.get('text'), limit=500)}"
    return ", ".join(where), what.strip(": ")


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(str(key), entry) for key, entry in value.items()] if isinstance(value, Mapping) else []


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
