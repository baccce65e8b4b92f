"""Hidden checks beside a student's code: no noise gets out, nothing hangs, and the cases are those of `dca grade`."""

import dataclasses
import logging
import os
import sys
import time
import warnings

import exported_class
import pytest
import torch

from dca_lab.grading import checks_file, exports, generator, load_lab
from dca_lab.grading.compare import difference
from dca_lab.grading.exports import beside, write_hidden

LAB = load_lab(exported_class.TINY)
SECONDS = 0.2


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The hidden cases and the visible ones, in a folder above the working directory; a call may take 0.2 s."""
    quick = tuple(dataclasses.replace(exercise, seconds=SECONDS) for exercise in LAB.exercises)
    lab = dataclasses.replace(LAB, exercises=quick)
    (tmp_path / "measure.py").write_bytes((LAB.folder / "measure.py").read_bytes())
    write_hidden(lab, tmp_path / "tiny_lab.hidden")
    checks_file.write(lab, tmp_path / "tiny_lab.checks")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    return tmp_path


def earned(function, file="tiny_lab.hidden"):
    return beside.earned(file, "double", {"double": function})


def test_noise_costs_nothing_and_is_not_seen(recorded, capfd):
    old = logging.StreamHandler(sys.stderr)  # keeps the stderr of before
    logging.getLogger().addHandler(old)

    def double(x):
        print("noise")
        print("noise", file=sys.stderr)
        os.write(2, b"noise")
        warnings.warn("noise", stacklevel=1)
        logging.error("noise")
        return 2 * x

    assert earned(double).fraction == 1
    logging.getLogger().removeHandler(old)
    assert "noise" not in "".join(capfd.readouterr())
    print("heard again")
    assert capfd.readouterr().out == "heard again\n" and logging.root.manager.disable == 0


def test_points_are_printed_with_their_message(recorded, capsys):
    assert beside.points("tiny_lab.hidden", "double", {"double": lambda x: x**2}, 5) == 0.0
    assert "You squared" in capsys.readouterr().out
    assert beside.points("tiny_lab.hidden", "double", {"double": lambda x: 2 * x}, 5) == 5.0
    some = {"keep_few": lambda w: torch.where(w.abs() >= w.abs().quantile(0.5), w, 0)}
    assert beside.points("tiny_lab.hidden", "keep_few", some, 5) == 2.5


def test_an_endless_loop_is_stopped_and_not_tried_for_ever(recorded):
    calls = []

    def double(x):
        calls.append(x)
        while True:
            try:
                time.sleep(60)
            except Exception:  # hides every error, as some do
                pass

    score = earned(double)
    assert score.fraction == 0 and "long" in score.message and len(calls) == beside.MOST_TIMEOUTS


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, NotImplementedError])
def test_whatever_it_raises_is_a_score(recorded, error):
    def double(x):
        raise error

    assert earned(double).fraction == 0


def test_no_function_is_a_score(recorded):
    for missing in (None, 3):
        assert "no function `double`" in earned(missing).message


def test_hidden_messages_show_no_value(recorded):
    seen = earned(lambda x: x + 0.12345, "tiny_lab.checks").message
    assert any(digit in seen for digit in "0123456789")
    assert not any(digit in earned(lambda x: x + 0.12345).message for digit in "0123456789")


def test_the_cases_are_those_of_a_run_with_that_seed(tmp_path, monkeypatch):
    (tmp_path / "measure.py").write_bytes((LAB.folder / "measure.py").read_bytes())
    read = []
    for seed in ("one", "one", None):
        if seed is not None:
            monkeypatch.setattr(exports, "new_seed", lambda seed=seed: seed)
        else:
            monkeypatch.undo()
        write_hidden(LAB, tmp_path / "a.hidden", {"width": 6})
        read.append(checks_file.read(tmp_path / "a.hidden"))
    for exercise in LAB.exercises:
        drawn = exercise.draw(generator("one", "hidden", exercise.name), {"width": 6})
        first, second, other = ([case.args for case in one[exercise.name].cases] for one in read)
        assert difference(first, [case.args for case in drawn]) is None
        assert difference(first, second) is None and difference(first, other) is not None


def test_a_missing_file_says_where_it_belongs(recorded):
    with pytest.raises(FileNotFoundError, match="other.hidden"):
        beside.earned("other.hidden", "double", {})
