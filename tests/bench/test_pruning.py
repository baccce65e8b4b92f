"""Pruning side by side runs, has a row for everything, and its own instruments are right.

What is *not* asserted: who is better. The peer is an optional extra; what needs it is skipped without it.
"""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench import __main__ as command
from bench.common import OURS, installed
from bench.pruning import architectures, channel_pruning
from bench.pruning.libraries import LIBRARIES, PEER, Job
from bench.pruning.masking import difference

peer_needed = pytest.mark.skipif(not installed(PEER), reason="torch-pruning is not installed (extra: bench)")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "rows.json"
    names = ["architectures", "channel-pruning"]
    assert command.main([*names, "--quick", "--seeds", "1", "--out", str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_every_row_is_there(result):
    rows = result["rows"]["architectures"]
    expected = {(a, library) for a in architectures.ARCHITECTURES for library in LIBRARIES}
    assert {(row["architecture"], row["library"]) for row in rows} == expected
    rows = result["rows"]["channel-pruning"]
    variants = ("dense", *channel_pruning.VARIANTS)
    expected = {(case, variant, 0) for case in channel_pruning.QUICK for variant in variants}
    assert {(row["case"], row["variant"], row["seed"]) for row in rows} == expected
    assert {"command", "versions", "threads"} <= set(result)
    assert result["versions"]["torch"] == torch.__version__


def test_ours_handles_every_architecture(result):
    for row in result["rows"]["architectures"]:
        if row["library"] == OURS:
            assert row["error"] is None, row
            assert row["difference"] <= architectures.EXACT, row
            assert row["parameters"] < row["parameters_before"], row


@peer_needed
def test_both_libraries_ran_and_left_as_many_parameters(result):
    rows = result["rows"]["channel-pruning"]
    assert [row["error"] for row in rows] == [None] * len(rows)
    for case in channel_pruning.QUICK:
        small = [row for row in rows if row["case"] == case and row["variant"] != "dense"]
        assert len({(row["parameters"], row["macs"]) for row in small}) == 1
    assert {row["library"] for row in result["rows"]["architectures"] if not row["error"]} == {OURS, PEER}


def test_without_the_peer_its_rows_say_so(monkeypatch):
    def missing(model, example_input, job):
        raise ModuleNotFoundError("No module named 'torch_pruning'")

    monkeypatch.setitem(LIBRARIES, PEER, missing)
    chosen = {"shared module": architectures.ARCHITECTURES["shared module"]}
    monkeypatch.setattr(architectures, "ARCHITECTURES", chosen)
    rows = architectures.run(seeds=1, quick=True, tick=lambda text: None)
    assert [row["error"] for row in rows] == [None, "ModuleNotFoundError: No module named 'torch_pruning'"]
    assert "ModuleNotFoundError" in architectures.report(rows)


def test_the_check_sees_a_wrong_removal():
    """Control: the reader's inputs cut at the wrong channels give an error of the size of the output."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 5)
    kept, wrong = torch.arange(4), torch.arange(1, 5)

    def cut(columns):
        small = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
        with torch.no_grad():
            small[0].weight.copy_(net[0].weight[kept])
            small[0].bias.copy_(net[0].bias[kept])
            small[2].weight.copy_(net[2].weight[:, columns])
            small[2].bias.copy_(net[2].bias)
        return difference(small, net, x)

    assert cut(kept) <= architectures.EXACT
    assert cut(wrong) > 1e-2


@pytest.mark.parametrize("library", [OURS, pytest.param(PEER, marks=peer_needed)])
def test_a_library_leaves_the_original_alone(library):
    model, x = architectures.build("residual (ResNet18)")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    job = Job(keep=("fc",))
    for importance in ("default", "random"):
        assert LIBRARIES[library](model, x, replace(job, importance=importance))(x).shape == (2, 10)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
