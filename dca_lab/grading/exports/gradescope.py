"""The zip for Gradescope's autograder: on their machine it runs `dca grade`, sandbox and all.

    setup.sh          once: a virtual environment with the package
    run_autograder    for each submission: `dca grade` on /autograder/submission, its results.json to where it belongs
    project/          the package as in a clone, with its data
    labs/<lab>/       the lab with its solutions

Each submission is a run of its own, with a new secret seed. Where the machine offers no sandbox, nothing is graded and
the autograder fails, which the instructor sees: no student is given 0 for it. The paths can be moved by environment
variables (`AUTOGRADER` for /autograder, `DCA_PYTHON` for the interpreter), so that the zip can be tried anywhere. What
this is *not*: tied to their web site; how to upload it, and the choice of the machine's size, is theirs to say.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from dca_lab.files import replacing
from dca_lab.grading.exercise import Lab
from dca_lab.grading.exports import for_everyone
from dca_lab.grading.exports.package import copy_project
from dca_lab.grading.lab_folder import FILES

SETUP = """#!/usr/bin/env bash
# Once, when the image is built. Choose an image with Python 3.11 or later.
set -euo pipefail
root="${AUTOGRADER:-/autograder}"
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y python3-venv bubblewrap
python3 -m venv "$root/venv"
"$root/venv/bin/pip" install -c "$root/source/project/constraints.txt" -e "$root/source/project[grade]"
"""
RUN = """#!/usr/bin/env bash
# For each submission.
set -euo pipefail
root="${AUTOGRADER:-/autograder}"
python="${DCA_PYTHON:-$root/venv/bin/python}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/class" "$root/results"
cp -rP "$root/submission" "$work/class/submission"  # as one folder of a class; links stay links, and are not followed
export DCA_QUIET=1 OMP_NUM_THREADS=1
code=0
"$python" -c "from dca_lab.cli import main; main()" grade \\
    "$root/source/labs/@LAB@" "$work/class" --out "$work/out" --workers 1 || code=$?
cp "$work/out/gradescope/submission/results.json" "$root/results/results.json"
exit "$code"
"""


def release(lab: Lab, out: Path, *, constants: dict | None, student: str | None, targets: bool) -> Path:
    """Write `<lab>-gradescope.zip` into `out`; its path."""
    for_everyone(lab, student, "Gradescope")
    if constants:
        raise ValueError("the zip grades with the lab's standard constants: leave them out")
    path = out / f"{lab.name}-gradescope.zip"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for name, text in (("setup.sh", SETUP), ("run_autograder", RUN.replace("@LAB@", lab.name))):
            (folder / name).write_text(text, encoding="utf-8")
            (folder / name).chmod(0o755)
        copy_project(folder / "project")
        (folder / "labs" / lab.name).mkdir(parents=True)
        for name in FILES:
            if (lab.folder / name).is_file():
                shutil.copyfile(lab.folder / name, folder / "labs" / lab.name / name)
        with replacing(path) as beside:
            _zip(folder, beside)
    return path


def _zip(folder: Path, path: Path) -> None:
    """All files of the folder with their permissions."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for top, _, names in os.walk(folder):
            for name in sorted(names):
                file = Path(top) / name
                archive.write(file, file.relative_to(folder))
