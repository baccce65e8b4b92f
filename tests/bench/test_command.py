"""The command, and what all comparisons share: arguments, goals, the documentation's examples."""

import doctest
import importlib
import pkgutil

import pytest

import bench
from bench import COMPARISONS, comparison
from bench import __main__ as command
from bench.common import Goal, failure, goals_table, require, spread, versions

MODULES = [m.name for m in pkgutil.walk_packages(bench.__path__, "bench.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_comparison_has_its_parts(name):
    module = comparison(name)
    assert module.TITLE and module.__doc__
    assert callable(module.run) and callable(module.report) and module.steps(seeds=2, quick=True) > 0


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings(name):
    assert not doctest.testmod(importlib.import_module(name)).failed


@pytest.mark.parametrize("argv", [["no-such-comparison"], ["--seeds", "0"]])
def test_wrong_arguments_stop_at_the_door(argv, capsys):
    with pytest.raises(SystemExit):
        command.main(argv)
    assert argv[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    "measured, relation, limit, interval, verdict",
    [
        (0.2, "<=", 0.2, None, "met"),
        (0.21, "<=", 0.2, None, "NOT MET"),
        (0.2, "<", 0.2, None, "NOT MET"),
        (0.98, ">=", 1.0, (0.97, 1.01), "within noise"),
        (0.98, ">=", 1.0, (0.97, 0.99), "NOT MET"),
        (1.02, ">=", 1.0, (0.9, 1.1), "met"),
        (float("nan"), "<=", 1.0, None, "NOT MET"),
        (None, ">", 1.0, None, "not measured"),
    ],
)
def test_a_verdict_is_computed(measured, relation, limit, interval, verdict):
    goal = Goal("figure", measured, relation, limit, interval=interval)
    assert goal.verdict == verdict
    assert verdict in goals_table([goal])


def test_spread_says_how_far_the_seeds_are_apart():
    assert spread([1.0, 4.0], digits=1) == "2.5 (1.0 to 4.0)"


def test_a_missing_library_is_named():
    with pytest.raises(ModuleNotFoundError, match="no-such-library is not installed") as caught:
        require("no-such-library")
    assert failure(caught.value) == "ModuleNotFoundError: no-such-library is not installed"
    assert set(versions()) >= {"torch", "onnxruntime", "torchao", "nncf", "neural-compressor-pt"}
