"""Our static int8 behind the peers' signature, and the bound that int8 is held against.

A byte is a quarter of a float. So the roofline of int8 is that of fp32 on a machine that multiplies at the int8
rate and whose memory, counted in floats, is four times as large and four times as fast. What this is *not*: a bound
that one library alone could reach; the int8 rate is that of the best kernel found here, which may use matrix
instructions (AMX) that another library does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from bench.common import OURS
from bench.quantization.peers import Executable
from dca_lab.deploy import export_onnx
from dca_lab.measure import Machine
from dca_lab.quantization._processor import wants_reduced_range
from dca_lab.quantization.export import export_int8
from dca_lab.quantization.onednn import OneDnnModel
from dca_lab.quantization.refine import quantize_best
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.static_file import save_static

REFINED = f"{OURS}, refined"
ONEDNN = f"{OURS}, oneDNN"
ORT_FLOAT = "ORT fp32"


def _plain(model: nn.Module, calibration: Tensor, folder: Path) -> Executable:
    session = export_int8(model, calibration, folder / "int8.onnx")
    return Executable(session, session.bytes)


def _refined(model: nn.Module, calibration: Tensor, folder: Path) -> Executable:
    static = quantize_best(model, calibration, reduce_range=wants_reduced_range())
    session = export_int8(static, None, folder / "int8.onnx")
    return Executable(session, session.bytes)


def on_onednn(model: nn.Module, calibration: Tensor, folder: Path) -> Executable:
    """The integers of the plain one on oneDNN's kernels."""
    static = quantize_static(model, calibration, reduce_range=wants_reduced_range())
    return Executable(OneDnnModel(static), save_static(static, folder / "int8.safetensors"))


def float_session(model: nn.Module, calibration: Tensor, folder: Path) -> Executable:
    """The float network in ONNX Runtime."""
    session = export_onnx(model, calibration[:1], folder / "float.onnx")
    return Executable(session, session.bytes)


INT8_OURS: dict[str, Callable[[nn.Module, Tensor, Path], Executable]] = {OURS: _plain, REFINED: _refined}


def int8_machine(machine: Machine) -> Machine | None:
    """`machine` as an int8 network sees it; None where its int8 rate is not known.

    Examples
    --------
    >>> m = Machine("a", "b", peak_flops=1e9, bandwidth=1e9, levels=((1024, 1e9),), int8_ops=4e9)
    >>> int8_machine(m).peak_flops, int8_machine(m).bandwidth_at(4096)
    (4000000000.0, 4000000000.0)
    """
    if machine.int8_ops is None:
        return None
    levels = tuple((4 * size, 4 * rate) for size, rate in machine.levels)
    return replace(machine, peak_flops=machine.int8_ops, bandwidth=4 * machine.bandwidth, levels=levels)
