"""The student's copy of a lab: made from the source notebook, never edited.

`release` writes `<lab>.ipynb` without solutions and outputs, `<lab>.checks` with the visible checks, and `measure.py`
where the lab has a capstone. Ids of cells are made anew from lab and variant, so that the same release twice gives
the same bytes. Pictures of the solved notebook become attachments: the target to reach.
What this is *not*: an export to another grader; those stand in `exports/` and are entered in `FORMATS`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dca_lab.files import replacing
from dca_lab.grading import checks_file, source
from dca_lab.grading.exercise import Lab, LabError
from dca_lab.grading.targets import target_pictures

if TYPE_CHECKING:
    from nbformat import NotebookNode

LONG = 12  # a solution's line with more characters, spaces not counted, must not be found elsewhere


def release(
    lab: Lab,
    out: Path,
    *,
    constants: dict[str, Any] | None = None,
    student: str | None = None,
    format: str = "plain",
    targets: bool = True,
) -> Path:
    """Write the student's copy of a lab into a folder, which is made if need be.

    Parameters
    ----------
    lab : Lab
    out : Path
        The folder. Files of an earlier release in it are replaced.
    constants : dict, optional
        Of a personal variant; by default the lab's first choices.
    student : str, optional
        For whom the variant is; written into the notebook's metadata.
    format : str
        One of `FORMATS`.
    targets : bool
        Whether to show the pictures that the solved notebook draws (the first time it is executed for that).

    Returns
    -------
    Path
        The notebook.
    """
    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}: choose one of {', '.join(FORMATS)}")
    out = Path(out)
    if out.resolve() == lab.folder.resolve():
        raise ValueError(f"{out} holds the lab's solutions: release into another folder")
    out.mkdir(parents=True, exist_ok=True)
    if others := [path.stem for path in out.glob("*.checks") if path.stem != lab.name]:
        raise ValueError(f"{out} holds the lab {others[0]}: release each lab into a folder of its own")
    return FORMATS[format](lab, out, constants=constants, student=student, targets=targets)


def student_notebook(
    lab: Lab,
    *,
    constants: dict[str, Any] | None = None,
    student: str | None = None,
    targets: bool = True,
    book: bool = False,
) -> NotebookNode:
    """The notebook that a student gets: no answers, no outputs, validated against the notebook format.

    Labels and links to chapters stay only in the `book`, where they lead somewhere.
    """
    import nbformat

    values = {**lab.constants, **(constants or {})}
    notebook = source.build(lab, solution=False, constants=values)
    pictures = target_pictures(lab, values) if targets else {}
    cells = []
    for index, cell in enumerate(notebook["cells"]):
        if index in pictures:
            cells.append(_target(cell, pictures[index]))
        cells.append(cell)
    variant = {"constants": values, "student": student}
    what = json.dumps([lab.name, variant], default=repr)
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown" and not book:
            cell["source"] = without_book("".join(cell["source"]))
        cell["id"] = hashlib.sha256(f"{what} {number}".encode()).hexdigest()[:12]
    notebook["cells"] = cells
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "dca_lab": {"lab": lab.name, "variant": variant},
    }
    notebook |= {"nbformat": 4, "nbformat_minor": 5}
    nbformat.validate(notebook)
    # A check that trains a network has its optimizer.step(), too: a line of code that is the author's own is none.
    shown = source.shown_lines(lab)
    leaked = leaks(lab, json.dumps(notebook, ensure_ascii=False))
    if leaked := [line for line in leaked if not any("".join(line.split()) in one for one in shown)]:
        raise LabError(
            f"{leaked[0].strip()!r} stands in a solution of {lab.name} and also outside of it, where students "
            "read it: write one of the two differently"
        )
    return nbformat.from_dict(notebook)


def leaks(lab: Lab, text: str) -> list[str]:
    """The lines of solutions that occur in `text`, however they are indented; short ones may be there by chance."""
    text = "".join(text.split())
    found = []
    for line in source.solution_lines(lab):
        plain = "".join(line.split())
        escaped = json.dumps(plain, ensure_ascii=False)[1:-1]  # as it would stand in the file of a notebook
        if len(plain) > LONG and (plain in text or escaped in text):
            found.append(line)
    return found


def without_book(markdown: str) -> str:
    """Text as it can be read outside of the book: no labels, and the chapters' names instead of links to them.

    Examples
    --------
    >>> without_book("(lab-cost)=\\n# Lab\\nIt belongs to [One layer](../../math/model.ipynb).")
    '# Lab\\nIt belongs to *One layer*.'
    """
    markdown = re.sub(r"^\([\w-]+\)=\n", "", markdown, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"*\1*", markdown)


def _target(cell: Mapping[str, Any], png: bytes) -> dict[str, Any]:
    alt = (
        cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
        or "What the solved notebook draws here"
    )
    alt = " ".join(alt.replace("[", "(").replace("]", ")").split())
    return {
        "cell_type": "markdown",
        "id": "",
        "metadata": {"tags": ["target-picture"]},
        "source": f"The target:\n\n![{alt}](attachment:target.png)",
        "attachments": {"target.png": {"image/png": base64.b64encode(png).decode()}},
    }


def _plain(lab: Lab, out: Path, *, constants: dict | None, student: str | None, targets: bool) -> Path:
    import nbformat

    notebook = student_notebook(lab, constants=constants, student=student, targets=targets)
    path = out / f"{lab.name}.ipynb"
    checks_file.write(lab, out / f"{lab.name}.checks", constants)
    for file in lab.files:
        shutil.copy(file, out)
    with replacing(path) as beside:
        beside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def _export(tool: str) -> Callable[..., Path]:
    """The export of that name, imported when it is used."""

    def write(lab: Lab, out: Path, **options: Any) -> Path:
        return import_module(f"dca_lab.grading.exports.{tool}").release(lab, out, **options)

    return write


FORMATS: dict[str, Callable[..., Path]] = {
    "plain": _plain,
    **{tool: _export(tool) for tool in ("otter", "nbgrader", "gradescope")},
}
