"""results.json: one graded submission in the format that Gradescope reads.

The format is Gradescope's "Autograder Specifications" (`docs/specs.md` of gradescope/autograder_samples). Each exercise
is one test with its points, and its output is plain text: the format of the *top-level* output would otherwise be HTML.
A total out of which the score counts has no field there (Gradescope adds up the tests), so it travels in `extra_data`.
What this is *not*: an upload. `exports.gradescope` builds the zip that runs on their side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dca_lab.grading.view import OUTCOMES, Part, points, view

VISIBILITY = ("visible", "after_due_date", "after_published", "hidden")


def gradescope_result(record: Mapping[str, Any], *, visibility: str = "visible") -> dict[str, Any]:
    """A record as Gradescope's results.json.

    Parameters
    ----------
    record : mapping
        As `grade.grade_submission` gives it.
    visibility : str
        When students see the tests: "visible", "after_due_date", "after_published" or "hidden". The messages hold no
        hidden value, so the default shows them. (A hidden test hides a student's total, too.)

    Returns
    -------
    dict
        Holds only what JSON knows: ``json.dumps(..., allow_nan=False)`` takes it.

    Examples
    --------
    >>> result = gradescope_result({"student": "ann", "score": 1, "out_of": 2, "level": "landlock",
    ...     "exercises": {"macs": {"points": 1, "out_of": 2, "message": "Biases do not multiply."}}})
    >>> result["score"], result["tests"][0]["name"], result["tests"][0]["status"]
    (1.0, 'macs', 'failed')
    """
    if visibility not in VISIBILITY:
        raise ValueError(f"visibility must be one of {', '.join(VISIBILITY)}; got {visibility!r}")
    shown = view(record)
    said = [
        f"{points(shown.score)} of {points(shown.out_of)} points. Graded in the sandbox: {shown.level or 'unknown'}."
    ]
    said += [f"Note: {note}" for note in shown.notes]
    said += [
        f"An error in your notebook ({where or 'place unknown'}): {what}" for where, what in shown.errors
    ]
    return {
        "score": round(shown.score, 4),
        "execution_time": round(
            shown.seconds
        ),  # whole seconds: a finer clock could carry what a notebook saw
        "output": "\n".join(said),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": visibility,
        "stdout_visibility": "hidden",
        "extra_data": {"max_score": round(shown.out_of, 4), "level": shown.level, "digest": shown.digest},
        "tests": [
            {
                "score": round(part.points, 4),
                "max_score": round(part.out_of, 4),
                "status": "passed" if part.full else "failed",
                "name": part.name,
                "name_format": "text",
                "number": str(place),
                "output": _output(part),
                "output_format": "text",
                "visibility": visibility,
                "extra_data": {"outcome": part.outcome, "mistake": part.mistake},
            }
            for place, part in enumerate(shown.parts, start=1)
        ],
    }


def _output(part: Part) -> str:
    seen = {True: "passed", False: "not passed", None: "did not run"}[part.seen]
    lines = [f"Visible check: {seen}. {part.seen_message if part.seen is False else ''}".strip()]
    lines += [f"Hidden checks: {OUTCOMES.get(part.outcome, part.outcome)}."]
    lines += [part.message] if part.message else []
    return "\n".join(lines)
