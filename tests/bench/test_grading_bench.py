"""The comparison of graders: what is counted, who the students are, and that a lost grade would be seen."""

import sys

import pytest

from bench.grading import cost, counted, kills, tools, work
from dca_lab.grading.batch import grade_folder

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


def test_a_tool_that_fails_is_a_row(monkeypatch):
    def broken(lab, folder, students):
        raise ModuleNotFoundError("no otter here")

    def measured(lab, folder, students):
        figures = {"cpu_seconds": 3.0, "seconds": 2.0, "peak_bytes": 1 << 30}
        return {**figures, "totals": {work.student(number): 6.0 for number in range(students)}}

    chosen = {cost.OTTER: (broken, 4, 1), cost.NBGRADER: (measured, 12, 1), cost.OURS: (measured, 300, 3)}
    monkeypatch.setattr(cost, "TOOLS", chosen)
    rows = cost.run(seeds=1, quick=True, tick=lambda text: None)
    assert [row.get("error") for row in rows] == ["ModuleNotFoundError: no otter here", None, None]
    assert [(row["agree"], row["compared"]) for row in rows] == [(0, 1), (1, 1), (3, 3)]
    by_goal = {goal.what: goal for goal in cost.goals(rows)}
    assert by_goal[f"CPU a submission over {cost.NBGRADER}"].measured == pytest.approx(1 / 3)
    assert by_goal[f"CPU a submission over {cost.OTTER}"].verdict == "not measured"
    assert "no otter here" in cost.report(rows)


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
