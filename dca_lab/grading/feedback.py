"""The page a student gets: what is right, what is not, why, and where to read again.

One HTML file that needs nothing else: no script, no request, readable on a phone, in the dark and aloud. Everything
that came with the submission is cleaned by `view` and escaped by the template; the hidden checks' part says which
mistake was recognised and never an input or a value. What this is *not*: the place where messages are written. They
come from the lab's `wrong.py` and from the judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from dca_lab.grading.exercise import Lab
from dca_lab.grading.view import OUTCOMES, points, view

# a reference to a chapter in the lab's own text: {doc}`name <path>`, {ref}`label`, or [name](path)
REFERENCE = re.compile(
    r"\{(?:doc|ref|numref)\}`(?:(?P<name>[^`<]+?)\s*<[^`>]*>|(?P<target>[^`]+))`"
    r"|(?<!!)\[(?P<text>[^\]\n]+)\]\((?!attachment:|https?:)[^)\s]+\)"
)


def feedback_page(record: Mapping[str, Any], lab: Lab) -> str:
    """The feedback on one graded submission, as a page of HTML.

    Parameters
    ----------
    record : mapping
        As `grade.grade_submission` gives it.
    lab : Lab
        Gives the title, and the headings and chapters that its notebook names for each exercise.

    Returns
    -------
    str
        To be written as UTF-8 under the name that `view.page_name` gives.
    """
    shown = view(record)
    open_ones = ((place, part.name) for place, part in enumerate(shown.parts, start=1) if not part.full)
    headings, reading = told(lab.folder)
    return render(
        "feedback.html",
        shown=shown,
        title=lab.title,
        first=next(open_ones, None),
        headings=headings,
        reading=reading,
    )


def render(template: str, **fields: Any) -> str:
    """A page made from one of the templates; what it is given is escaped."""
    return _environment().get_template(template).render(**fields)


def prose(text: str) -> Markup:
    """A message as HTML: escaped, what stands between backticks is code, and a word between asterisks is stressed.

    Examples
    --------
    >>> prose("use `a * b` of the *input*, <b>")
    Markup('use <code>a * b</code> of the <em>input</em>, &lt;b&gt;')
    """
    parts = re.split(r"`([^`\n]+)`", str(escape(text)))  # text and code take turns
    for place, part in enumerate(parts):
        parts[place] = f"<code>{part}</code>" if place % 2 else re.sub(r"\*(\w+)\*", r"<em>\1</em>", part)
    return Markup("".join(parts))  # noqa: S704


@cache
def told(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Heading of each exercise, and where its text sends the reader, from the lab's notebook.

    Parameters
    ----------
    folder : Path
        The lab's; without a `lab.ipynb` in it nothing is known.

    Returns
    -------
    tuple of dict
        Exercise to heading; exercise to the chapters that its text refers to, or else the lab's first text.
    """
    headings: dict[str, str] = {}
    reading: dict[str, str] = {}
    path = folder / "lab.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else []
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    everywhere = chapters(texts[0]) if texts else ""
    text = ""  # the markdown since the last exercise
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text += f"{source}\n\n"
        elif "exercise" in cell.get("metadata", {}).get("tags", ()):
            name = re.search(r"^def (\w+)", source, flags=re.MULTILINE)
            *_, own = re.split(r"(?m)^(?=#{2,4} )", text)
            heading = re.match(r"#{2,4} +(.+?)\s*(?:\(\d+ points?\))?\s*$", own, flags=re.MULTILINE)
            if name and heading:
                headings[name[1]] = heading[1].replace("`", "")
            if name and (found := chapters(own) or everywhere):
                reading[name[1]] = found
            text = ""
    return headings, reading


def chapters(text: str) -> str:
    """The chapters that a piece of the lab's text refers to, as a reader sees them.

    Examples
    --------
    >>> chapters("See {doc}`rounding <../math/rounding>`, {ref}`the-cliff` and [costs](../math/cost.ipynb).")
    'rounding, the cliff, costs'
    """
    names = [
        re.sub(r"[-_]", " ", match["target"].rsplit("/", 1)[-1].removesuffix(".ipynb"))
        if match["target"]  # of a bare path or label nobody sees a name
        else (match["name"] or match["text"]).strip().replace("`", "")
        for match in REFERENCE.finditer(text)
    ]
    return ", ".join(dict.fromkeys(names))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates"), encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        prose=prose, points=points, outcome=lambda outcome: OUTCOMES.get(outcome, outcome)
    )
    return environment
