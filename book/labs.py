"""The labs as pages: the student's copy of each lab, made beside its source before anything is executed.

A reader of the book meets a lab as a student does: without answers, with its checks, and with the pictures that the
solved notebook draws as the target. What this is not: the copy that is handed out; ``dca lab release`` writes that.
"""

from __future__ import annotations

from pathlib import Path

import nbformat

from dca_lab.files import replacing
from dca_lab.grading.exercise import load_lab
from dca_lab.grading.release import student_notebook

COPY = "student.ipynb"


def write_copies(root: Path) -> list[Path]:
    """Write ``chapters/labs/*/student.ipynb`` where the lab has changed; returns all of them."""
    copies = []
    for source in sorted((root / "chapters" / "labs").glob("*/lab.ipynb")):
        path = source.with_name(COPY)
        text = nbformat.writes(_pictures_inside(student_notebook(load_lab(source.parent), book=True))) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with replacing(path) as beside:
                beside.write_text(text, encoding="utf-8")
        copies.append(path)
    return copies


def _pictures_inside(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its attachments written into the text: MyST-NB knows data URIs, and no attachments."""
    for cell in notebook.cells:
        for name, kinds in cell.pop("attachments", {}).items():
            for kind, data in kinds.items():
                uri = f"data:{kind};base64,{''.join(data.split())}"
                cell.source = cell.source.replace(f"(attachment:{name})", f"({uri})")
    return notebook
