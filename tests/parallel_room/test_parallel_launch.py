"""Launched processes: what they are told, and that an error, a death, a timeout leave nothing behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import parallel_functions
import psutil
import pytest
import torch

from dca_lab.parallel import ProcessError, launch, train_data_parallel
from dca_lab.parallel.launch import _raise_failure

# A started process imports torch: seconds of work, and minutes on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path, monkeypatch):
    """After each test: no child process, no temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = children(psutil.Process())
    yield
    assert children(psutil.Process()) <= before
    assert not list(tmp_path.glob("dca-parallel-*"))


def children(process):
    """All below `process`, but Python's own helper that frees shared memory when the process ends."""
    return {child for child in process.children(recursive=True) if not helper(child)}


def helper(process):
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return True


def test_an_error_is_raised_here_with_its_traceback_and_not_the_error_of_who_waited():
    x = torch.zeros(8, 1, 28, 28)
    x[:] = torch.nan  # only in the share of process 1, see below
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    x[order[:4]] = 0.0
    with pytest.raises(ProcessError, match="process 1 of 2 failed") as caught:
        train_data_parallel(
            "digit-cnn", x, torch.zeros(8).long(), world_size=2, steps=1, batch_size=8, timeout=400
        )
    assert caught.value.rank == 1
    assert "FloatingPointError: the loss is nan at step 1: lower the learning rate" in str(caught.value)
    assert ", in train\n    _refuse_infinite(" in str(caught.value)


def test_a_killed_process_is_named_and_the_one_that_waited_for_it_does_not_stay():
    with pytest.raises(
        ProcessError, match="process 1 of 2 ended without a result.*exit code -9: killed"
    ) as caught:
        launch(parallel_functions.end, 2, 1, "killed", timeout=400)
    assert caught.value.rank == 1


def test_a_process_that_leaves_without_an_answer_is_an_error():
    with pytest.raises(ProcessError, match="process 0 of 1 ended without a result.*exit code 0"):
        launch(parallel_functions.end, 1, 0, "left", timeout=400)


def test_a_timeout_ends_all():
    with pytest.raises(TimeoutError, match=r"process 0, 1 of 2 did not finish within 0.5 s"):
        launch(parallel_functions.sleep, 2, "/nowhere", timeout=0.5)


def test_when_the_launching_process_is_killed_the_launched_one_ends(tmp_path):
    code = f"import parallel_functions as f, dca_lab.parallel as p; p.launch(f.sleep, 1, {str(tmp_path)!r})"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)}
    # -c as in a notebook: __main__ is no file that the new processes could import
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as parent:
        end = time.monotonic() + 400
        while not list(tmp_path.glob("*.pid")) and parent.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        pids = [int(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.pid")]
        processes = [psutil.Process(pid) for pid in pids]
        parent.kill()
    assert len(processes) == 1
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive  # and the folder is gone, see nothing_stays


class Ended:
    """A process as the launching one sees it: ended, but its exit code is there only after join()."""

    def __init__(self, exitcode):
        self.sentinel, writing = os.pipe()
        os.close(writing)
        self.exitcode, self.final = None, exitcode

    def join(self):
        self.exitcode = self.final


@pytest.mark.parametrize(
    ("codes", "reports", "first"),
    [
        ([1, 1], {0: 2_000_000_000, 1: 1_000_000_000}, 1),  # both complained: who did so first
        ([1, 1], {0: 1_000_000_000, 1: 2_000_000_000}, 0),
        ([1, -9], {0: 1_000_000_000}, 1),  # 0 complained that 1, who was killed, no longer answers
    ],
)
def test_of_several_failures_the_cause_is_told_and_not_a_consequence(tmp_path, codes, reports, first):
    for rank, when in reports.items():
        (tmp_path / f"error-{rank}.txt").write_text(f"traceback of {rank}", encoding="utf-8")
        os.utime(tmp_path / f"error-{rank}.txt", ns=(when, when))
    processes = [Ended(code) for code in codes]
    with pytest.raises(ProcessError, match=f"process {first} of 2") as caught:
        _raise_failure(processes, tmp_path)
    assert caught.value.rank == first
    for process in processes:
        os.close(process.sentinel)


def in_a_notebook():
    return 1


def test_functions_that_a_new_process_cannot_import_are_refused_before_anything_starts(monkeypatch):
    for function in (lambda: 1, torch.nn.Linear(1, 1), in_a_notebook):
        monkeypatch.setattr(in_a_notebook, "__module__", "__main__")
        with pytest.raises(ValueError, match="cannot be imported by a new process"):
            launch(function, 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"world_size": 0}, "world_size=0"),
        ({"world_size": True}, "world_size=True"),
        ({"world_size": 1.0}, "world_size=1.0"),
        ({"world_size": 1, "threads": 0}, "threads=0"),
        ({"world_size": 1, "timeout": 0.0}, "timeout=0.0"),
        ({"world_size": 1, "timeout": float("nan")}, "timeout=nan"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        launch(parallel_functions.introduce, **settings)
