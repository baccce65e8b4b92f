"""``dca lab`` and ``dca grade``: a class from the roster to the grades, each step one command.

Only click is imported here; each command imports what it needs when it runs, so that ``dca --help`` answers at once.
What this is *not*: the work itself. Each command calls one function of the package, and says in words what to do
when that function refuses.
"""

from __future__ import annotations

from pathlib import Path

import click

FORMATS = ("plain", "otter", "nbgrader", "gradescope")
GRADER_ERRORS, STOPPED = 3, 130  # exit codes


@click.group("lab")
def lab_group() -> None:
    """Labs: list them, hand them out, test their graders.

    \b
    A class in five steps:
      dca lab list                                       which labs there are
      dca lab release quantization --out handout         what students get
      (hand out, collect into a folder `submissions`)
      dca grade quantization submissions --out results   grades and feedback
      open results/report.html                           how the class did
    """


@lab_group.command("list")
def list_labs() -> None:
    """Every lab with its exercises and points."""
    from tabulate import tabulate

    from dca_lab.grading import lab_folder
    from dca_lab.grading.exercise import load_lab

    rows = []
    for folder in sorted(path.parent for path in lab_folder.LABS.glob("*/checks.py")):
        try:
            lab = load_lab(folder)
        except Exception as error:  # a lab that is being written must not hide the others
            rows.append((folder.name, "cannot be read:", "", str(error).splitlines()[0][:80]))
            continue
        exercises = ", ".join(f"{one.name} {one.points:g}" for one in lab.exercises)
        rows.append((lab.name, lab.title, f"{lab.points:g}", exercises))
    if not rows:
        raise click.ClickException("there are no labs: they are in chapters/labs of the course's repository")
    click.echo(
        tabulate(rows, headers=("lab", "title", "points", "exercises"), maxcolwidths=(None, 28, None, 60))
    )


@lab_group.command()
@click.argument("lab")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to."
)
@click.option(
    "--format", type=click.Choice(FORMATS), default="plain", show_default=True, help="For which tool."
)
@click.option(
    "--variants",
    metavar="ROSTER.CSV",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="One copy for each student of this list (column `student`), with constants of their own.",
)
def release(lab: str, out: Path, format: str, variants: Path | None) -> None:
    """Write what students get of LAB: the notebook without answers, and its visible checks.

    LAB is a name from `dca lab list`, or the folder of a lab. With --variants each student gets a folder, and
    variants.json is for you alone: keep it, and give it to `dca grade --variants`.
    """
    from dca_lab.grading.exercise import LabError, load_lab
    from dca_lab.grading.personal import Variants
    from dca_lab.grading.release import release as write
    from dca_lab.grading.student_ids import safe_ids
    from dca_lab.grading.variants import read_roster

    try:
        loaded = load_lab(lab)
        if variants is None:
            click.echo(f"written: {write(loaded, out, format=format)}")
            return
        students = read_roster(variants)
        out.mkdir(parents=True, exist_ok=True)
        personal = Variants.made(out, loaded, students)
        for student, folder in safe_ids(students).items():
            constants = personal.of([student])
            write(loaded, out / folder, format=format, constants=constants, student=student)
    except (LabError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"written: {len(students)} folders in {out}. Keep {out / 'variants.json'}: grading needs it.")


@lab_group.command("test")
@click.argument("labs", nargs=-1, required=True)
@click.option("--seed", help="Repeat a test that printed this.  [default: a new one each time]")
def tried(labs: tuple[str, ...], seed: str | None) -> None:
    """Test the graders of LABS: the solution earns all points, and every known mistake loses its own."""
    import secrets

    from dca_lab.grading.exercise import LabError, load_lab
    from dca_lab.grading.sandbox import Sandbox, SandboxError
    from dca_lab.grading.selftest import selftest

    failed = []
    seed = seed or secrets.token_hex(4)
    click.echo(f"seed {seed}: --seed {seed} tests on the same inputs again")
    for name in labs:
        try:
            lab = load_lab(name)
            with Sandbox(**lab.sandbox) as sandbox:
                findings = selftest(lab, sandbox=sandbox, seed=seed)
        except (LabError, SandboxError) as error:
            raise click.ClickException(f"{name}: {error}") from error
        for finding in findings:
            if finding.status != "ok":
                click.echo(finding)
        count = {status: sum(one.status == status for one in findings) for status in ("ok", "note", "wrong")}
        click.echo(
            f"{lab.name}: {count['ok']} as they should be, {count['note']} to read, {count['wrong']} wrong"
        )
        if count["wrong"]:
            failed.append(lab.name)
    if failed:
        raise click.ClickException(
            f"{', '.join(failed)}: do not grade with it before the lines above are mended"
        )


@click.command("grade")
@click.argument("lab")
@click.argument("submissions", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="RESULTS",
    help="Folder for grades and feedback.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Notebooks at the same time.  [default: one per core]"
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option(
    "--variants",
    metavar="VARIANTS.JSON",
    type=click.Path(exists=True, path_type=Path),
    help="What `dca lab release --variants` wrote.",
)
@click.option(
    "--level",
    type=click.Choice(("bubblewrap", "landlock")),
    help="The sandbox.  [default: the best that works here]",
)
@click.option("--trusted", is_flag=True, help="No sandbox. Only for notebooks that you wrote yourself.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Grade on the workers of this Dask scheduler (tcp://host:8786)."
)
def grade(
    lab: str,
    submissions: Path,
    out: Path,
    workers: int | None,
    resume: bool,
    variants: Path | None,
    level: str | None,
    trusted: bool,
    scheduler: str | None,
) -> None:
    """Grade the notebooks in the folder SUBMISSIONS for LAB.

    \b
    SUBMISSIONS may hold
      alice.ipynb, bob.zip, ...                one file for each student
      alice/lab.ipynb, ...                     one folder for each student
      what Canvas, Moodle, Gradescope or nbgrader downloaded

    \b
    RESULTS will hold
      grades.csv                               a row for each student
      feedback/<student>.html                  a page to give back
      gradescope/<student>/results.json        to upload
      report.html                              how the class did, and possible copies

    Run it again after late submissions came in: only what is new or changed is graded. If it was stopped, whatever
    the reason, run it again with --resume.
    """
    from dca_lab.grading.batch import grade_folder
    from dca_lab.grading.exercise import LabError
    from dca_lab.grading.personal import VariantsError
    from dca_lab.grading.records import RunError
    from dca_lab.grading.sandbox import SandboxError
    from dca_lab.grading.submissions import SubmissionsError

    if trusted and level:
        raise click.UsageError("--trusted means no sandbox: leave --level out")
    try:
        graded = grade_folder(
            lab,
            submissions,
            out,
            workers=workers,
            resume=resume,
            level=level,
            trusted=trusted,
            scheduler=scheduler,
            variants=variants,
        )
    except (LabError, RunError, SandboxError, SubmissionsError, VariantsError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        text = f"a file could not be read or written: {error}. What is graded is kept: go on with --resume"
        raise click.ClickException(text) from error
    except KeyboardInterrupt:
        click.echo(f"\nstopped. What is graded is kept in {out}: go on with --resume.", err=True)
        raise SystemExit(STOPPED) from None
    kept = len(graded.records) - graded.new
    click.echo(f"{graded.new} graded, {kept} unchanged; sandbox: {graded.level}. See {out / 'report.html'}")
    if graded.problems:
        click.echo(
            f"\nThe grader itself failed here; the next run tries again (`dca lab test {lab}` may help):",
            err=True,
        )
        for problem in graded.problems:
            click.echo(f"  {problem}", err=True)
        raise SystemExit(GRADER_ERRORS)
