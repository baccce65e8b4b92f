"""The execution cache: what re-executes a notebook, what does not, and what an interruption costs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))

import execute  # noqa: E402


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _notebook(path: Path, *code: str, prose: str = "# A chapter") -> None:
    cells = [nbformat.v4.new_markdown_cell(prose), *(nbformat.v4.new_code_cell(source) for source in code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture
def small_book(tmp_path):
    """Two chapters on a package of two rooms; each execution leaves a line in runs.txt."""
    _write(tmp_path / "_toc.yml", "format: jb-book\nroot: chapters/one\nchapters:\n- file: chapters/two\n")
    _write(tmp_path / "data" / "SHA256SUMS", "")
    _write(tmp_path / "dca_lab" / "__init__.py", "")
    _write(tmp_path / "dca_lab" / "ground.py", "def one():\n    return 1\n")
    _write(tmp_path / "dca_lab" / "room" / "__init__.py", "from .door import two\n")
    _write(
        tmp_path / "dca_lab" / "room" / "door.py",
        "from ..ground import one\n\ndef two():\n    return 2 * one()\n",
    )
    _write(tmp_path / "dca_lab" / "other.py", "three = 3\n")
    path = "import sys; sys.path.insert(0, '..')"
    log = "open('../runs.txt', 'a', encoding='utf-8').write('{}\\n')"
    _notebook(
        tmp_path / "chapters" / "one.ipynb", path, "from dca_lab.room import two\ntwo()", log.format("one")
    )
    _notebook(
        tmp_path / "chapters" / "two.ipynb", path, "from dca_lab import other\nother.three", log.format("two")
    )
    return tmp_path


def _names(paths):
    return sorted(path.stem for path in paths)


def _execute(root):
    return _names(execute.execute(root, root / "_build" / ".jupyter_cache"))


def test_only_what_depends_on_a_change_is_executed_again(small_book):
    assert _execute(small_book) == ["one", "two"]
    assert _execute(small_book) == []

    # prose changes nothing
    notebook = nbformat.read(small_book / "chapters" / "one.ipynb", as_version=4)
    notebook.cells[0].source = "# Another title"
    nbformat.write(notebook, small_book / "chapters" / "one.ipynb")
    assert _execute(small_book) == []

    # ground.py is reached by one -> room -> door -> ground, not by two
    _write(small_book / "dca_lab" / "ground.py", "def one():\n    return 10\n")
    assert _execute(small_book) == ["one"]

    _write(small_book / "dca_lab" / "other.py", "three = 4\n")
    assert _execute(small_book) == ["two"]

    # the data is everybody's ground
    _write(small_book / "data" / "SHA256SUMS", "0" * 64 + "  x\n")
    assert _execute(small_book) == ["one", "two"]


def test_package_files_follow_relative_and_late_imports(small_book):
    _write(small_book / "dca_lab" / "late.py", "def f():\n    from .other import three\n    return three\n")
    found = execute.package_files(small_book, {"dca_lab.late.f"})
    assert {path.name for path in found} == {"__init__.py", "late.py", "other.py"}


def test_the_whole_package_parses_and_is_found():
    """Against the real interpreter: what an import of a room loads is a part of what is found statically."""
    code = "import sys, dca_lab.pruning; print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.startswith('dca_lab')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    found = execute.package_files(ROOT, {"dca_lab.pruning"})
    assert {Path(path).resolve() for path in loaded} <= found


def test_a_failing_notebook_is_named_and_the_others_are_kept(small_book, capsys):
    _notebook(small_book / "chapters" / "two.ipynb", "1 / 0")
    with pytest.raises(SystemExit, match="chapters/two.ipynb"):
        _execute(small_book)
    assert "ZeroDivisionError" in capsys.readouterr().err
    _notebook(small_book / "chapters" / "two.ipynb", "1 / 1")
    assert _execute(small_book) == ["two"]


def test_a_killed_build_keeps_what_was_finished(small_book):
    """SIGKILL while the second notebook runs: the next build executes only that one."""
    _notebook(small_book / "chapters" / "two.ipynb", "import time; time.sleep(600)")
    command = [sys.executable, ROOT / "book" / "build.py", "--root", small_book, "--execute-only"]
    build = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    finished = small_book / "_build" / ".jupyter_cache" / "executed"
    deadline = time.monotonic() + 120
    while not list(finished.glob("*/base.ipynb")):
        assert build.poll() is None and time.monotonic() < deadline, "the first notebook never finished"
        time.sleep(0.2)
    time.sleep(0.5)
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    _notebook(small_book / "chapters" / "two.ipynb", "1 / 1")
    assert _execute(small_book) == ["two"]


def _test_notebooks(root):
    """Exit code of nbval on a small book, with the plugin that keeps what passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "keep_results"]
    command += ["--nbval-lax", "--rootdir", str(root), "chapters"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book")}
    return subprocess.run(command, cwd=root, env=environment, timeout=200, check=False).returncode


def test_what_nbval_executed_is_what_the_book_shows(small_book):
    _notebook(
        small_book / "chapters" / "one.ipynb",
        "print('a')\nprint('b')\n1 + 1",
        "2 + 2;",
        "from IPython.display import display\ndisplay({'text/plain': 'c'}, raw=True, metadata={'d': 1})",
    )
    assert _test_notebooks(small_book) == 0
    cache = execute.get_cache(small_book / "_build" / ".jupyter_cache")

    def shown():
        found = cache.match_cache_notebook(nbformat.read(small_book / "chapters" / "one.ipynb", 4))
        return [
            cell.outputs for cell in cache.get_cache_bundle(found.pk).nb.cells if cell.cell_type == "code"
        ]

    kept = shown()
    assert _execute(small_book) == []
    for record in cache.list_cache_records():
        cache.remove_cache(record.pk)
    assert _execute(small_book) == ["one", "two"]
    assert kept == shown()


def test_a_notebook_that_failed_under_nbval_is_not_kept(small_book):
    _notebook(small_book / "chapters" / "one.ipynb", "1", "assert False")
    assert _test_notebooks(small_book) == 1
    _notebook(small_book / "chapters" / "one.ipynb", "1", "2")
    assert _execute(small_book) == ["one"]
