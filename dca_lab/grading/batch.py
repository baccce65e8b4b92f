"""A class graded: a thread for each worker with a sandbox of its own, and every record on disk as soon as it is known.

The batch never stops because of one submission. An error of the grader itself becomes a record with the outcome
"grader error"; it is named at the end, and graded again at the next run. Whatever ends the process leaves an
unfinished run that `resume` continues. What this is *not*: where student code runs. The threads of this process only
wait for their sandboxes and judge values.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from dca_lab.grading import records as stored
from dca_lab.grading.exercise import Lab, load_lab
from dca_lab.grading.grade import GRADER_ERROR, OURS, Record
from dca_lab.grading.job import Job, grade_twice
from dca_lab.grading.notebook import Unreadable, read_cells
from dca_lab.grading.outputs import write_outputs
from dca_lab.grading.personal import Variants
from dca_lab.grading.sandbox import Sandbox, levels
from dca_lab.grading.submissions import Submission, find_submissions
from dca_lab.measure import cores
from dca_lab.progress import hidden


@dataclass
class Graded:
    """What a run ended with: the records of the class by student, how many are new, and what went wrong."""

    records: list[Record]
    level: str
    new: int = 0
    problems: list[str] = field(default_factory=list)


def grade_folder(
    lab: Lab | str | Path,
    submissions: str | Path | Sequence[Submission],
    out: str | Path,
    *,
    workers: int | None = None,
    resume: bool = False,
    level: str | None = None,
    trusted: bool = False,
    scheduler: str | None = None,
    variants: str | Path | None = None,
    progress: bool = True,
) -> Graded:
    """Grade the submissions in a folder, or those that are not graded yet, and write the results into `out`.

    Parameters
    ----------
    lab : Lab, str or Path
        As `load_lab` takes it.
    submissions : str, Path or list of Submission
        A folder in one of the layouts of `submissions`.
    out : str or Path
        Empty, or the folder of an earlier run of the same lab.
    workers : int, optional
        Submissions graded at the same time; by default one for each usable core.
    resume : bool
        Go on with a run that was not finished.
    level : str, optional
        The sandbox, "bubblewrap" or "landlock"; by default the best that works here.
    trusted : bool
        Run the code without walls: only for code that you wrote.
    scheduler : str, optional
        Address of a Dask scheduler whose workers grade, instead of this machine.
    variants : str or Path, optional
        The `variants.json` that `dca lab release --variants` wrote.
    progress : bool
        Whether a bar is drawn.

    Returns
    -------
    Graded

    Raises
    ------
    SubmissionsError, RunError, VariantsError, SandboxError
        With what to do.
    """
    lab = lab if isinstance(lab, Lab) else load_lab(lab)
    if isinstance(submissions, str | Path):
        if Path(out).resolve().is_relative_to(Path(submissions).resolve()):
            raise stored.RunError(f"{out} lies inside the submissions: give a folder beside them with --out")
        submissions = find_submissions(submissions, lab=lab.name)
    personal = Variants.read(variants, lab) if variants is not None else None
    jobs = [_job(lab, submission, personal) for submission in submissions]
    level = levels.choose("trusted" if trusted else level)
    with stored.opened(out, lab.name, resume=resume) as run:
        done = {
            stored.key_of(record): record
            for record in (_known(run, lab, job, level) for job in jobs)
            if record
        }
        todo = [job for job in jobs if job.key(lab, level) not in done]
        if todo or not run.state["finished"]:
            run.begin(lab.digest)
        if scheduler is None:
            graded = _here(lab, todo, workers=workers or cores()[0], seed=run.seed, level=level)
        else:
            from dca_lab.grading.cluster import graded_there

            graded = graded_there(lab, todo, scheduler=scheduler, seed=run.seed, level=level)
        bar = tqdm(
            total=len(jobs), initial=len(done), desc=lab.name, unit="notebook", disable=hidden(progress)
        )
        with bar, closing(graded):
            for record in graded:
                run.records.add(record)
                done[stored.key_of(record)] = record
                bar.update()
        records = sorted(done.values(), key=lambda record: record["student"])
        problems = [_why(record) for record in records if record["outcome"] == GRADER_ERROR]
        problems += write_outputs(lab, records, run.out, _sources(jobs))
        run.finish()
    return Graded(records, level, len(todo), problems)


def _here(lab: Lab, jobs: list[Job], *, workers: int, seed: str, level: str) -> Iterator[Record]:
    """Grade on this machine; records come in the order in which they are ready."""
    own, opened, stopping = threading.local(), [], threading.Event()

    def sandbox() -> Sandbox:
        """This thread's own."""
        if getattr(own, "sandbox", None) is None:
            own.sandbox = Sandbox(level=level, **lab.sandbox)
            opened.append(own.sandbox)
        return own.sandbox

    def drop() -> None:
        if getattr(own, "sandbox", None) is not None:
            own.sandbox.close()
            own.sandbox = None

    def work(job: Job) -> Record:
        return grade_twice(lab, job, sandbox, drop, seed=seed, level=level, give_up=stopping.is_set)

    if not jobs:
        return
    pool = ThreadPoolExecutor(min(workers, len(jobs)), thread_name_prefix="grade")
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    finally:  # also after Ctrl-C: nothing that is still under way is waited for, or recorded
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for sandbox in opened:
            sandbox.close()
        pool.shutdown(wait=True)


def _job(lab: Lab, submission: Submission, personal: Variants | None) -> Job:
    if personal is None:
        return Job(submission, lab.constants)
    constants = personal.of((submission.student, *submission.aliases))
    if constants is None:
        note = "the student is not in the roster of the variants: graded with the lab's standard constants"
        return Job(submission, lab.constants, (note,))
    return Job(submission, constants)


def _known(run: stored.Run, lab: Lab, job: Job, level: str) -> Record | None:
    record = run.records.get(job.key(lab, level))
    return None if record is None or record["outcome"] == GRADER_ERROR else record


def _why(record: Record) -> str:
    """Where the grader failed, for the instructor."""
    texts = list(record["notes"])
    for name, entry in record["exercises"].items():
        texts += [f"{name} {entry['message']}", f"{name} {entry['public'].get('message', '')}"]
    found = [text.replace(OURS, "").strip() for text in texts if f"{OURS} (" in text]
    return f"{record['student']}: {'; '.join(dict.fromkeys(found))}"


def _sources(jobs: list[Job]) -> dict[str, list[str]]:
    """The code cells of each student, for the search for copies."""
    found = {}
    for job in jobs:
        try:
            found[job.submission.student] = read_cells(job.submission.read()).sources
        except Unreadable:
            continue
    return found
