"""A class for the exports: four notebooks of the tiny lab, and what `dca grade` gives for them."""

from pathlib import Path

import nbformat

from dca_lab.grading import exports, load_lab, records
from dca_lab.grading.batch import grade_folder

TINY = Path(__file__).with_name("tiny_lab")
SEED = "the seed of every export and run in these tests"

NOISY = """import logging, os, sys, warnings
print("something stray")
logging.basicConfig(stream=sys.stderr, force=True)

def double(x):
    print("stray", "noise")
    print("noise", file=sys.stderr)
    os.write(2, b"noise from C")
    warnings.warn("a warning")
    logging.warning("a logged warning")
    return 2 * x
"""
RELU = """def relu(x):
    if x.isnan().any():
        raise ValueError("NaN")
    return x.clamp(min=0)
"""
FEW = """def keep_few(w):
    w = w.clone()
    w[w.abs() < w.abs().quantile({share})] = 0
    return w
"""
CLASS = {
    "right": {"double": NOISY, "relu": RELU, "keep_few": FEW.format(share=0.75)},
    "wrong": {
        "double": "def double(x):\n    return x ** 2\n",
        "relu": RELU,
        "keep_few": FEW.format(share=0.5),
    },
    "crashing": {
        "double": "import sys\n\ndef double(x):\n    sys.exit(0)\n",
        "relu": "1 / 0\n\ndef relu(x):\n    return x\n",
        "keep_few": FEW.format(share=0.75),
    },
    "unsolved": {},
}
TOTALS = {"right": 6, "wrong": 3.5, "crashing": 3, "unsolved": 0}


def same_seed(patch):
    """Let exports and runs draw the same hidden cases."""
    patch.setattr(exports, "new_seed", lambda: SEED)
    patch.setattr(records.secrets, "token_hex", lambda size: SEED)


def write_class(released, folder, name="{student}.ipynb"):
    """Fill in the exercises of a released notebook, once for each student."""
    for student, answers in CLASS.items():
        notebook = nbformat.read(released, as_version=4)
        for cell in notebook.cells:
            for exercise, text in answers.items():
                if cell.cell_type == "code" and cell.source.startswith(f"def {exercise}("):
                    cell.source = text
        path = folder / name.format(student=student)
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
    return folder


def graded(folder, out):
    """The records of `dca grade`, by student; their totals are what this file says."""
    run = grade_folder(load_lab(TINY), folder, out, workers=1, progress=False)
    assert run.problems == []
    found = {record["student"]: record for record in run.records}
    assert {student: record["score"] for student, record in found.items()} == TOTALS
    return found
