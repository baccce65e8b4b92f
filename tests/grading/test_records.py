"""Records on disk: whole or not there, found again by what they depend on, and the rules of a run."""

import os

import pytest
from filelock import FileLock

from dca_lab.grading.records import Records, RunError, key_of, opened

RECORD = {
    "student": "ann",
    "digest": "abc",
    "lab_digest": "def",
    "constants": {"bits": 4, "shape": [2, 3]},
    "level": "landlock",
    "exercises": {"double": {"points": 0.1}},
    "outcome": "graded",
}


def test_a_record_comes_back_as_it_was(tmp_path):
    records = Records(tmp_path / "new" / "records")
    odd = RECORD | {"student": "bob", "notes": ["\ud800 深度 \n"], "constants": {"shape": (2, 3), "bits": 4}}
    records.add(RECORD)
    records.add(odd)
    assert records.get(key_of(RECORD)) == RECORD
    assert records.get(key_of(odd))["notes"] == odd["notes"]
    assert len(records.all()) == 2
    records.add(RECORD | {"outcome": "other"})
    assert len(records.all()) == 2 and records.get(key_of(RECORD))["outcome"] == "other"


@pytest.mark.parametrize("part", ["student", "digest", "lab_digest", "constants", "level"])
def test_another_submission_lab_variant_or_level_is_another_record(tmp_path, part):
    records = Records(tmp_path)
    records.add(RECORD)
    assert records.get(key_of(RECORD | {part: "other"})) is None


def test_torn_and_foreign_files_are_left_aside_with_a_warning(tmp_path):
    records = Records(tmp_path)
    records.add(RECORD)
    key = key_of(RECORD)
    whole = (tmp_path / f"{key}.json").read_text(encoding="utf-8")
    other = RECORD | {"student": "bob"}
    for name, text in {
        key_of(other): whole,  # a copy under another name
        "torn": whole[: len(whole) // 2],
        "empty": "",
        "list": "[]",
        "deep": "[" * 100_000,
    }.items():
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    with pytest.warns(UserWarning, match="left aside"):
        assert records.get(key_of(other)) is None
    with pytest.warns(UserWarning):
        assert records.all() == {key: RECORD}


def test_a_run_begins_ends_and_is_brought_up_to_date_with_its_seed(tmp_path):
    with opened(tmp_path / "out", "tiny", resume=False) as run:
        run.begin("digest")
        seed = run.seed
        run.finish()
    with opened(tmp_path / "out", "tiny", resume=False) as run:
        assert run.seed == seed and len(seed) == 32
    with opened(tmp_path / "other", "tiny", resume=True) as run:
        assert run.seed != seed
    assert os.name == "nt" or (tmp_path / "out" / "run.json").stat().st_mode & 0o077 == 0


def test_an_unfinished_run_needs_resume(tmp_path):
    with opened(tmp_path, "tiny", resume=False) as run:
        run.begin("digest")
        run.records.add(RECORD)
        seed = run.seed
        left = tmp_path / "records" / ".a.json.99.tmp"
        left.write_text("torn", encoding="utf-8")
    with (
        pytest.raises(RunError, match=r"not finished; 1 submissions.*--resume"),
        opened(tmp_path, "tiny", resume=False),
    ):
        pass
    with opened(tmp_path, "tiny", resume=True) as run:
        assert run.seed == seed and not left.exists()


def test_what_a_folder_must_not_be(tmp_path):
    def refused(out, words, lab="tiny"):
        with pytest.raises(RunError, match=words), opened(out, lab, resume=True):
            pass

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    refused(tmp_path / "mine", "not empty and holds no run")
    refused(tmp_path / "mine" / "thesis.tex", "cannot be made")
    with opened(tmp_path / "out", "tiny", resume=False) as run:
        run.begin("digest")
        refused(tmp_path / "out", "another `dca grade` is at work")
    refused(tmp_path / "out", "grades of the lab tiny", lab="other")
    (tmp_path / "out" / "run.json").write_text('{"lab": "tiny"', encoding="utf-8")
    refused(tmp_path / "out", "damaged")


def test_the_lock_is_let_go_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), opened(tmp_path, "tiny", resume=False):
        raise ZeroDivisionError
    with FileLock(tmp_path / ".lock").acquire(timeout=0):
        pass
