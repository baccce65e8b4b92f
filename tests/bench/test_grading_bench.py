"""The comparison of graders: what is counted, who the students are, and that a lost or unearned grade would be seen."""

import contextlib
import dataclasses
import sys

import pytest

from bench.grading import cost, counted, kills, safety, tools, work
from dca_lab.grading.batch import grade_folder
from dca_lab.grading.sandbox import available_levels

LAB = work.tiny_lab()
# a child that is nobody's child any more when it computes: its parent has ended
ORPHAN = """
import os, time
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        while time.process_time() < 0.5:
            pass
        os.write(write, b".")
    os._exit(0)
os.wait()
os.read(read, 1)
"""


def test_the_cpu_time_of_orphans_is_counted(tmp_path):
    found = counted.counted([sys.executable, "-c", ORPHAN], tmp_path)
    assert found["cpu_seconds"] >= 0.5 and found["returncode"] == 0


def test_memory_is_the_sum_over_processes(tmp_path):
    hold = "import os, time; pid = os.fork(); held = bytes(range(1, 101)) * 2**20; time.sleep(3); pid and os.wait()"
    peak = counted.counted([sys.executable, "-c", hold], tmp_path)["peak_bytes"]
    assert 2 * 100 << 20 < peak < 4 * 100 << 20


def test_a_command_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no such thing"):
        counted.counted([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)


def test_the_students_differ_and_stay_the_same():
    class_ = [work.answers(LAB, number) for number in range(20)]
    assert class_ == [work.answers(LAB, number) for number in range(20)]
    assert len({str(one) for one in class_}) > 10
    assert all(one.keys() == {exercise.name for exercise in LAB.exercises} for one in class_)


def test_dca_grade_is_measured_on_their_work(tmp_path):
    found = tools.dca_grade(LAB, tmp_path, 3)
    again = grade_folder(LAB, tmp_path / "class", tmp_path / "again", workers=1, progress=False)
    assert found["totals"] == {record["student"]: pytest.approx(record["score"]) for record in again.records}
    assert found["totals"].keys() == {"s000", "s001", "s002"}
    assert found["cpu_seconds"] > 0 and found["peak_bytes"] > 100 << 20


def stand_in(each, start):
    """A tool that costs so many CPU seconds a submission, and so many to start."""

    def measure(lab, folder, students):
        figures = {"cpu_seconds": start + each * students, "seconds": 2.0, "peak_bytes": 1 << 30}
        return {**figures, "totals": {work.student(number): 6.0 for number in range(students)}}

    return measure


def broken(lab, folder, students):
    raise ModuleNotFoundError("no otter here")


def test_a_tool_that_fails_is_a_row_and_no_start_is_counted(monkeypatch):
    chosen = {
        cost.OTTER: (broken, 1, 3),
        cost.NBGRADER: (stand_in(3.0, 100.0), 2, 8),
        cost.OURS: (stand_in(1.0, 5.0), 12, 72),
    }
    monkeypatch.setattr(cost, "TOOLS", chosen)
    monkeypatch.setattr(cost, "dca_grade", stand_in(1.0, 5.0))
    ticks = []
    rows = cost.run(seeds=3, quick=False, tick=ticks.append)
    assert [row.get("error") for row in rows] == ["ModuleNotFoundError: no otter here", None, None, None]
    assert len(ticks) == cost.steps(seeds=3, quick=False) - 2  # otter failed at its first repeat
    assert [(row["agree"], row["compared"]) for row in rows] == [(0, 3), (8, 8), (72, 72), (300, 300)]
    assert rows[1]["each"] == pytest.approx([3.0] * 3) and rows[1]["start"] == pytest.approx([100.0] * 3)
    by_goal = {goal.what: goal for goal in cost.goals(rows)}
    assert by_goal[f"CPU a submission over {cost.NBGRADER}"].measured == pytest.approx(1 / 3)
    assert by_goal[f"CPU a submission over {cost.OTTER}"].verdict == "not measured"
    text = cost.report(rows)
    assert "no otter here" in text and "100.0 (100.0 to 100.0)" in text


def test_an_attack_that_gains_a_point_is_seen(monkeypatch):
    """Attacks that are nothing but the right answer: each must be counted."""
    level = next((name for name, reason in available_levels().items() if not reason), None)
    if level is None:
        pytest.skip(f"no sandbox: {available_levels()}")
    with safety._attacks() as (kinds, watching):
        pass
    assert sum(map(len, kinds.values())) > 100
    gains = [dataclasses.replace(kinds["lying"][0], name="gains", cells=sys.modules["attacks"].HONEST)]
    monkeypatch.setattr(safety, "_attacks", lambda: contextlib.nullcontext(({"lying": gains}, watching)))
    row = {"level": level, **safety.attacked(level)}
    assert row["attacks"] == 1 and row["unearned"] == 1 and row["gained"] == ["gains"]
    assert safety.goals([row])[0].verdict == "NOT MET" and "gains" in safety.report([row])


def test_a_wrong_answer_that_passes_and_a_right_one_that_fails_are_seen():
    """The tiny lab with its known answers the wrong way round."""
    if all(available_levels().values()):
        pytest.skip(f"no sandbox: {available_levels()}")
    few = [next(one for one in known if one.exercise == "relu") for known in (LAB.wrong, LAB.right)]
    lab = dataclasses.replace(LAB, wrong=(few[1],), right=(few[0],))
    row = {"lab": "tiny", **safety.answered(lab, 1)}
    assert row["wrong"] - row["caught"] == 1 and row["punished"] == 1 and len(row["surprises"]) == 2
    assert [goal.verdict for goal in safety.goals([row])] == ["NOT MET", "NOT MET"]
    assert few[0].name in safety.report([row])


def test_a_lost_changed_or_doubled_grade_is_seen(tmp_path):
    def state(records, table):
        for path in tmp_path.glob("records/*"):
            path.unlink()
        (tmp_path / "records").mkdir(exist_ok=True)
        for name, text in records.items():
            (tmp_path / "records" / f"{name}.json").write_text(text, encoding="utf-8")
        lines = "".join(f"{student},{score}\n" for student, score in table)
        (tmp_path / "grades.csv").write_text(f"student,score\n{lines}", encoding="utf-8")

    wanted = {"ann": ["6"], "bob": ["3"]}
    before = {"a.json": b"1", "b.json": b"2"}
    for records, table, counts in (
        ({"a": "1", "b": "2"}, [("ann", 6), ("bob", 3)], (0, 0, 0)),
        ({"a": "1"}, [("ann", 6)], (2, 0, 0)),  # a record and a row
        ({"a": "1", "b": "x"}, [("ann", 6), ("bob", 4)], (0, 2, 0)),
        ({"a": "1", "b": "2", "c": "2"}, [("ann", 6), ("bob", 3), ("bob", 3)], (0, 0, 2)),
    ):
        state(records, table)
        row = dict.fromkeys(kills.COUNTS, 0)
        kills._compare(row, before, tmp_path)
        kills._finished(row, tmp_path, wanted)
        assert tuple(row.values()) == counts
    row |= {"students": 2, "runs": 1, "kills": 20, "on_disk_at_kills": [0, 1]}
    assert [goal.verdict for goal in kills.goals([row])] == ["met", "met", "NOT MET"]
    assert "0, 1" in kills.report([row])
