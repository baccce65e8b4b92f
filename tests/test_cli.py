"""The `dca` command through click's runner, its figures against the functions that they come from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dca_lab import __version__, data, measure, models
from dca_lab.cli import main
from dca_lab.measure import Machine

HERE = Machine("cpu", "torch", peak_flops=1e11, bandwidth=1e10, levels=((1 << 30, 1e10),), int8_ops=None)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(measure, "machine", lambda **options: HERE)  # the measurement has its own tests
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys, dca_lab.cli as c; c.main(['-h'], standalone_mode=False); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(command in done.stdout for command in ("info", "data", "measure"))


def test_version(run):
    assert __version__ in run("--version").output


def test_info_prints_versions_machine_and_roofline(run):
    done = run("info")
    assert done.exit_code == 0
    assert __version__ in done.output and measure.cpu_name() in done.output
    assert (
        "100.0 GFLOP/s" in done.output and "10.0 GB/s" in done.output and "10.0 FLOP per byte" in done.output
    )
    assert "not available" in done.output


def test_info_passes_refresh_on(run, monkeypatch):
    asked = []
    monkeypatch.setattr(measure, "machine", lambda *, refresh: asked.append(refresh) or HERE)
    run("info")
    run("info", "--refresh")
    assert asked == [False, True]


def test_data_lists_every_set_with_bytes_and_licence(run):
    done = run("data")
    assert done.exit_code == 0
    for name in data.names():
        assert f"\n{name}" in done.output
    total = sum(record.bytes for record in data.verify())
    assert f"{total:,} bytes" in done.output
    assert data.load("cells").licence in done.output


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the data folder, to be damaged."""
    folder = tmp_path / "data"
    shutil.copytree(Path(__file__).parents[1] / "data", folder)
    monkeypatch.setenv("DCA_DATA", str(folder))
    return folder


def test_a_missing_and_an_altered_file_are_named_with_advice(run, copied, monkeypatch):
    monkeypatch.setattr(data, "names", lambda: ("cells", "tones", "translation"))  # the others only take time
    (copied / "medical/cells.csv.gz").unlink()
    tones = copied / "speech/mandarin_tones.csv"
    content = bytearray(tones.read_bytes())
    content[100] ^= 1
    tones.write_bytes(content)
    done = run("data")
    assert done.exit_code == 1
    assert "medical/cells.csv.gz is missing" in done.output
    assert "speech/mandarin_tones.csv is altered" in done.output
    assert "git checkout -- data" in done.output
    rows = {line.split()[0]: line for line in done.output.splitlines() if line.strip()}
    assert "missing" in rows["cells"] and "altered" in rows["tones"]
    assert " ok " in rows["translation"]


def test_no_data_at_all_is_one_clear_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DCA_DATA", str(tmp_path / "nowhere"))
    done = run("data")
    assert done.exit_code == 1
    assert done.output.startswith("Error: ") and "nowhere" in done.output
    assert "Traceback" not in done.output


def test_measure_as_json_agrees_with_the_functions(run):
    done = run("measure", "lenet-5", "--batch", "2", "--repeats", "3", "--json")
    assert done.exit_code == 0
    found = json.loads(done.output)
    model, x = models.build("lenet-5", seed=0), models.example_input("lenet-5", 2)
    assert found["parameters"] == 431_080  # LeCun et al. 1998, Caffe variant
    assert found["macs"] == measure.count_macs(model, x)
    assert found["bytes"] == measure.size_on_disk(model)
    assert found["memory"] == measure.peak_memory(model, x)
    assert found["bound"] == pytest.approx(measure.bound(model, x, HERE))
    assert found["share_of_bound"] == pytest.approx(found["bound"] / found["latency"])
    assert found["latency"] > 0 and found["latency_spread"] >= 0


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_is_measured(run, name):
    done = run("measure", name, "--repeats", "1")
    assert done.exit_code == 0, done.output
    count = measure.count_parameters(models.build(name))
    assert f"{count:,}" in done.output and "share of the bound" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["measure", "lenet-6"], "choose one of lenet-300-100"),
        (["measure"], "Missing argument"),
        (["measure", "lenet-5", "--batch", "0"], "0 is not in the range"),
        (["measure", "lenet-5", "--batch", "many"], "not a valid integer"),
        (["measure", "lenet-5", "--repeats", "-1"], "-1 is not in the range"),
        (["measure", "lenet-5", "--batch", "1000000000000"], "does not run here"),
        (["weigh"], "No such command"),
    ],
)
def test_bad_input_ends_with_code_2_and_no_traceback(run, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
