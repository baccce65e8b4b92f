"""The shared file under several writers, a killed writer and a full disk; claims; the table."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.ledger import ClaimError, Table, claim, entries, ledger_path, record, store, table
from dca_lab.ledger.values import measure, name_of, plain


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "ledger.jsonl"
    monkeypatch.setenv("DCA_LEDGER", str(path))
    return path


def test_a_record_is_one_json_line_and_comes_back(ledger):
    assert entries() == []
    assert not ledger.parent.exists()  # reading makes nothing
    written = record(
        workload="w", technique="t", accuracy=0.5, bytes=10, seed=3, sparsity=0.9, measured={"loss": 1.5}
    )
    lines = ledger.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 and json.loads(lines[0]).items() <= written.items()
    assert (written["sparsity"], written["loss"]) == (0.9, 1.5)
    assert entries() == [written]
    assert written["configuration"] == {"sparsity": 0.9} and written["measured"] == {"loss": 1.5}
    assert torch.__version__ in (written["versions"]["torch"], written["versions"]["torch"] + "+cpu")
    assert written["versions"]["numpy"] == np.__version__
    assert written["cpu"] and written["time"].endswith("+00:00")


def test_a_second_run_replaces_and_does_not_double():
    for accuracy in (0.1, 0.2):
        record(
            workload="w", technique="t", seed=0, accuracy=accuracy, sparsity=0.5, note={"a": 1, "b": [1, 2]}
        )
    record(workload="w", technique="t", seed=1, accuracy=0.3, sparsity=0.5, note={"b": [1, 2], "a": 1})
    record(workload="w", technique="t", seed=0, accuracy=0.4, sparsity=0.7)
    assert [row["accuracy"] for row in entries()] == [0.2, 0.3, 0.4]


def test_filters():
    for technique in ("a", "b", "c"):
        for seed in (0, 1):
            record(workload="w " + technique, technique=technique, seed=seed, ratio=0.5 if seed else 0.25)
    assert {row["technique"] for row in entries(technique=["a", "c"])} == {"a", "c"}
    assert len(entries(workload="w b")) == 2
    assert [row["seed"] for row in entries(technique="a", ratio=0.5)] == [1]
    assert entries(seed=7) == entries(technique="d") == entries(unknown=1) == []


def test_numpy_and_torch_scalars_are_numbers():
    row = record(
        workload="w",
        technique="t",
        accuracy=np.float32(0.5),
        bytes=torch.tensor(12),
        macs=np.int64(7),
        parameters=3.0,
        latency=torch.tensor(0.25),
        seed=np.int32(2),
        keep=np.bool_(True),
    )
    assert (row["accuracy"], row["bytes"], row["macs"], row["parameters"]) == (0.5, 12, 7, 3)
    assert (row["latency"], row["seed"], row["configuration"]) == (0.25, 2, {"keep": True})
    assert entries() == [row]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accuracy": 97.0}, "not a percentage"),
        ({"accuracy": -0.1}, "between 0 and 1"),
        ({"accuracy": math.nan}, "not finite"),
        ({"accuracy": True}, "give a number"),
        ({"accuracy": "0.9"}, "give a number"),
        ({"accuracy": np.array([0.9])}, "ndarray"),
        ({"bytes": -1}, "negative"),
        ({"macs": 1.5}, "whole number"),
        ({"latency": math.inf}, "not finite"),
        ({"latency": -0.1}, "negative"),
        ({"memory": torch.tensor(float("nan"))}, "not finite"),
        ({"seed": 0.5}, "seed"),
        ({"workload": ""}, "workload"),
        ({"technique": None}, "technique"),
        ({"sparsity": math.nan}, "sparsity"),
        ({"model": object()}, "object"),
        ({"measured": {"loss": [1.0, math.inf]}}, "loss"),
        ({"time": 3}, "written by record"),
        ({"loss": 1.0, "measured": {"loss": 2.0}}, "used twice"),
        ({"measured": {"accuracy": 2.0}}, "written by record"),
    ],
)
def test_values_out_of_range_are_refused_and_nothing_is_written(ledger, values, message):
    with pytest.raises(ValueError, match=message):
        record(**{"workload": "w", "technique": "t", **values})
    assert not ledger.exists()


def test_a_torn_last_line_is_skipped_said_and_does_not_spoil_the_next(ledger):
    first = record(workload="w", technique="first")
    with ledger.open("ab") as stream:
        stream.write(b'{"workload": "w", "technique": "torn", "accur')
    with pytest.warns(UserWarning, match="line 2 is torn"):
        assert entries() == [first]
    second = record(workload="w", technique="second")
    with pytest.warns(UserWarning, match="line 2 is torn"):
        assert entries() == [first, second]


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_wherever_the_file_is_cut_the_whole_lines_survive(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "ledger.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCA_LEDGER", str(path))
        rows = [record(workload="w", technique=f"é {i}") for i in range(3)]
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        after = record(workload="w", technique="after")
        with pytest.MonkeyPatch.context() as quiet:
            quiet.setattr(store.__name__.replace("store", "reader") + ".warnings.warn", lambda *a, **k: None)
            found = entries()
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n"))
    whole = int((ends <= cut).sum())  # a line whose newline alone is missing is whole too
    assert found == [*rows[:whole], after]


def test_a_full_disk_leaves_the_file_as_it_was(ledger, monkeypatch):
    first = record(workload="w", technique="t")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        record(workload="w", technique="lost")
    monkeypatch.undo()
    monkeypatch.setenv("DCA_LEDGER", str(ledger))
    assert entries() == [first]
    assert ledger.read_bytes().count(b"\n") == 1


WRITER = """
import sys
from dca_lab.ledger import record
name, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
i = 0
while i < count:
    record(workload="shared", technique=name, seed=i, accuracy=0.5, text="x" * 200)
    i += 1
    print(i, flush=True)
"""


def start(name, count):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_parallel_writers_lose_nothing_and_a_killed_one_only_its_last_line(ledger):
    writers = [start(f"writer {i}", 100) for i in range(2)]
    victim = start("victim", 1_000_000)
    try:
        for process in (*writers, victim):
            process.stdin.write("\n")
            process.stdin.flush()
        done = 0
        while done < 15:
            done = int(victim.stdout.readline())
        victim.send_signal(signal.SIGKILL)
        rest = victim.stdout.read().split()
        done = int(rest[-1]) if rest else done
        victim.wait()
        for process in writers:
            process.communicate(timeout=120)
            assert process.returncode == 0
    finally:
        for process in (*writers, victim):
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
    record(workload="shared", technique="after")
    lines = [line for line in ledger.read_bytes().split(b"\n") if line]
    torn = 0
    for line in lines:
        try:
            json.loads(line)
        except ValueError:
            torn += 1
    assert torn <= 1
    with pytest.MonkeyPatch.context() as quiet:
        quiet.setattr("dca_lab.ledger.reader.warnings.warn", lambda *a, **k: None)
        for i in range(2):
            assert [row["seed"] for row in entries(technique=f"writer {i}")] == list(range(100))
        # what it announced was on the disk; one more may have been written and not announced
        assert done <= len(entries(technique="victim")) <= done + 1
        assert len(entries(technique="after")) == 1


def test_a_reader_waits_for_the_lock_and_a_stuck_lock_is_an_error(ledger, monkeypatch):
    record(workload="w", technique="t")
    monkeypatch.setattr(store, "_PATIENCE", 0.1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"{ledger}.lock"],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match="locked by another process"):
            record(workload="w", technique="t2")
        with pytest.raises(TimeoutError):
            entries()
        assert time.monotonic() - begin < 30
    finally:
        holder.communicate("\n")
    assert len(entries()) == 1


HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_the_file_is_in_the_build_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("DCA_LEDGER")
    monkeypatch.setenv("DCA_BUILD", str(tmp_path))
    assert ledger_path() == tmp_path / "ledger.jsonl"


@pytest.mark.parametrize("true", [True, np.bool_(True), torch.tensor(True), np.array(True)])
def test_a_claim_that_holds_is_printed(capsys, true):
    claim("water is wet", true)
    assert capsys.readouterr().out == "holds: water is wet\n"


@pytest.mark.parametrize("false", [False, np.bool_(False), torch.tensor(False), float("nan") <= 1, 1 > 2])
def test_a_claim_that_does_not_hold_raises_its_text(capsys, false):
    with pytest.raises(ClaimError, match="water is dry"):
        claim("water is dry", false)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "neither",
    [1, 0, 0.5, math.nan, None, "yes", [], [True], np.array([True]), np.array([]), torch.tensor([True]),
     torch.tensor(1.0), np.float64(1), np.array([True, True]), (True,)],
)  # fmt: skip
def test_a_condition_that_is_neither_true_nor_false_is_refused(capsys, neither):
    with pytest.raises(ValueError, match="condition is"):
        claim("something", neither)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["", "  ", None, True])
def test_a_claim_needs_words(text):
    with pytest.raises(ValueError, match="what is claimed"):
        claim(text, True)


def test_table_gives_mean_and_sample_deviation_over_seeds():
    shares = [0.971, 0.975, 0.982]
    for seed, share in enumerate(shares):
        record(workload="lenet", technique="pruned", seed=seed, accuracy=share, bytes=1234567, sparsity=0.9)
    record(workload="lenet", technique="dense", accuracy=0.99, bytes=1234567, latency=0.00125)
    shown = table()
    assert shown.headings == (
        "technique",
        "sparsity",
        "accuracy (%)",
        "file (bytes)",
        "latency (ms)",
        "seeds",
    )
    mean, spread = 100 * statistics.mean(shares), 100 * statistics.stdev(shares)
    assert shown.rows[0] == ("pruned", "0.9", f"{mean:.2f} ± {spread:.2f}", "1,234,567", "", "3")
    assert shown.rows[1] == ("dense", "", "99.00", "1,234,567", "1.250", "1")
    text = str(shown)
    assert "1,234,567" in text and "lenet" in text.splitlines()[0]


def test_columns_and_filters_of_a_table():
    record(workload="w1", technique="a", macs=5, depth=3, measured={"loss": 0.25})
    record(workload="w2", technique="b", macs=7)
    assert table().headings == ("workload", "technique", "depth", "MACs", "loss")
    chosen = table(workload="w1", columns=["technique", "loss", "depth"], caption="Chosen")
    assert (chosen.caption, chosen.rows) == ("Chosen", (("a", "0.25", "3"),))
    with pytest.raises(ValueError, match="colour"):
        table(columns=["colour"])
    assert len(table(technique="none")) == 0
    assert "nothing recorded" in str(table(technique="none"))


class Cells(HTMLParser):
    """Checks that tags nest and collects what a reader needs."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.scopes, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.seen.append(tag)
        if tag == "th":
            self.scopes.append(dict(attributes).get("scope"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_table_of_text_is_aligned():
    lines = str(Table("sizes", ("name", "bytes"), (("a", "1"), ("longer", "1,000")))).splitlines()
    assert lines[0] == "sizes"
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[3].startswith("a ") and lines[3].endswith("  1")


@settings(deadline=None, max_examples=50)
@given(value=st.one_of(st.integers(0, 2**60), st.floats(0, 1e300), st.text(min_size=1)))
def test_values_come_back_as_they_were_or_are_refused(value):
    assert json.loads(json.dumps(plain("v", value))) == value
    if isinstance(value, str):
        with pytest.raises(ValueError):
            measure("macs", value)
        if value.strip():
            assert name_of("workload", value) == value
    elif value == int(value):
        assert measure("macs", value) == value and isinstance(measure("macs", value), int)
    else:
        with pytest.raises(ValueError, match="whole number"):
            measure("macs", value)


def test_html_has_a_caption_scoped_headers_and_escaped_text():
    record(workload="w", technique="<script>x</script>", accuracy=0.5, kind="a & b")
    parser = Cells()
    parser.feed(table(caption="5 < 6")._repr_html_())
    assert parser.open == []
    assert parser.seen[:2] == ["table", "caption"]
    assert parser.scopes == ["col", "col", "col", "row"]
    assert "script" not in parser.seen
    assert {"5 < 6", "<script>x</script>", "a & b", "50.00"} <= set(parser.text)
    empty = Cells()
    empty.feed(table(technique="none")._repr_html_())
    assert empty.open == [] and "nothing recorded yet" in empty.text
