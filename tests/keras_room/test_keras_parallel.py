"""Two devices train what one trains; the usual mistake doubles the step; and it is told when it is too late to split."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from dca_lab.keras import logical_cpus, mirrored, use_threads
from dca_lab.keras.threads import follow_omp

pytestmark = pytest.mark.timeout(600)  # one process imports TensorFlow anew, perhaps on a busy machine
SCRIPT = Path(__file__).with_name("fresh_process.py")


@pytest.fixture(scope="module")
def found():
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, timeout=500, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "I0000" not in done.stderr and "WARNING: All log" not in done.stderr  # the room's import is silent
    return json.loads(done.stdout.splitlines()[-1])


def test_the_cpu_is_split_and_computes_on_one_thread(found):
    asked, again, there = found["devices"]
    assert asked == again == ["CPU:0", "CPU:1"]
    assert there == ["/device:CPU:0", "/device:CPU:1"]
    assert found["threads"] == [1, 1]


def test_two_devices_equal_one(found):
    """Three steps with momentum; the last batch does not divide by two."""
    assert found["moved"] > 0.01
    assert found["one device"] <= 1e-6
    assert found["two devices"] <= 1e-6
    two, one = found["losses"]
    assert two == pytest.approx(one, rel=1e-5)


def test_averaging_on_each_replica_doubles_the_gradient(found):
    assert found["wrong"] > 1e-3
    assert found["wrong, twice as far"] <= 1e-6
    assert found["wrong at half the rate"] <= 1e-6
    right, wrong = found["reported"]
    assert wrong == pytest.approx(right, rel=1e-5)  # nothing to be seen


def test_fit_is_exact_when_every_batch_divides_and_not_otherwise(found):
    assert found["fit, even"] <= 1e-6
    assert found["fit, a last batch of three"] > 1e-4  # Keras' limit, told in the docstring of `mirrored`


def test_the_allocators_books(found):
    for peak, count in zip(found["peak"], (1 << 18, 1 << 22), strict=True):
        assert (
            4 * count <= peak <= 2 * (2 * 4 * count) + 4096
        )  # one or both tensors, in blocks of up to twice the size
    (full, full_outputs), (half, half_outputs) = found["peaks"]
    assert full >= full_outputs and half >= half_outputs  # the outputs wait for the backward pass
    assert half < 0.85 * full and half_outputs * 2 == full_outputs


def test_errors_say_what_to_do(found):
    errors = found["errors"]
    assert errors.pop("again") == "no error"
    for name in ("logical_cpus", "use_threads"):
        message = errors.pop(name)
        assert message.startswith("RuntimeError") and "first cell" in message
    for name, text in {
        "mirrored": "logical_cpus(2)",
        "average": "global, replica",
        "unbuilt": "keras.layers.Input",
        "small": "cannot be split over 2",
        "mean": "without a mean",
    }.items():
        assert errors[name].startswith("ValueError") and text in errors[name]


def test_too_late_in_a_process_that_has_computed():
    tf.zeros(1)
    with pytest.raises(RuntimeError, match="restart the kernel"):
        logical_cpus(5)
    with pytest.raises(RuntimeError, match="restart the kernel"):
        use_threads(7)
    with pytest.raises(ValueError, match="CPU:9"):
        mirrored(["CPU:0", "CPU:9"])
    with pytest.raises(ValueError, match="was named"):
        mirrored([])


@pytest.mark.parametrize(
    "omp, said, pools", [("3", None, "3"), ("3", "2", "2"), (None, None, None), ("4,2", None, None)]
)
def test_tensorflow_follows_omp(omp, said, pools, monkeypatch):
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    for name, value in (("OMP_NUM_THREADS", omp), *((name, said) for name in names)):
        monkeypatch.setenv(name, value or "")  # so that it is put back
        if value is None:
            monkeypatch.delenv(name)
    follow_omp()
    assert [os.environ.get(name) for name in names] == [pools, pools]


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2"])
def test_numbers_that_are_none(number):
    with pytest.raises(ValueError, match="1 or more"):
        logical_cpus(number)
    with pytest.raises(ValueError, match="1 or more"):
        use_threads(number)
