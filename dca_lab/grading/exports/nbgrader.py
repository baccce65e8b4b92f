"""A lab for nbgrader: a course folder whose source notebook goes through generate, release, collect, autograde, export.

    OUT/source/<lab>/        the source notebook with its solutions and hidden tests, <lab>.checks, measure.py
    OUT/hidden/<lab>/        <lab>.hidden and measure.py; autograding finds it above its working directory, and students
                             never get it
    OUT/nbgrader_config.py   written only if there is none

The graded cells stand at the end of the notebook, after everything else has run, as in `dca grade`. Each returns its
points, which nbgrader takes as partial credit, and writes nothing to stderr: a single warning there would be 0. nbgrader
itself replaces the solutions and cuts the hidden tests out. A notebook that ends its kernel is not graded by nbgrader.
What this is *not*: the verdict that counts. In nbgrader the student's code runs beside the checks and can read and
change them; use this for exchange and authoring, and `dca grade` (which reads nbgrader's folders) for grades.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dca_lab.files import replacing
from dca_lab.grading import checks_file, source
from dca_lab.grading.exercise import Exercise, Lab
from dca_lab.grading.exports import for_everyone, write_hidden

if TYPE_CHECKING:
    from nbformat import NotebookNode

GRADED = """# {name}: {points:g} points, for hidden checks that run when your work is graded. Nothing to do here.
### BEGIN HIDDEN TESTS
from dca_lab.grading.exports.beside import points

points("hidden/{lab}/{lab}.hidden", "{name}", globals(), {points!r})
### END HIDDEN TESTS"""
CONFIG = """c = get_config()
c.CourseDirectory.course_id = {course!r}
c.OverwriteCells.add_missing_cells = True  # a graded cell that was deleted is graded all the same
c.Execute.timeout = {seconds}  # for one cell
"""
SLACK = 60  # seconds for whatever a cell does besides calling the function


def release(lab: Lab, out: Path, *, constants: dict | None, student: str | None, targets: bool) -> Path:
    """Write the course folder, or add the lab to one; the path of the source notebook."""
    import nbformat

    for_everyone(lab, student, "nbgrader")
    folder, hidden = out / "source" / lab.name, out / "hidden" / lab.name
    for place in (folder, hidden):
        place.mkdir(parents=True, exist_ok=True)
        for file in lab.files:
            shutil.copy(file, place)
    checks_file.write(lab, folder / f"{lab.name}.checks", constants)
    write_hidden(lab, hidden / f"{lab.name}.hidden", constants)
    path = folder / f"{lab.name}.ipynb"
    with replacing(path) as beside:
        notebook = source_notebook(lab, constants=constants, targets=targets)
        beside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    config = out / "nbgrader_config.py"
    if not config.exists():
        # three calls that run out of time end an exercise: see `beside`
        seconds = max(int(3 * exercise.seconds) for exercise in lab.exercises) + SLACK
        config.write_text(CONFIG.format(course=out.resolve().name, seconds=seconds), encoding="utf-8")
    return path


def source_notebook(lab: Lab, *, constants: dict | None = None, targets: bool = True) -> NotebookNode:
    """The student's notebook with the solutions back in, nbgrader's metadata, and the graded cells at the end."""
    import nbformat

    from dca_lab.grading.release import student_notebook

    values = {**lab.constants, **(constants or {})}
    written = {}
    for cell in source.read_notebook(lab.folder)["cells"]:
        if cell["cell_type"] == "code" and "exercise" in source.tags(cell):
            text = source.fill(cell["source"], values, code=True)
            written[source.function_name(cell)] = text
    notebook = student_notebook(lab, constants=constants, targets=targets)
    for number, cell in enumerate(notebook.cells):
        tags = source.tags(cell)
        if cell.cell_type != "code":
            continue
        if "exercise" in tags:
            name = source.function_name(cell)
            cell.source = written[name]
            cell.metadata["nbgrader"] = _kind(f"exercise-{name}", solution=True)
        elif "setup" in tags or "check" in tags:
            cell.metadata["nbgrader"] = _kind(f"given-{number}", locked=True)
    notebook.cells += [_graded(lab, exercise) for exercise in lab.exercises]
    nbformat.validate(notebook)
    return notebook


def _graded(lab: Lab, exercise: Exercise) -> NotebookNode:
    import nbformat

    text = GRADED.format(lab=lab.name, name=exercise.name, points=exercise.points)
    cell = nbformat.v4.new_code_cell(text, id=f"graded-{exercise.name}"[:64])
    cell.metadata["nbgrader"] = _kind(
        f"graded-{exercise.name}", grade=True, locked=True, points=exercise.points
    )
    return cell


def _kind(grade_id: str, **settings: Any) -> dict[str, Any]:
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    return {**plain, "grade_id": grade_id, **settings}
