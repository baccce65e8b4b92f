"""The test of graders is tested: a sound lab passes in the real sandbox, and each kind of unsound lab is caught."""

from dataclasses import replace
from pathlib import Path

import pytest

from dca_lab.grading import Case, Score, load_lab
from dca_lab.grading.answers import Answer
from dca_lab.grading.exercise import generator, public_cases
from dca_lab.grading.judge import judge_exercise
from dca_lab.grading.key import replied
from dca_lab.grading.sandbox import Sandbox, available_levels
from dca_lab.grading.selftest import Finding, selftest
from dca_lab.grading.trials import BROKEN, trials

TINY = load_lab(Path(__file__).parent / "tiny_lab")
WORKING = [level for level, reason in available_levels().items() if not reason]


def grade_here(lab, cells, sandbox, *, seed, constants):
    """Like grade_submission, in this process and without walls: fast, and only for the course's own text."""
    namespace = {"__name__": "a notebook"}
    for cell in cells:
        try:
            exec(cell.replace("check = lab_checks", "check = lambda name: False  # "), namespace)
        except Exception as error:
            namespace["error"] = error
    exercises = {}
    for exercise in lab.exercises:
        scores = []
        function = namespace.get(exercise.name, raising)
        for cases in (
            public_cases(exercise, constants),
            exercise.draw(generator(seed, "hidden", exercise.name), constants),
        ):
            replies = [replied(function, case.args) for case in cases]
            try:
                scores.append(judge_exercise(exercise, cases, replies, lab.wrong, hidden=True))
            except Exception as error:
                scores.append(Score(0.0, repr(error), "grader error"))
        public, hidden = scores
        exercises[exercise.name] = {
            "points": hidden.fraction * exercise.points,
            "out_of": exercise.points,
            "message": hidden.message,
            "mistake": hidden.mistake,
            "outcome": "grader error" if hidden.mistake == "grader error" else "graded",
            "public": {"passed": public.fraction == 1},
        }
    return {"exercises": exercises}


def raising(*args):
    raise NameError("no such function")


def findings(lab, status):
    found = selftest(lab, sandbox=None, grade=grade_here, show_progress=False)
    return {finding.check: finding.text for finding in found if finding.status == status}


def honest(lab):
    """What is wrong, apart from `imports the reference`, which only a sandbox can prevent."""
    return {
        check: text for check, text in findings(lab, "wrong").items() if "imports the reference" not in check
    }


def with_exercise(name, **changes):
    exercises = (replace(one, **changes) if one.name == name else one for one in TINY.exercises)
    return replace(TINY, exercises=tuple(exercises))


@pytest.mark.skipif(not WORKING, reason=f"no sandbox here: {available_levels()}")
def test_the_tiny_lab_passes_in_the_real_sandbox():
    with Sandbox() as sandbox:
        found = selftest(TINY, sandbox=sandbox, show_progress=False)
    assert [str(finding) for finding in found if finding.status != "ok"] == []
    checks = {finding.check for finding in found}
    assert {
        "the untouched student's copy",
        "relu: imports the reference",
        "relu as absolute (wrong)",
    } <= checks
    assert len(found) == len(checks) == 3 + 3 + 1 + 3 + len(list(trials(TINY)))


def test_the_trials_are_all_that_is_known():
    all_trials = list(trials(TINY))
    assert len(all_trials) == 3 + len(TINY.right) + 1 + len(TINY.wrong) + 3 * len(BROKEN)
    assert {trial.constants["width"] for trial in all_trials if trial.constants} == {4, 6, 8}
    assert len({trial.seed for trial in all_trials}) >= 3
    assert not {trial.seed for trial in all_trials} & {trial.seed for trial in trials(TINY, seed="another")}


def test_a_sound_lab_has_no_findings():
    assert honest(TINY) == {}
    assert findings(TINY, "note") == {}


def test_an_oracle_that_is_wrong_is_caught():
    caught = honest(with_exercise("double", oracle=lambda x: 3 * x))
    assert "double lost points" in caught["the solved notebook, run 1, {'width': 4}"]
    assert "double as by_addition (right)" in caught


def test_a_tolerance_that_lets_mistakes_pass_is_caught():
    caught = honest(with_exercise("double", atol=100.0))
    assert "double earned all its points" in caught["double as unchanged (wrong)"]


def test_a_check_without_the_corner_case_is_caught():
    cases = TINY.exercise("relu").cases
    caught = honest(with_exercise("relu", cases=lambda rng, constants: list(cases(rng, constants))[:-1]))
    assert caught == {"relu as nan_let_through (wrong)": "relu earned all its points"}


def test_a_judge_that_gives_points_for_nothing_is_caught():
    caught = honest(with_exercise("keep_few", judge=lambda value, case: Score(0.5, "half for all")))
    assert "keep_few earned 1.5 points" in caught["keep_few: returns None"]
    assert "earns Score" in caught["the judge of keep_few refuses nonsense"]


def test_a_judge_that_stumbles_is_caught():
    caught = honest(
        with_exercise("keep_few", judge=lambda value, case: Score(float(value.sum() * 0 + 1), ""))
    )
    assert "None raises AttributeError" in caught["the judge of keep_few refuses nonsense"]
    assert "keep_few could not be graded" in caught["keep_few: returns None"]


def test_a_judge_that_stumbles_over_a_value_inside_is_caught():
    def judge(value, case):  # fine for all that has not the right form
        good = isinstance(value, dict) and set(value) == {"w"}
        return Score(0.0, f"{float(max(value['w']))}" if good else "not the right form")

    known = [
        replace(one, function=lambda w: {"w": w}) if one.exercise == "keep_few" else one for one in TINY.wrong
    ]
    lab = replace(with_exercise("keep_few", judge=judge), wrong=tuple(known))
    assert "raises OverflowError" in findings(lab, "wrong")["the judge of keep_few refuses nonsense"]


def test_too_few_wrong_answers_are_counted():
    few = tuple(answer for answer in TINY.wrong if answer.name not in ("absolute", "dropped"))
    caught = honest(replace(TINY, wrong=few))
    assert caught == {
        "relu has 5 wrong answers or more": "3 typical wrong answers in wrong.py: write at least 5"
    }


def test_a_wrong_answer_that_is_right_is_caught():
    source = "def relu(x):\n    if x.isnan().any():\n        raise ValueError\n    return x.clamp(min=0)"
    right = Answer("relu", "not_wrong", "It is.", raising, source)
    assert honest(replace(TINY, wrong=(*TINY.wrong, right))) == {
        "relu as not_wrong (wrong)": "relu earned all its points"
    }


def test_a_mistake_that_is_not_recognised_is_noted():
    namespace = {}
    source = "def relu(x):\n    return x.sum() * 0 + 5"
    exec(source, namespace)
    one = Answer("relu", "five", "Why 5?", namespace["relu"], source)
    twin = replace(one, name="also_five")
    stranger = replace(one, name="six", function=lambda x: 6)
    notes = findings(replace(TINY, wrong=(*TINY.wrong, one, twin, stranger)), "note")
    assert notes["relu as also_five (wrong)"] == "recognised as five: Why 5?"
    assert notes["relu as six (wrong)"].startswith("recognised as five")
    notes = findings(replace(TINY, wrong=(*TINY.wrong, stranger)), "note")
    assert notes["relu as six (wrong)"].startswith("not recognised")


def test_cases_that_do_not_follow_from_the_seed_are_caught(monkeypatch):
    monkeypatch.setattr("dca_lab.grading.selftest.trials", lambda lab, runs, seed: iter(()))
    counter = iter(range(10**6))
    check = "the cases of double follow from the seed"
    for cases, said in (
        (lambda rng, constants: [Case((next(counter),))], "the same seed gives different cases"),
        (lambda rng, constants: [Case((1.0,))], "another seed gives the same cases"),
        (lambda rng, constants: [Case((object(),))], "cannot be sent"),
    ):
        lab = with_exercise("double", cases=cases)
        assert said in findings(lab, "wrong")[check]


def test_visible_checks_that_disagree_are_caught():
    def cases(rng, constants):  # the public seed alone gives a case that the solution fails
        drawn = list(TINY.exercise("double").cases(rng, constants))
        return drawn + ([Case(("text",))] if drawn[0].args[0][0] == first else [])

    first = public_cases(TINY.exercise("double"), {"width": 4})[0].args[0][0]
    lab = with_exercise("double", cases=cases, oracle=lambda x: 2 * x if x != "text" else 0)
    caught = {check: text for check, text in honest(lab).items() if check.startswith("the solved")}
    assert all("its visible checks fail" in text for text in caught.values()) and caught


def test_a_finding_is_one_line():
    assert str(Finding("ok", "a check")) == "ok     a check"
    assert str(Finding("wrong", "a check", "why")) == "wrong  a check: why"
