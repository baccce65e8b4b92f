"""The bound against max(F / P, B / W) by hand, and one real measurement kept in a file."""

import json
import math
import sys
import time

import pytest
import torch
from torch import nn

from dca_lab import measure
from dca_lab.measure import (
    LayerPoint,
    Machine,
    arithmetic_intensity,
    bound,
    layer_points,
    machine,
    share_of_bound,
)

MODULE = sys.modules["dca_lab.measure.machine"]  # the name in the package is the function
KIB, MIB = 1 << 10, 1 << 20
LEVELS = ((64 * KIB, 8e9), (MIB, 4e9), (64 * MIB, 1e9))
HERE = Machine("cpu", "torch", peak_flops=1e9, bandwidth=1e9, levels=LEVELS, cache_bytes=MIB)


def test_intensity_of_a_linear_layer_by_hand():
    layer, x = nn.Linear(300, 200), torch.zeros(5, 300)
    moved = 4 * (300 * 200 + 200 + 5 * 300 + 5 * 200)
    assert arithmetic_intensity(layer, x) == pytest.approx(2 * 5 * 300 * 200 / moved)
    assert arithmetic_intensity(nn.ReLU(), x) == 0.0


def test_intensity_grows_with_the_batch_towards_its_limit():
    layer = nn.Linear(256, 256, bias=False)
    values = [arithmetic_intensity(layer, torch.zeros(batch, 256)) for batch in (1, 4, 16, 64, 4096)]
    assert values == sorted(values)
    assert values[-1] < 2 * 256 * 256 / (4 * 512)  # weights for nothing


def test_bandwidth_of_the_smallest_level_that_holds_the_set():
    assert HERE.bandwidth_at(1) == HERE.bandwidth_at(64 * KIB) == 8e9
    assert HERE.bandwidth_at(MIB) == 4e9
    assert HERE.bandwidth_at(8 * MIB) == pytest.approx(2.5e9)  # halfway in the logarithm
    assert HERE.bandwidth_at(1 << 40) == 1e9
    dip = Machine("c", "t", 1.0, 3.0, ((1, 1.0), (4, 5.0), (16, 3.0)))
    assert [dip.bandwidth_at(size) for size in (1, 4, 16)] == [5.0, 5.0, 3.0]


def test_ridge_and_cache():
    assert HERE.ridge == 1.0
    assert not HERE.from_cache
    assert Machine("c", "t", 1.0, 1.0, ((MIB, 1.0),), cache_bytes=MIB).from_cache


def test_bound_is_the_sum_of_the_larger_of_both_times():
    # 0: memory-bound (a quarter of an operation a byte); 1: compute-bound by its batch
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 32, bias=False))
    slow_memory = Machine("c", "t", peak_flops=1e12, bandwidth=1e6, levels=((MIB, 1e6),))
    slow_peak = Machine("c", "t", peak_flops=1e6, bandwidth=1e12, levels=((MIB, 1e12),))
    x = torch.zeros(3, 64)
    moved = [4 * (64 * 64 + 3 * 128), 4 * (64 * 32 + 3 * 96)]
    flops = [2 * 3 * 64 * 64, 2 * 3 * 64 * 32]
    assert bound(model, x, slow_memory) == pytest.approx(sum(moved) / 1e6)
    assert bound(model, x, slow_peak) == pytest.approx(sum(flops) / 1e6)
    even = Machine("c", "t", peak_flops=1e6, bandwidth=1e6, levels=((MIB, 1e6),))
    expected = sum(max(f, b) for f, b in zip(flops, moved, strict=True)) / 1e6
    assert bound(model, x, even) == pytest.approx(expected)


def test_share_is_bound_over_seconds():
    layer, x = nn.Linear(64, 64), torch.zeros(2, 64)
    assert share_of_bound(layer, x, HERE, seconds=0.5) == pytest.approx(bound(layer, x, HERE) / 0.5)
    assert share_of_bound(layer, x, HERE, repeats=3) > 0
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="measured seconds"):
            share_of_bound(layer, x, HERE, seconds=wrong)


def test_layer_points_name_every_layer_that_multiplies():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    )
    x = torch.zeros(2, 1, 8, 8)
    points = layer_points(model, x, HERE, repeats=3)
    assert [point.name for point in points] == ["0", "4"]
    assert points[0].flops == 2 * 2 * 4 * 36 * 9
    for point in points:
        assert isinstance(point, LayerPoint)
        assert point.attained == pytest.approx(point.flops / point.seconds)
        assert point.intensity == pytest.approx(point.flops / point.bytes)
        assert point.attainable <= HERE.peak_flops


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """This machine, measured once with small arrays: what is tested is the code, not the memory."""
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCA_BUILD", str(folder))
        patch.setattr(MODULE, "memory_limits", lambda: (1 << 30, 1 << 28))
        found = machine()
    return folder, found


def test_machine_is_plausible(measured):
    _, found = measured
    assert found.peak_flops > 1e8 and found.bandwidth > 1e7
    sizes = [size for size, _ in found.levels]
    assert sizes == sorted(sizes) and sizes[-1] <= (1 << 28) // 8
    assert all(rate > 0 for _, rate in found.levels)
    assert found.bandwidth == found.levels[-1][1]
    # a product of 384 x 384 cannot beat the best product
    a = torch.ones(384, 384)
    timed = measure.latency({"mm": lambda: a @ a}, repeats=5)
    assert 2 * 384**3 / timed.median("mm") < 3 * found.peak_flops


def test_machine_is_kept_and_read_back(measured, monkeypatch):
    folder, found = measured
    monkeypatch.setenv("DCA_BUILD", str(folder))
    monkeypatch.setattr(MODULE, "measure_machine", lambda: None)
    assert machine() == found  # the measurement is not called
    assert [file.name for file in folder.iterdir() if "part" in file.name] == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 0, "cpu": "x"}'])
def test_a_damaged_or_foreign_file_is_measured_again(tmp_path, monkeypatch, content):
    monkeypatch.setenv("DCA_BUILD", str(tmp_path))
    (tmp_path / "machine.json").write_text(content, encoding="utf-8")
    monkeypatch.setattr(MODULE, "measure_machine", lambda: HERE)
    assert machine() == HERE
    assert json.loads((tmp_path / "machine.json").read_text(encoding="utf-8"))["peak_flops"] == 1e9


def test_another_processor_is_measured_and_refresh_measures(tmp_path, monkeypatch):
    monkeypatch.setenv("DCA_BUILD", str(tmp_path))
    calls = []
    monkeypatch.setattr(MODULE, "cpu_name", lambda: "cpu")
    monkeypatch.setattr(MODULE.torch, "__version__", "torch")
    monkeypatch.setattr(MODULE, "measure_machine", lambda: calls.append(1) or HERE)
    assert machine() == machine() == HERE
    assert len(calls) == 1
    machine(refresh=True)
    assert len(calls) == 2
    monkeypatch.setattr(MODULE, "cpu_name", lambda: "another cpu")
    machine()
    assert len(calls) == 3


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("DCA_BUILD", str(tmp_path / "file" / "build"))
    monkeypatch.setattr(MODULE, "measure_machine", lambda: HERE)
    assert machine() == HERE


def test_rate_of_a_known_work(monkeypatch):
    from dca_lab.measure import peaks

    now = [0.0]
    monkeypatch.setattr(peaks.time, "process_time", lambda: now[0])

    def run():
        now[0] += 1e-4

    assert peaks.best_rate(run, 50.0) == pytest.approx(50.0 / 1e-4)
    assert time.process_time() == now[0]


def test_levels_rise_to_the_largest_and_products_have_a_rate():
    from dca_lab.measure import peaks

    levels = peaks.bandwidth_levels(1 << 21)
    assert [size for size, _ in levels] == [1 << 16, 1 << 18, 1 << 20, 1 << 21]
    assert all(rate > 0 for _, rate in levels)
    assert peaks.product_rate(torch.float32) > 1e8
    int8 = peaks.int8_rate()
    assert int8 is None or int8 > 1e8  # no kernel in this torch, or an exact one
