"""What an honest student sees of the sandbox: cells run, errors are told, values come back; at every level."""

import os
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from processes import running

from dca_lab.grading.sandbox import Limits, Sandbox, SandboxError, available_levels, levels
from dca_lab.grading.values import BadValue

LIMITS = Limits(cpu_seconds=4, wall_seconds=10, cell_seconds=1)


@pytest.fixture(scope="module", params=["bubblewrap", "landlock", "trusted"])
def sandbox(request):
    reason = available_levels().get(request.param, "")
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with Sandbox(level=request.param, limits=LIMITS) as sandbox:
        assert sandbox.level == request.param
        yield sandbox


def test_values_go_in_and_come_back(sandbox):
    cells = [
        "import numpy as np, torch",
        "def both(a, b, *, scale=2):\n    a += 1\n    return {'sum': a + torch.from_numpy(b), 'pair': (scale, [0.5])}",
    ]
    a, b = torch.ones(2, 3), np.arange(3.0)
    with sandbox.open(cells) as student:
        assert student.errors == [] and student.names == ["both"]
        reply = student.call("both", a, b)
    assert reply.kind == "value"
    assert torch.equal(reply.value["sum"], 2 + torch.from_numpy(b).expand(2, 3))
    assert reply.value["pair"] == (2, [0.5])
    assert torch.equal(a, torch.ones(2, 3))  # a copy was sent
    assert torch.equal(reply.arguments[0], 2 * torch.ones(2, 3)) and np.array_equal(reply.arguments[1], b)


def test_errors_of_cells_cost_only_what_needed_them(sandbox):
    cells = [
        "BITS = 4\nprint(undefined)\nLEVELS = 2 ** 4\ndef kept(): return BITS",
        "def broken(:",
        "exit_code = 3\nimport sys\nsys.exit(exit_code)\nimport math\nSIZE: int = 7\ndef also(): return math.floor(SIZE + .5)",
        "raise KeyboardInterrupt",
        "input('name? ')",
        "return 5",
        "\x00",
        "half = '\ud800'\n1 / 0",
        "def last(): return 1 / 0",
    ]
    with sandbox.open(cells) as student:
        found = [(error.cell, error.line, error.exception) for error in student.errors]
        assert found[:6] == [
            (1, 2, "NameError"),
            (2, 1, "SyntaxError"),
            (3, 3, "SystemExit"),
            (4, 1, "KeyboardInterrupt"),
            (5, 1, "EOFError"),
            (6, 1, "SyntaxError"),
        ]
        assert [cell for cell, _, _ in found[6:]] == [7, 8]
        assert student.names == ["kept", "also", "last"]
        assert student.call("kept").value == 4
        assert student.call("also").value == 7
        reply = student.call("last")
        assert (reply.kind, reply.exception, reply.line) == ("raised", "ZeroDivisionError", 1)
        assert student.call("broken").kind == "missing"
        assert student.call("BITS").kind == "missing"
        reply = student.call("kept", 1)
        assert (reply.kind, reply.exception) == ("raised", "TypeError")


def test_what_notebooks_are_full_of(sandbox):
    cells = [
        "%matplotlib inline\nfiles = !ls\n!pip install everything\n%timeit -n1 sum(range(3))\n%time x = 5",
        "%%time\ny = 6",
        "%%bash\nrm -rf /",
        "  \n%%capture out\nz = 7\nraise_here",
        "get_ipython().system('ls')\ndisplay(x)\nget_ipython().magic('x').y",
        "import warnings, sys\nwarnings.warn('often')\nprint('\\ud800', file=sys.stderr)",
        "from __future__ import annotations",
        "def late(a: NotDefinedAnywhere): return a",
        "import dataclasses, inspect, os\n@dataclasses.dataclass\nclass Point:\n    x: int = 3",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.title('t')\nplt.savefig('a.png'); plt.show()",
        "from dca_lab.grading import lab_checks\ncheck = lab_checks('quantization')",
        "passed = check('anything')\nif passed:\n    raise SystemError",
        "def state(): return x, y, z, files, passed, Point().x, __name__",
        "open('notes.txt', 'w').write('mine')\nopen(os.devnull, 'w').write('x')",
        "def notes(): return open('notes.txt').read(), inspect.getsource(late)",
    ]
    with sandbox.open(cells) as student:
        found = [(error.cell, error.line, error.exception) for error in student.errors]
        assert found == [(4, 4, "NameError"), (5, 3, "AttributeError")]
        state = student.call("state")
        assert state.kind == "value", state
        assert state.value == (5, 6, 7, [], False, 3, "__main__")
        assert student.call("notes").value == ("mine", "def late(a: NotDefinedAnywhere): return a")
    with sandbox.open(["def left():\n    import os\n    return os.listdir('.')"]) as student:
        assert student.call("left").value == []


def test_a_deadly_cell_costs_that_cell(sandbox):
    cells = [
        "def first(): return 1",
        "import os\ndef second(): return 2\nos._exit(0)\ndef third(): return 3",
        "while True: pass\ndef fourth(): return 4",
        "def fifth(): return 5",
    ]
    with sandbox.open(cells) as student:
        assert [(error.cell, error.exception) for error in student.errors] == [(2, "crashed"), (3, "timeout")]
        assert student.skipped == {2, 3}
        values = [student.call(name).value for name in ("first", "second", "third", "fourth", "fifth")]
        assert values == [1, 2, 3, 4, 5]
        skipped = student.skipped
    with sandbox.open(cells, skip=skipped) as student:
        assert student.errors == [] and student.call("fourth").value == 4


def test_many_deadly_cells_come_to_an_end(sandbox):
    deadly = "import os, ctypes\ndef ok(a=os._exit(0)): return 1"
    with sandbox.open([deadly] * 12 + ["def fine(): return 1"]) as student:
        reply = student.call("fine")
        assert reply.kind in ("crashed", "value")
        assert len(student.errors) <= 12


def test_a_deadly_call_costs_that_call(sandbox):
    cells = [
        "import os\ncount = 0\ndef die(): os._exit(3)\ndef live():\n    global count\n    count += 1\n    return count"
    ]
    with sandbox.open(cells) as student:
        assert [student.call("live").value for _ in range(2)] == [1, 2]
        assert student.call("die").kind == "crashed"
        assert student.call("live").value == 1  # a new process
        assert student.call("die").kind == "crashed"
        with pytest.raises(BadValue):
            student.call("live", object())  # the lab's fault, not the student's
    with pytest.raises(SandboxError):
        student.call("live")


def test_too_many_deaths_come_to_an_end(sandbox):
    with sandbox.open(["import os\ndef die(): os._exit(3)"], limits=Limits(restarts=3)) as student:
        replies = [student.call("die") for _ in range(6)]
    assert {reply.kind for reply in replies} == {"crashed"}
    assert "too often" in replies[-1].text


def test_too_long_sources_are_told(sandbox):
    with sandbox.open(["#" * (1 << 21), "def f(): return 1"]) as student:
        assert [(error.cell, error.exception) for error in student.errors] == [(1, "TooLong")]
        assert student.call("f").value == 1


def test_not_values_are_refused_and_the_process_lives(sandbox):
    cells = [
        "import torch\ndef model(): return torch.nn.Linear(1, 1)\ndef spoil(a): a.append({1})\ndef ok(): return 1"
    ]
    with sandbox.open(cells) as student:
        reply = student.call("model")
        assert reply.kind == "refused" and "Linear cannot be sent" in reply.text
        assert student.call("spoil", []).kind == "refused"
        assert student.call("ok").value == 1


def test_a_zygote_that_died_is_started_again(sandbox):
    cells = ["def f(): return 1"]
    with sandbox.open(cells) as student:
        sandbox._keeper._process.kill()
        with suppress(
            ProcessLookupError
        ):  # inside bubblewrap the zygote is another process than the one started
            os.kill(sandbox._keeper.pid, 9)
        sandbox._keeper._process.wait()
        # behind walls the student's process dies with the zygote, but the kernel takes its time, and until then it answers
        deadline = time.monotonic() + 60
        while sandbox.level != "trusted" and running(student._pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert student.call("f").kind in ("value", "crashed")
        assert student.call("f").value == 1
    with sandbox.open(cells) as student:
        assert student.call("f").value == 1


def test_helpers_are_offered_and_nothing_else(sandbox, tmp_path):
    tried = """
def tried(name):
    import importlib
    return sorted(vars(importlib.import_module(name)))
"""
    with sandbox.open([tried]) as student:
        for name in (
            "dca_lab.files",
            "dca_lab.pruning",
            "dca_lab.grading.judge",
            "dca_lab.grading.sandbox.keeper",
        ):
            assert student.call("tried", name).exception == "ModuleNotFoundError"
    if sandbox.level == "trusted":
        (tmp_path / "measure.py").write_text("RATE = 3", encoding="utf-8")
        files = [tmp_path / "measure.py"]
        with Sandbox(level="trusted", helpers=("dca_lab.files",), files=files, limits=LIMITS) as other:
            with other.open([tried]) as student:
                assert "RATE" in student.call("tried", "measure").value
                assert "replacing" in student.call("tried", "dca_lab.files").value
                assert student.call("tried", "dca_lab.pruning").exception == "ModuleNotFoundError"
    with pytest.raises(ValueError, match="belongs to the grader"):
        Sandbox(level=sandbox.level, helpers=("dca_lab.grading.judge",))


def test_no_level_is_told_with_a_way_out(monkeypatch):
    monkeypatch.setattr(levels, "available_levels", lambda: {"bubblewrap": "absent", "landlock": "absent"})
    for level in (None, "landlock"):
        with pytest.raises(SandboxError, match="absent.*--trusted"):
            Sandbox(level=level)
    with pytest.raises(SandboxError, match="choose one of"):
        Sandbox(level="strong")
