"""Strangers' code, run where it can do no harm, and only values come back.

    grader (trusted) --control socket--> zygote (torch loaded) --fork--> child (walls, then the student's cells)
       ^                                                                   |
       +------------------ frames: only values, judged by the grader ------+

Grader's side: `sandbox` and `student` (what one calls), `keeper` (of the zygote), `channel` (frames, deadlines),
`claims` (what comes back), `watch`, `levels`, `bubblewrap`, `places` (what may be read), `overlay`, `limits`. In the
folder `inside`: what runs within.
What this is *not*: dependent on any technique or lab of the course.
"""

from dca_lab.grading.sandbox.claims import CellError
from dca_lab.grading.sandbox.levels import available_levels
from dca_lab.grading.sandbox.limits import Limits, SandboxError
from dca_lab.grading.sandbox.sandbox import Sandbox
from dca_lab.grading.sandbox.student import Student
from dca_lab.grading.values import Reply

__all__ = ["CellError", "Limits", "Reply", "Sandbox", "SandboxError", "Student", "available_levels"]
