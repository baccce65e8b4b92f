"""Landlock by itself, in a process of its own: what is named can be read, the rest is gone, and for good."""

import json
import subprocess
import sys

import pytest

from dca_lab.grading.sandbox.inside import landlock

pytestmark = pytest.mark.skipif(landlock.version() < 1, reason="no Landlock in this kernel")

SCRIPT = """
import ctypes, importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("landlock", sys.argv[1])
landlock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(landlock)
top = sys.argv[2]
rules = landlock.ruleset([top + "/open", top + "/alone.txt", "/not/there"], [top + "/list"], [top + "/mine"])
assert ctypes.CDLL(None).prctl(38, ctypes.c_ulong(1), 0, 0, 0) == 0
landlock.restrict(rules)
found = {}
for code in sys.argv[3:]:
    try:
        found[code] = repr(eval(code, {"top": top, "os": os, "open": open}))
    except OSError as error:
        found[code] = type(error).__name__
print(json.dumps(found))
"""


def test_what_is_granted(tmp_path):
    for folder in ("open/inner", "list/inner", "mine", "closed"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("open/inner/a.txt", "list/a.txt", "closed/a.txt", "alone.txt", "other.txt"):
        (tmp_path / file).write_text("text", encoding="utf-8")
    expected = {
        "open(top + '/open/inner/a.txt').read()": "'text'",
        "open(top + '/alone.txt').read()": "'text'",
        "open(top + '/open/b.txt', 'w')": "PermissionError",
        "os.listdir(top + '/list/inner')": "[]",
        "open(top + '/list/a.txt')": "PermissionError",
        "open(top + '/closed/a.txt')": "PermissionError",
        "open(top + '/other.txt')": "PermissionError",
        "os.listdir(top)": "PermissionError",
        "os.remove(top + '/open/inner/a.txt')": "PermissionError",
        "open(top + '/mine/b.txt', 'w').write('x')": "1",
        "os.makedirs(top + '/mine/c/d')": "None",
        "os.rename(top + '/mine/b.txt', top + '/mine/c/b.txt')": "None"
        if landlock.version() > 1
        else "OSError",
        "os.rename(top + '/mine/c/d', top + '/open/d')": "OSError",
        "os.symlink('/', top + '/mine/link')": "PermissionError",
        "open('/dev/null', 'w').write('x')": "1",
        "open('/etc/passwd')": "PermissionError",
    }
    line = [sys.executable, "-I", "-c", SCRIPT, landlock.__file__, str(tmp_path), *expected]
    run = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for code, result in expected.items():
        # a move between folders is refused as EXDEV (OSError) or EACCES (PermissionError), as the kernel likes
        fine = (result, "PermissionError") if result == "OSError" else (result,)
        assert found[code] in fine, code
    assert (tmp_path / "open/inner/a.txt").exists()
