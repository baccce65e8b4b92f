"""The graders of the labs, tested against their own wrong and right answers in the real sandbox."""

import pytest

from dca_lab.grading import lab_folder
from dca_lab.grading.exercise import load_lab
from dca_lab.grading.sandbox import Sandbox, available_levels
from dca_lab.grading.selftest import selftest

LABS = sorted(path.parent.name for path in lab_folder.LABS.glob("*/checks.py"))


def test_the_three_labs_are_there():
    assert {"cost", "pruning", "quantization"} <= set(LABS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LABS)
def test_no_wrong_answer_passes_and_no_right_one_fails(name):
    reasons = available_levels()
    if all(reasons.values()):
        pytest.skip(f"no sandbox works here: {reasons}")
    lab = load_lab(name)
    with Sandbox(**lab.sandbox) as sandbox:
        findings = selftest(lab, sandbox=sandbox, show_progress=False)
    assert len(findings) > 10 * len(lab.exercises), "too little was tried"
    assert not [str(one) for one in findings if one.status == "wrong"]
