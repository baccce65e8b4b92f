"""What the machine says about itself, against the system's own answers."""

import os

import psutil

from dca_lab import measure


def test_cores_and_memory_are_within_the_systems_own():
    usable, physical = measure.cores()
    assert 1 <= usable <= os.cpu_count()
    assert physical >= 1
    total, available = measure.memory_limits()
    assert 0 < available <= total <= psutil.virtual_memory().total


def test_names():
    assert measure.cpu_name() == measure.cpu_name().strip()
    assert list(measure.instruction_sets()) == sorted(set(measure.instruction_sets()))
    cache = measure.last_level_cache()
    assert cache is None or cache >= 1 << 15


def test_build_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DCA_BUILD", str(tmp_path / "elsewhere"))
    assert measure.build_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("DCA_BUILD")
    assert measure.build_folder().name == "_build"
    assert not (tmp_path / "elsewhere").exists()
