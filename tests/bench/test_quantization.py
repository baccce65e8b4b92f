"""Quantization side by side runs, has a row for everything, and its own instruments are right.

What is *not* asserted: who is better, or a speed. The peers are an optional extra, and their rows say so without them.
"""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from bench import __main__ as command
from bench.common import OURS, failure, installed
from bench.quantization import affine, executed, hard_int8, int4, int4_quality, qat, static_int8
from bench.quantization.language_model import Trained, plant_salience
from bench.quantization.ours import INT8_OURS, ONEDNN, int8_machine
from bench.quantization.peers import INT8_PEERS, ORT, ORT_CHANNEL, TORCHAO, Executable, predict_in_batches
from dca_lab.measure import Machine, bound
from dca_lab.models import SmallCNN, TransformerLM
from dca_lab.quantization.onednn import available


def quick(name, folder):
    out = folder / "rows.json"
    assert command.main([name, "--quick", "--seeds", "1", "--out", str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))["rows"][name]


def test_affine_keeps_its_bound_and_the_formula(tmp_path, capsys):
    rows = quick("affine", tmp_path)
    assert len(rows) == len(affine.BITS) * 2 * 4
    assert all(goal.verdict == "met" for goal in affine.goals(rows))
    assert "NOT MET" not in capsys.readouterr().out


def test_the_adversary_finds_a_grid_that_breaks_the_bound(monkeypatch):
    """Control: a scale that is one part in a thousand too small cannot hide."""
    real = affine.affine_params

    def smaller(*args, **kwargs):
        scale, zero_point = real(*args, **kwargs)
        return scale * 0.999, zero_point

    monkeypatch.setattr(affine, "affine_params", smaller)
    rows = affine.run(seeds=1, quick=True, tick=lambda text: None)
    assert affine.goals(rows)[1].verdict == "NOT MET"


def test_static_int8_has_a_row_for_every_variant(tmp_path):
    rows = quick("static-int8", tmp_path)
    assert [row["variant"] for row in rows] == [executed.EAGER, *static_int8.VARIANTS]
    for row in rows:
        if row["variant"] != TORCHAO and (row["variant"] != ONEDNN or available()):
            assert row["error"] is None, row
        if row["variant"] in (*INT8_OURS, ORT, ORT_CHANNEL):
            assert 0 < row["relative_error"] < 0.2 and row["bytes"] > 0
            assert math.isclose(row["drop_points"], 100 * (rows[0]["accuracy"] - row["accuracy"]))
            assert row["over_eager_batch_64"] > 0
    if not installed("torchao"):
        assert rows[-1]["error"] == "ModuleNotFoundError: torchao is not installed"
        assert "torchao is not installed" in static_int8.report(rows)
        last = static_int8.goals(rows, "SmallCNN")[-1]
        assert TORCHAO in last.what and last.verdict == "not measured"


def test_hard_int8_compares_seed_by_seed(tmp_path):
    rows = quick("hard-int8", tmp_path)
    assert [row["variant"] for row in rows] == [executed.EAGER, *hard_int8.QUANTIZERS]
    assert all(row["error"] is None for row in rows)
    (ratio,) = hard_int8.error_ratios(rows, rows[0]["case"], OURS, ORT)
    found = {row["variant"]: row.get("relative_error") for row in rows}
    assert ratio == pytest.approx(found[OURS] / found[ORT])


def test_qat_has_a_row_for_every_method(tmp_path):
    rows = quick("qat", tmp_path)
    assert [(row["method"], row["bits"]) for row in rows] == [(qat.FLOAT, 32), *qat.METHODS]
    assert all(row["error"] is None and 0 <= row["accuracy"] <= 1 for row in rows)


def test_int4_has_all_its_parts(tmp_path):
    rows = quick("int4", tmp_path)
    assert {row["part"] for row in rows} == {"rtn", "layer", "perplexity", "planted", "bytes", "speed"}
    for row in rows:
        if row["part"] == "rtn":
            assert row["error"] is None or row["error"].endswith("is not installed"), row
        else:
            assert row["error"] is None, row
        if row["part"] == "bytes":
            assert row["read_back_equal"] and row["bytes"] < row["bytes_fp32"]
    assert {row["method"] for row in rows if row["part"] == "perplexity"} >= set(int4_quality.CONTROLS)


def test_the_executed_error_is_that_of_the_file():
    """A quantizer that doubles the logits has error 1 and keeps the accuracy; one that fails keeps its text."""
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.randn(70, 1, 2, 2)
    data = (x, None, x, model(x).argmax(1))

    def fails(*given):
        raise RuntimeError("no kernel\nmore")

    def doubles(model, calibration, folder):
        assert folder.is_dir() and len(calibration) == 70
        return Executable(lambda x: 2 * model(x), 7)

    with executed.executed(
        model, {"a": doubles, "b": fails}, data, base={"case": "c"}, tick=lambda text: None
    ) as (rows, runs):
        assert list(runs) == [executed.EAGER, "a"]
    assert rows[1]["relative_error"] == pytest.approx(1) and rows[1]["drop_points"] == 0
    assert rows[2]["error"] == failure(RuntimeError("no kernel"))
    assert "no kernel" in executed.quality_table(rows, "c")


def test_batches_of_one_size_give_every_output_once():
    sizes = []

    def run(x):
        sizes.append(len(x))
        return 3 * x

    x = torch.arange(130.0).view(130, 1)
    assert torch.equal(predict_in_batches(run, x), 3 * x)
    assert sizes == [64, 64, 64]


@pytest.mark.parametrize("name", [ORT, ORT_CHANNEL])
def test_the_peer_runs_the_network_that_it_was_given(name, tmp_path):
    torch.manual_seed(0)
    model, x = SmallCNN(channels=(4, 8)).eval(), torch.randn(32, 1, 28, 28)
    made = INT8_PEERS[name](model, x, tmp_path)
    wanted = model(x).detach()
    assert float((made.run(x) - wanted).norm() / wanted.norm()) < 0.1
    assert made.bytes == (tmp_path / "int8.onnx").stat().st_size


def test_an_int8_bound_counts_bytes_and_int8_operations():
    machine = Machine("a", "b", peak_flops=1e9, bandwidth=1e9, levels=((1 << 30, 1e9),), int8_ops=8e9)
    layer = nn.Linear(1000, 500, bias=False)
    assert bound(layer, torch.zeros(1, 1000), int8_machine(machine)) == pytest.approx(
        max(1e6 / 8e9, (1000 * 500 + 1000 + 500) / 1e9)
    )
    assert int8_machine(Machine("a", "b", 1e9, 1e9, ((1024, 1e9),))) is None


def test_gptq_and_rtn_errors_are_those_of_the_outputs():
    """The squared error through the Hessian is that of the layer's outputs."""
    torch.manual_seed(0)
    model = TransformerLM(vocabulary=11, width=64, heads=2, layers=1, context=8).eval()
    text = torch.randint(11, (140, 8))
    trained = Trained(model, text[:12], text[12:], text[12:])
    rows = int4_quality.layer_rows(trained, 3)
    row = next(r for r in rows if r["layer"] == "head" and r["method"] == int4_quality.RTN)
    with torch.no_grad():
        head, hidden = model.head, model.norm(model.blocks(model.token(text[:12]) + model.position[:8]))
        rounded = int4_quality.quantize_groupwise(head.weight, bits=3, group_size=64).dequantize()
        error = (hidden @ (head.weight - rounded).T).double().square().sum()
    assert row["squared_error_calibration"] == pytest.approx(float(error), rel=1e-4)


def test_planted_salience_changes_channels_and_no_logit():
    torch.manual_seed(0)
    model = TransformerLM(vocabulary=11, width=64, heads=2, layers=2, context=8).eval()
    text = torch.randint(11, (5, 8))
    planted = plant_salience(Trained(model, text, text, text), share=0.05).model
    assert torch.allclose(planted(text), model(text), rtol=1e-5, atol=1e-6)
    ratio = planted.norm.weight / model.norm.weight
    assert sorted(ratio.tolist()) == [1.0] * 61 + [16.0] * 3


def test_a_wrong_peer_is_seen(monkeypatch):
    """Control: a peer whose weights are one part in a hundred larger differs by more than the goal allows."""
    model = nn.Sequential(nn.Linear(128, 8))

    def other(weight, **options):
        same = int4_quality.quantize_groupwise(weight, scale_dtype=torch.float32, **options)
        return same.dequantize() * 1.01

    monkeypatch.setattr(int4_quality, "RTN_PEERS", dict.fromkeys(int4_quality.RTN_PEERS, other))
    monkeypatch.setattr(int4_quality, "require", lambda library: None)
    rows = int4_quality.rtn_rows(model)
    assert min(row["largest_difference"] for row in rows) > 1e-4


def test_error_ratio_sums_over_the_layers():
    pairs = [(4.0, 1.0), (6.0, 2.0)]
    rows = [
        {"part": "layer", "bits": 4, "error": None, "method": method, "e": value}
        for pair in pairs
        for method, value in zip((int4.RTN, int4.GPTQ), pair, strict=True)
    ]
    assert int4.error_ratio(rows, 4, int4.GPTQ, "e") == pytest.approx(np.sum([1, 2]) / np.sum([4, 6]))


def test_a_method_must_beat_the_best_seed_of_its_control():
    row = {"part": "perplexity", "bits": 3, "error": None}
    values = {int4.RTN: [5.0], int4.GPTQ: [4.0], int4.AWQ: [4.5], int4.AWQ_RANDOM: [4.4, 4.9]}
    values |= {int4.SALIENT: [4.6], int4.RANDOM: [4.8, 4.7]}
    rows = [{**row, "method": m, "perplexity": v} for m, found in values.items() for v in found]
    rows += [{**each, "part": int4.PLANTED} for each in rows]
    rows += [
        {"part": "layer", "bits": bits, "error": None, "method": method, "squared_error_test": 1.0}
        for bits in int4.BITS
        for method in (int4.RTN, int4.GPTQ, int4.GPTQ_ORDER)
    ]
    verdicts = {goal.what: goal.verdict for goal in int4.goals(rows) if goal.what.startswith("3 bits: ")}
    assert list(verdicts.values()) == ["met", "met", "NOT MET", "met"]


def test_a_method_that_failed_is_not_measured_and_not_zero():
    row = {"part": "perplexity", "bits": 3, "seed": 0, "error": None, "perplexity": 4.0}
    rows = [{**row, "method": m} for m in (int4.RTN, int4.SALIENT, int4.RANDOM)]
    rows += [{**row, "method": int4.GPTQ, "error": "ValueError: no"}]
    squared = {"squared_error_test": 1.0, "squared_error_calibration": 1.0}
    layer = {"part": "layer", "bits": 3, "error": None, **squared}
    rows += [{**layer, "method": int4.RTN}, {**layer, "method": int4.GPTQ, "error": "ValueError: no"}]
    assert int4.error_ratio(rows, 3, int4.GPTQ, "squared_error_test") is None
    assert int4.error_ratio(rows, 3, int4.RTN, "squared_error_test") == 1
    goals = {goal.what: goal.verdict for goal in int4.goals(rows)}
    assert goals.pop(f"3 bits: perplexity of {int4.SALIENT} minus that of {int4.RANDOM}") == "NOT MET"
    assert set(goals.values()) == {"not measured"}
    assert "squared output error" in int4.report(rows) and "its root" in int4.report(rows)
