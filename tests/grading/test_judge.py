"""From replies to scores: what earns points, which mistake is recognised, and what hidden messages keep to themselves."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dca_lab.grading import Case, Exercise, Score, generator, judge_exercise, load_lab
from dca_lab.grading.answers import Answer
from dca_lab.grading.exercise import public_cases
from dca_lab.grading.judge import accepted_names
from dca_lab.grading.key import Key, guarded, key_for, replied
from dca_lab.grading.values import Reply

TINY = load_lab(Path(__file__).parent / "tiny_lab")


def exercise_of(oracle, *inputs, **more):
    """An exercise with these inputs as its cases, and the cases."""
    cases = [Case(one if isinstance(one, tuple) else (one,)) for one in inputs]
    return Exercise("f", 1, cases=lambda rng, constants: cases, oracle=oracle, **more), cases


def judged(exercise, cases, function, *answers, hidden=False):
    replies = [replied(function, case.args) for case in cases]
    return judge_exercise(exercise, cases, replies, answers, hidden=hidden)


def answer(function, message="the message", exercise="f"):
    return Answer(exercise, function.__name__, message, function, "")


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("known", [*TINY.wrong, *TINY.right], ids=lambda one: f"{one.exercise}-{one.name}")
@pytest.mark.parametrize("seed", ["a", "b"])
def test_known_answers_of_a_lab(known, hidden, seed):
    exercise = TINY.exercise(known.exercise)
    cases = exercise.draw(generator(seed, "hidden"), {"width": 6})
    score = judged(exercise, cases, known.function, *TINY.wrong, hidden=hidden)
    if known in TINY.right:
        assert (score.fraction, score.mistake) == (1.0, None)
    else:
        assert score.fraction < 1
        assert score.mistake == known.name
        assert score.message.startswith(known.message)


@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=6), broken=st.sets(st.integers(0, 5)))
def test_one_wrong_case_costs_the_exercise(values, broken):
    exercise, cases = exercise_of(lambda x: x * 2, *values)
    replies = [Reply("value", case.args[0] * 2 + (index in broken)) for index, case in enumerate(cases)]
    score = judge_exercise(exercise, cases, replies, hidden=True)
    assert score.fraction == (0.0 if broken & set(range(len(values))) else 1.0)


def test_as_many_replies_as_cases():
    exercise, cases = exercise_of(abs, 1, 2)
    with pytest.raises(ValueError, match="2 cases need as many replies"):
        judge_exercise(exercise, cases, [Reply("value", 1)], hidden=True)


class TestRaising:
    def oracle(self, x):
        if x < 0:
            raise ValueError("negative")
        return x

    def raising(self, kind):
        def function(x):
            if x < 0:
                raise kind
            return x

        return function

    @pytest.mark.parametrize(
        ("kind", "fraction"),
        [
            (ValueError("other words"), 1.0),
            (UnicodeDecodeError("utf-8", b"", 0, 1, "a subclass"), 1.0),
            (np.linalg.LinAlgError("a subclass of ValueError"), 1.0),
            (TypeError("another"), 0.0),
            (Exception("its parent"), 0.0),
            (type("Own", (ValueError,), {"__module__": "__main__"})("a student's"), 0.0),
        ],
    )
    def test_the_expected_exception_or_a_subclass(self, kind, fraction):
        exercise, cases = exercise_of(self.oracle, 1, -1)
        assert judged(exercise, cases, self.raising(kind)).fraction == fraction

    def test_no_exception(self):
        exercise, cases = exercise_of(self.oracle, 1, -1)
        score = judged(exercise, cases, lambda x: x)
        assert score.fraction == 0
        assert "should raise ValueError (negative)" in score.message
        hidden = judged(exercise, cases, lambda x: x, hidden=True).message
        assert "should raise ValueError for an input that is not allowed" in hidden

    def test_an_unwritten_function_never_counts_as_raising(self):
        def oracle(x):
            raise RuntimeError("always")

        def unwritten(x):
            raise NotImplementedError

        exercise, cases = exercise_of(oracle, 1)
        score = judged(exercise, cases, unwritten)
        assert (score.fraction, score.message) == (0.0, "not written yet.")

    def test_names(self):
        assert "NotImplementedError" not in accepted_names("RuntimeError")
        assert accepted_names("os") == {"os"}
        assert accepted_names("print") == {"print"}


class TestArguments:
    def doubled(self, x):
        x *= 2
        return x

    def test_a_change_in_place_is_a_mistake(self):
        exercise, cases = exercise_of(lambda x: x * 2, np.ones(2), torch.ones(2))
        for hidden in (False, True):
            score = judged(exercise, cases, self.doubled, hidden=hidden)
            assert score.fraction == 0 and "in place" in score.message
        assert cases[0].args[0].tolist() == [1, 1]  # the case itself is untouched

    def test_unless_the_exercise_asks_for_it(self):
        exercise, cases = exercise_of(lambda x: x * 2, np.ones(2), keeps_arguments=False)
        assert judged(exercise, cases, self.doubled).fraction == 1

    def test_also_when_it_raises_as_it_should(self):
        def oracle(x):
            raise ValueError

        def function(x):
            x.append(1)
            raise ValueError

        exercise, cases = exercise_of(oracle, [0])
        assert "in place" in judged(exercise, cases, function).message

    def test_in_place_and_wrong_is_another_mistake_than_wrong(self):
        def wrong(x):
            return x + 1

        def wrong_in_place(x):
            x += 1
            return x

        exercise, cases = exercise_of(lambda x: x * 2, np.zeros(2))
        known = answer(wrong), answer(wrong_in_place)
        assert judged(exercise, cases, wrong, *known).mistake == "wrong"
        assert judged(exercise, cases, wrong_in_place, *known).mistake == "wrong_in_place"


class TestRecognition:
    def test_only_what_explains_every_wrong_reply(self):
        def minus(x):
            return -x

        exercise, cases = exercise_of(abs, -2, -1, 0, 1)
        assert judged(exercise, cases, lambda x: -x if x > 0 else abs(x), answer(minus)).mistake == "minus"
        assert judged(exercise, cases, lambda x: -x if x > 0 else x, answer(minus)).mistake is None

    def test_the_nearest_comes_first(self):
        def always(x):
            return 7

        def for_zero(x):
            return x or 7

        def also_for_one(x):
            return 7 if x in (0, 1) else x

        exercise, cases = exercise_of(lambda x: x, 0, 1, 2)
        known = [answer(one) for one in (always, also_for_one, for_zero)]
        for function in (always, for_zero, also_for_one):
            assert judged(exercise, cases, function, *known).mistake == function.__name__

    def test_the_same_mistake_in_another_order_of_summation(self):
        def total(x):
            return x.sum()

        values = generator("order").standard_normal(1000)
        exercise, cases = exercise_of(np.mean, values, rtol=1e-12)
        assert judged(exercise, cases, lambda x: sum(x.tolist()), answer(total)).mistake == "total"

    def test_a_right_case_is_no_evidence(self):
        def lucky(x):
            return 1

        exercise, cases = exercise_of(lambda x: x, 1, 2)
        assert judged(exercise, cases, lambda x: 3, answer(lucky)).mistake is None

    def test_answers_to_other_exercises_are_not_meant(self):
        def minus(x):
            return -x

        exercise, cases = exercise_of(abs, 1)
        assert judged(exercise, cases, minus, answer(minus, exercise="g")).mistake is None

    def test_an_exception_is_recognised_by_its_class(self):
        def broken(x):
            return x[0]

        exercise, cases = exercise_of(abs, 1)
        assert judged(exercise, cases, broken, answer(broken)).mistake == "broken"
        assert judged(exercise, cases, lambda x: 1 / 0, answer(broken)).mistake is None

    @pytest.mark.parametrize("kind", ["missing", "crashed", "refused"])
    def test_nothing_came_back(self, kind):
        def broken(x):
            return object()

        exercise, cases = exercise_of(abs, 1)
        score = judge_exercise(exercise, cases, [Reply(kind)], [answer(broken)], hidden=True)
        assert (score.fraction, score.mistake) == (0.0, None) and score.message

    def test_a_wrong_answer_that_never_returns_is_left_behind(self):
        stop = threading.Event()

        def endless(x):
            while not stop.is_set():
                time.sleep(0.01)

        try:
            assert guarded(endless, (1,), 0.05).kind == "timeout"
            exercise, cases = exercise_of(abs, 1, 2, seconds=0.05)
            key = Key(exercise, cases, [answer(endless)])
            assert [reply.kind for reply in key.mistakes[0].replies] == ["timeout", "timeout"]
            score = judge_exercise(exercise, cases, [Reply("timeout")] * 2, hidden=True, key=key)
            assert score.mistake == "endless"
        finally:
            stop.set()


class TestKey:
    def test_a_class_asks_the_oracle_once(self):
        calls = []

        def oracle(x):
            calls.append(x)
            return x

        exercise, cases = exercise_of(oracle, 1, 2)
        for _ in range(5):
            assert judge_exercise(
                exercise, list(cases), [Reply("value", 1), Reply("value", 2)], hidden=True
            ).fraction
        assert calls == [1, 2]
        _, others = exercise_of(oracle, 3)
        assert judge_exercise(exercise, others, [Reply("value", 3)], hidden=True).fraction
        assert calls == [1, 2, 3]

    def test_arguments_that_cannot_be_digested(self):
        exercise, cases = exercise_of(lambda x: 1, (object(),))
        assert key_for(exercise, cases, []).expected[0].value == 1


class TestCapstone:
    def capstone(self, *fractions):
        scores = [Score(fraction, f"case {index}") for index, fraction in enumerate(fractions)]
        cases = [Case((index,)) for index in range(len(fractions))]
        exercise = Exercise(
            "f", 1, cases=lambda rng, constants: cases, judge=lambda value, case: scores[case.args[0]]
        )
        return exercise, cases

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
    def test_the_score_is_the_mean_and_the_message_of_the_worst(self, fractions):
        exercise, cases = self.capstone(*fractions)
        score = judge_exercise(exercise, cases, [Reply("value", 1)] * len(cases), hidden=True)
        assert score.fraction == pytest.approx(np.mean(fractions))
        assert score.message == f"case {fractions.index(min(fractions))}"

    def test_a_case_without_a_value_earns_nothing(self):
        exercise, cases = self.capstone(1.0, 1.0)
        for reply in (
            Reply("timeout"),
            Reply("raised", exception="ValueError"),
            Reply("value", arguments=(7,)),
        ):
            assert judge_exercise(exercise, cases, [Reply("value", 1), reply], hidden=True).fraction == 0.5

    def test_a_value_at_which_the_judge_stumbles_is_wrong(self):
        def judge(value, case):
            return Score(min(1.0, float(sum(map(float, value)))), "measured")

        def wrong(x):
            return [0.5]

        cases = [Case((1,)), Case((2,))]
        exercise = Exercise("f", 1, cases=lambda rng, constants: cases, judge=judge)
        replies = [Reply("value", [1.0]), Reply("value", [10**400, 0.5])]
        score = judge_exercise(exercise, cases, replies, [answer(wrong)], hidden=True)
        assert score.fraction == 0.5 and "cannot be measured" in score.message

    def test_a_judge_that_stumbles_at_everything_is_broken(self):
        def judge(value, case):
            return Score(int("broken"), "")

        def wrong(x):
            return [0.5]

        cases = [Case((1,))]
        exercise = Exercise("f", 1, cases=lambda rng, constants: cases, judge=judge)
        for answers in ((), [answer(wrong)]):
            with pytest.raises(ValueError, match="broken"):
                judge_exercise(exercise, cases, [Reply("value", [1.0])], answers, hidden=True)

    @pytest.mark.parametrize("fraction", [np.nan, -0.1, 1.1])
    def test_an_impossible_fraction_is_the_labs_error(self, fraction):
        exercise, cases = self.capstone(fraction)
        with pytest.raises(ValueError, match="gave the fraction"):
            judge_exercise(exercise, cases, [Reply("value", 1)], hidden=True)

    def test_the_judge_gets_copies(self):
        def judge(value, case):
            value.clear()
            case.held["x"].clear()
            return Score(0.5, "")

        cases = [Case((), held={"x": [1]})]
        exercise = Exercise("f", 1, cases=lambda rng, constants: cases, judge=judge)
        reply = Reply("value", [1])
        judge_exercise(exercise, cases, [reply], hidden=True)
        assert (reply.value, cases[0].held) == ([1], {"x": [1]})


VISIBLE = [
    (np.sum, lambda x: None, (np.ones(2),), "is there a `return`?"),
    (np.sum, lambda x: np.nan, (np.zeros(2),), "NaN where the input is all zero"),
    (np.transpose, lambda x: x, (np.arange(6.0).reshape(2, 3),), "looks transposed"),
    (np.negative, lambda x: x, (np.arange(3.0),), "The sign is the other way round"),
    (lambda x: x[:, None], lambda x: x, (np.arange(3.0),), "the shape is (3,), and should be (3, 1)"),
    (np.sum, lambda x: "2", (np.ones(2),), "it is text, and should be a number"),
    (np.sum, lambda x: 3.25, (np.ones(2),), "For f([1., 1.]) it is 3.25, and should be 2."),
]


@pytest.mark.parametrize(("oracle", "function", "args", "text"), VISIBLE)
def test_visible_messages_teach(oracle, function, args, text):
    exercise, cases = exercise_of(oracle, args)
    assert text in judged(exercise, cases, function).message


def test_the_smallest_failing_example_is_shown():
    exercise, cases = exercise_of(np.sum, np.ones(9), np.ones(2), np.ones(5))
    assert "f([1., 1.])" in judged(exercise, cases, lambda x: 0).message


def test_what_distinguishes_the_wrong_cases_is_asked():
    exercise, cases = exercise_of(np.sum, np.ones(2), np.ones((2, 2)), np.ones((2, 3)))
    message = judged(exercise, cases, lambda x: x.sum() if x.ndim == 1 else 0, hidden=True).message
    assert message.startswith("Right for 1 of 3 hidden cases.")
    assert "depend on the shape" in message
    exercise, cases = exercise_of(np.sum, np.ones(2), np.ones(2, dtype=int))
    message = judged(exercise, cases, lambda x: 0 if x.dtype == int else x.sum()).message
    assert "depend on the dtype" in message


SECRET = 271828


def leaking(x):
    """Replies that carry the input in every way there is."""
    yield Reply("value", x)
    yield Reply("value", f"{x}")
    yield Reply("value", {f"{x}": x})
    yield Reply("value", [[x], [x, x]])
    yield Reply("value", np.zeros(x))
    yield Reply("value", np.full(3, x))
    yield Reply("value", None)
    yield Reply("value", x, arguments=(x + 1,))
    yield Reply("raised", exception="ValueError", text=f"{x}", line=x)
    yield Reply("raised", exception=f"E{x}", text=f"{x}", line=x)
    yield Reply("raised", exception=f"__{x}__", text=f"{x}", line=x)
    yield Reply("refused", text=f"{x}")
    yield Reply("timeout", text=f"{x}")
    yield Reply("crashed", text=f"{x}")


@pytest.mark.parametrize(
    "reply", list(leaking(SECRET)), ids=lambda reply: f"{reply.kind}-{type(reply.value).__name__}"
)
def test_hidden_messages_keep_the_input_to_themselves(reply):
    for expected in (2.0, [1.0, 2.0], {"a": 1}, "text", ValueError("a secret 314159")):

        def oracle(x, expected=expected):
            if isinstance(expected, Exception):
                raise expected
            return expected

        exercise, cases = exercise_of(oracle, SECRET, 5)
        replies = [reply, Reply("value", expected)]
        message = judge_exercise(exercise, cases, replies, hidden=True).message
        digits = "".join(character for character in message if character.isdigit())
        assert "271828" not in digits and "314159" not in digits
        assert set(digits) <= set("012")  # "right for 1 of 2"


def test_public_and_hidden_agree_on_points():
    exercise = TINY.exercise("relu")
    cases = public_cases(exercise, TINY.constants)
    for known in TINY.wrong_answers("relu"):
        scores = {judged(exercise, cases, known.function, hidden=hidden).fraction for hidden in (False, True)}
        assert scores == {0.0}
