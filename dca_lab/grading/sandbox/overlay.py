"""The folder that stands for `dca_lab` inside the sandbox.

Idea: while grading, the installed package is out of sight, or "import the reference" would be an answer. In its place
the sandbox sees a folder with the few files it needs to run, a `lab_checks` that checks nothing, and the helper modules
that the lab declares, copied together with the files of the package that they import. Everything else of the package
raises ModuleNotFoundError, as if it were not installed.

What this is *not*: a place for data files. A helper that reads some from the package will not find them.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]  # dca_lab
STAND_IN = '''"""Inside the sandbox: the visible checks are silent here, the grader has its own."""


def lab_checks(*_, **__):
    return lambda *_, **__: False
'''


def build(folder: Path, helpers: Iterable[str] = (), files: Iterable[Path] = ()) -> None:
    """Write the overlay into `folder`.

    Parameters
    ----------
    folder : Path
        An existing, empty folder.
    helpers : iterable of str
        Dotted names of modules of the package, such as ``dca_lab.measure``.
    files : iterable of Path
        Files that students were given beside their notebook, such as ``measure.py``: importable by their name.
    """
    for path in files:
        shutil.copyfile(path, folder / Path(path).name)
    for module in sorted(closure(helpers)):
        _copy(_file(module), folder)
    grading = folder / "dca_lab" / "grading"
    shutil.copytree(
        PACKAGE / "grading" / "sandbox" / "inside",
        grading / "sandbox" / "inside",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("values.py", "blob.py"):
        _copy(PACKAGE / "grading" / name, folder)
    (grading / "__init__.py").write_text(STAND_IN, encoding="utf-8")
    for path in (folder / "dca_lab").rglob("*"):
        if path.is_dir() and not (path / "__init__.py").exists():
            (path / "__init__.py").touch()
    (folder / "dca_lab" / "__init__.py").write_text("", encoding="utf-8")
    for path in [folder, *folder.rglob("*")]:  # the sandbox may run as another user
        path.chmod(0o755 if path.is_dir() else 0o644)


def closure(helpers: Iterable[str]) -> set[str]:
    """The modules of the package that `helpers` import, directly or not, themselves included.

    Examples
    --------
    >>> sorted(closure(["dca_lab.files"]))
    ['dca_lab.files']
    >>> closure(["dca_lab.grading.judge"])
    Traceback (most recent call last):
    ValueError: dca_lab.grading.judge belongs to the grader: a lab cannot offer it to students
    """
    found: set[str] = set()
    pending = list(helpers)
    while pending:
        module = pending.pop()
        if module in found or module == "dca_lab":
            continue
        if f"{module}.".startswith("dca_lab.grading."):
            raise ValueError(f"{module} belongs to the grader: a lab cannot offer it to students")
        path = _file(module)
        if path is None:
            raise ValueError(f"there is no module {module}: HELPERS names modules such as dca_lab.measure")
        found.add(module)
        pending += _imports(path, module)
    return found


def _file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != "dca_lab" or not all(part.isidentifier() for part in parts):
        return None
    place = PACKAGE.joinpath(*parts[1:])
    found = [path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()]
    return found[0] if found else None


def _imports(path: Path, module: str) -> list[str]:
    """Modules of the package that the file imports; ``from a import b`` means a.b where that is a module, else a."""
    inside = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("dca_lab.")]
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source != "dca_lab" and not source.startswith("dca_lab."):
                continue
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.append(inner if _file(inner) else source)
    return found


def _copy(path: Path, folder: Path) -> None:
    target = folder / "dca_lab" / path.relative_to(PACKAGE)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
