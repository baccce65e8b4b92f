"""The package itself, to travel with an export to a machine that does not have it.

Copied are the sources that Git would keep: Python, style and templates. What this is *not*: a wheel. A lab looks for
real data in the folder `data` beside the package, as in a clone of the repository.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dca_lab.grading.exports import REPOSITORY

# what grading needs of the package's dependencies, for a machine on which the package is not installed
REQUIREMENTS = (
    "archspec",
    "filelock",
    "matplotlib",
    "numpy",
    "psutil",
    "safetensors",
    "scipy",
    "torch",
    "tqdm",
)
_LEFT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
_PROJECT = ("pyproject.toml", "README.md", "LICENSE", "constraints.txt")


def copy_package(folder: Path) -> None:
    """The folder `dca_lab` into `folder`."""
    shutil.copytree(REPOSITORY / "dca_lab", folder / "dca_lab", ignore=_LEFT)


def copy_project(folder: Path) -> None:
    """What ``pip install -e`` needs, and the data, into `folder`; ValueError outside of a clone."""
    missing = [name for name in (*_PROJECT, "data") if not (REPOSITORY / name).exists()]
    if missing:
        raise ValueError(
            f"{REPOSITORY} is not a clone of the course ({missing[0]} is missing): release this format from a clone"
        )
    copy_package(folder)
    for name in _PROJECT:
        shutil.copyfile(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "data", folder / "data", ignore=_LEFT)
