"""The student's copy: complete, runnable, the same every time, and without a word of the solutions."""

import json
import struct
from pathlib import Path

import nbformat
import pytest

from dca_lab.grading import LabError, checks_file, load_lab, source
from dca_lab.grading.release import leaks, release, student_notebook
from dca_lab.grading.selftest import _student_copy
from dca_lab.grading.targets import target_pictures
from dca_lab.grading.values import decode

TINY = load_lab(Path(__file__).parent / "tiny_lab")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pictures(cache):
    return target_pictures(TINY, cache=cache)


@pytest.fixture(scope="module")
def copy(pictures, cache, tmp_path_factory):
    """A release with pictures: the cache is where the fixture has drawn them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dca_lab.grading.targets.build_folder", lambda: cache.parent / "build")
        (cache.parent / "build").mkdir()
        (cache.parent / "build" / "labs").symlink_to(cache)
        return release(TINY, tmp_path_factory.mktemp("release") / "new folder")


def long_lines(text):
    return {"".join(line.split()) for line in text.splitlines() if len("".join(line.split())) > 12}


def test_three_files(copy):
    assert sorted(path.name for path in copy.parent.iterdir()) == [
        "measure.py",
        "tiny_lab.checks",
        "tiny_lab.ipynb",
    ]
    nbformat.validate(nbformat.read(copy, as_version=4))
    assert (copy.parent / "measure.py").read_bytes() == (TINY.folder / "measure.py").read_bytes()


def test_no_line_of_a_solution_is_handed_out(copy):
    secret = set().union(*(long_lines(line) for line in source.solution_lines(TINY)))
    assert "threshold=w.abs().quantile(0.7)" in secret
    for path in copy.parent.iterdir():
        text = "".join(path.read_bytes().decode("utf-8", "replace").split())
        assert not [line for line in secret if line in text or json.dumps(line)[1:-1] in text]


def test_no_text_of_known_answers_is_handed_out(copy):
    texts = []

    def collect(value):
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            collect(list(value.keys()) + list(value.values()))
        elif isinstance(value, (list, tuple)):
            for one in value:
                collect(one)

    collect(decode((copy.parent / "tiny_lab.checks").read_bytes()))
    assert "You squared: x * 2 is not x ** 2." in texts  # messages are for students
    assert not any("def " in text or "return torch" in text for text in texts)


def test_cells_without_outputs_with_new_ids_and_a_picture(copy):
    notebook = nbformat.read(copy, as_version=4)
    assert all(
        not cell.outputs and cell.execution_count is None for cell in notebook.cells if "outputs" in cell
    )
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {cell["id"] for cell in source.read_notebook(TINY.folder)["cells"]}
    assert notebook.metadata["dca_lab"] == {
        "lab": "tiny_lab",
        "variant": {"constants": {"width": 4}, "student": None},
    }
    (index,) = [index for index, cell in enumerate(notebook.cells) if "attachments" in cell]
    assert (
        "![The rectifier: zero up to zero, then the diagonal.](attachment:target.png)"
        in notebook.cells[index].source
    )
    assert "target" in notebook.cells[index + 1].metadata.tags


def test_the_target_is_a_picture_and_is_drawn_once(pictures, cache, monkeypatch):
    (png,) = pictures.values()
    assert png.startswith(b"\x89PNG") and min(struct.unpack(">II", png[16:24])) > 100
    monkeypatch.setattr("dca_lab.grading.targets._draw", None)  # another drawing would fail
    assert target_pictures(TINY, cache=cache) == pictures
    with pytest.raises(TypeError):
        target_pictures(TINY, {"width": 6}, cache=cache)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("plt.plot(example, relu(example))", "pass", "draws no picture"),
        ("import matplotlib.pyplot as plt", "raise OSError('no display')", "stops"),
    ],
)
def test_a_target_that_cannot_be_drawn_is_explained(tmp_path, old, new, said):
    lab = changed(tmp_path, old, new)
    with pytest.raises(LabError, match=said):
        target_pictures(lab, cache=tmp_path / "cache")


def changed(tmp_path, old, new):
    """The tiny lab with other text in its notebook."""
    folder = tmp_path / "tiny_lab"
    folder.mkdir()
    for path in TINY.folder.glob("*.*"):
        text = path.read_text(encoding="utf-8")
        if path.name == "lab.ipynb":
            assert old in text
            text = text.replace(old, new)
        (folder / path.name).write_text(text, encoding="utf-8")
    return load_lab(folder)


def test_a_solution_that_also_stands_elsewhere_is_refused(tmp_path):
    lab = changed(tmp_path, "Return $2x$.", "Return $2x$: `threshold =  w.abs().quantile(0.7)`.")
    with pytest.raises(LabError, match="write one of the two differently"):
        student_notebook(lab, targets=False)
    assert leaks(lab, "doubled = x * 2") == []  # short lines may be anywhere by chance
    assert leaks(lab, 'raise ValueError(\\"x holds a value that is not a number\\")') != []


def test_a_line_of_code_that_the_author_shows_is_the_authors_own(tmp_path):
    line = "    threshold = w.abs().quantile(0.7)"
    lab = changed(tmp_path, "WIDTH = 4", json.dumps(f"def shown(w):\n{line}\n")[1:-1] + "WIDTH = 4")
    assert line.strip() in student_notebook(lab, targets=False).cells[2].source
    (note,) = [finding for finding in _student_copy(lab) if finding.status != "ok"]
    assert (note.status, line.strip() in note.text) == ("note", True)


def test_a_release_twice_is_the_same_and_a_variant_is_another(tmp_path):
    one = release(TINY, tmp_path / "one", targets=False)
    same = release(TINY, tmp_path / "same", targets=False)
    again = release(TINY, tmp_path / "one", targets=False)
    assert one.read_bytes() == same.read_bytes() == again.read_bytes()
    mine = release(TINY, tmp_path / "mine", constants={"width": 6}, student="ana", targets=False)
    notebook = nbformat.read(mine, as_version=4)
    assert notebook.metadata["dca_lab"]["variant"] == {"constants": {"width": 6}, "student": "ana"}
    assert any("WIDTH = 6\n" in cell.source for cell in notebook.cells)
    recorded = checks_file.read(mine.parent / "tiny_lab.checks")
    assert recorded["double"].cases[0].args[0].shape == (6,)


def test_the_source_is_not_overwritten():
    with pytest.raises(ValueError, match="another folder"):
        release(TINY, TINY.folder)
    with pytest.raises(ValueError, match="choose one of plain"):
        release(TINY, TINY.folder / "out", format="unknown")
    assert not (TINY.folder / "out").exists()
