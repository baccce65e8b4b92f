"""One submission from its file to its record, whatever the file holds and whatever goes wrong.

Both ways of grading a class use this: the threads of `batch`, and the workers of a Dask cluster. A `Job` can be
pickled. What this is *not*: the grading of readable cells, which is `grade`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dca_lab.grading.exercise import Lab
from dca_lab.grading.grade import GRADER_ERROR, OURS, Record, blank_record, describe, grade_submission
from dca_lab.grading.notebook import Unreadable, read_cells
from dca_lab.grading.records import key_of
from dca_lab.grading.sandbox import Sandbox, SandboxError
from dca_lab.grading.submissions import Submission


@dataclass(frozen=True)
class Job:
    """One submission to be graded, with the constants of its student's variant."""

    submission: Submission
    constants: dict[str, Any]
    notes: tuple[str, ...] = ()

    def key(self, lab: Lab, level: str) -> str:
        """The name that the record of this job will have."""
        about = {
            "student": self.submission.student,
            "digest": self.submission.digest,
            "lab_digest": lab.digest,
        }
        return key_of(about | {"constants": self.constants, "level": level})


def grade_one(lab: Lab, job: Job, sandbox: Sandbox, *, seed: str) -> Record:
    """The record of one submission, whatever its file holds."""
    submission = job.submission
    about = {"constants": job.constants, "student": submission.student, "digest": submission.digest}
    try:
        data = submission.read()
        if hashlib.sha256(data).hexdigest() != submission.digest:
            raise OSError(f"{submission.path} was changed while it was graded")
        cells = read_cells(data)
    except Unreadable as error:
        record = blank_record(lab, level=sandbox.level, **about, outcome="unreadable", reason=str(error))
    else:
        record = grade_submission(lab, cells, sandbox, seed=seed, **about)
    record["notes"] = [*submission.notes, *job.notes, *record["notes"]]
    return record | _named(submission)


def grade_twice(
    lab: Lab,
    job: Job,
    sandbox: Callable[[], Sandbox],
    drop: Callable[[], None],
    *,
    seed: str,
    level: str,
    give_up: Callable[[], bool] = lambda: False,
) -> Record:
    """The record of one submission; when the grader fails, once more with a new sandbox, which may be at fault.

    Parameters
    ----------
    sandbox : callable
        Returns the sandbox to use, a new one after `drop` was called.
    drop : callable
        Closes the sandbox.
    give_up : callable
        True where nobody waits for a second attempt any more.
    """
    try:
        return grade_one(lab, job, sandbox(), seed=seed)
    except Exception as error:
        if give_up():
            return failed(lab, job, error, level=level)
    drop()
    try:
        return grade_one(lab, job, sandbox(), seed=seed)
    except Exception as error:
        return failed(lab, job, error, level=level)


def failed(lab: Lab, job: Job, error: BaseException, *, level: str) -> Record:
    """The record of a submission at which the grader itself failed."""
    about = {"constants": job.constants, "student": job.submission.student, "digest": job.submission.digest}
    record = blank_record(lab, level=level, **about, outcome=GRADER_ERROR, reason=OURS)
    text = (
        f": {error}"[:300] if isinstance(error, SandboxError) else ""
    )  # others' texts may hold a hidden value
    record["notes"] = [f"{OURS} ({describe(error)}{text})"]
    return record | _named(job.submission)


def _named(submission: Submission) -> dict[str, str]:
    """What the platform calls the student, or the file's name; a broken character stays broken in JSON alone."""
    return {"platform_id": submission.aliases[0] if submission.aliases else submission.student}
