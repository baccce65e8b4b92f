"""Static int8 of two other libraries behind one signature: ``quantize(model, calibration, folder) -> Executable``.

ONNX Runtime (ORT) gets our float export, folded by its own ``quant_pre_process``, then ``quantize_static`` in QDQ
format with min-max ranges. Its defaults are signed activations and one scale a weight tensor; on x86 signed
activations run several times slower, and per-channel weights are more exact: so there are three variants, and the
two fast ones are the opponents. torchao goes through ``torch.export``, the quantizer for x86 (histogram ranges,
per-channel weights) and ``torch.compile``, which needs a C++ compiler when it runs. Weights are packed only if
inductor *freezes* the model: without it, everything runs in float and slower than the original.

All of them get 7-bit operands (``reduce_range``) where the processor has no VNNI, as ours does by itself. This is
*not* a tuned contest: beyond that, both keep their defaults.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.common import require
from dca_lab.deploy import Session, export_onnx
from dca_lab.deploy.quiet import quiet
from dca_lab.quantization._processor import wants_reduced_range

ORT, ORT_CHANNEL, ORT_DEFAULT = "ORT per tensor", "ORT per channel", "ORT defaults (signed)"
TORCHAO = "torchao pt2e"
_BATCH = 64


@dataclass(frozen=True)
class Executable:
    """A quantized network that runs, and its file."""

    run: Callable[[Tensor], Tensor]
    bytes: int


def _ort(model: nn.Module, calibration: Tensor, folder: Path, **options: Any) -> Executable:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name: str):
            self.batches = iter([{name: batch.numpy()} for batch in calibration.split(_BATCH)])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    exported, folded, quantized = (folder / f"{name}.onnx" for name in ("float", "folded", "int8"))
    with quiet():
        export_onnx(model, calibration[:1], exported)
        quant_pre_process(str(exported), str(folded))
        quantize_static(
            str(folded),
            str(quantized),
            Reader(_input_name(folded)),
            quant_format=QuantFormat.QDQ,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if options.pop("signed", False) else QuantType.QUInt8,
            reduce_range=wants_reduced_range(),
            **options,
        )
    session = Session(quantized)
    return Executable(session, session.bytes)


def _input_name(path: Path) -> str:
    import onnx

    return onnx.load(path).graph.input[0].name


def _torchao(model: nn.Module, calibration: Tensor, folder: Path) -> Executable:
    require("torchao")
    if not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        raise RuntimeError("torch.compile needs a C++ compiler, and there is none")
    with quiet():
        from torch._inductor import config
        from torchao.quantization.pt2e import move_exported_model_to_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        config.freezing = True  # for good: a later recompilation without it would fall back to float
        batch = torch.export.Dim("batch", min=1, max=1 << 16)
        settings = x86.get_default_x86_inductor_quantization_config(reduce_range=wants_reduced_range())
        shapes = {"dynamic_shapes": ({0: batch},)}
        example = (calibration[:2].clone(),)  # saved with the program: not a view of all pictures
        with torch.no_grad():
            graph = torch.export.export(model.eval(), example, **shapes).module()
            prepared = prepare_pt2e(graph, x86.X86InductorQuantizer().set_global(settings))
            for part in calibration.split(_BATCH):
                prepared(part)
            converted = move_exported_model_to_eval(convert_pt2e(prepared))
        file = folder / "torchao.pt2"
        torch.export.save(torch.export.export(converted, example, **shapes), file)
        compiled = torch.compile(converted, dynamic=False)  # one program for each size of the batch

    def run(x: Tensor) -> Tensor:
        # Under inference mode, which timing switches on, inductor does not freeze.
        with torch.inference_mode(False), torch.no_grad():
            return compiled(x)

    with quiet():  # what cannot be compiled fails here, and later calls compile nothing
        for size in (1, _BATCH):
            run(calibration[:1].repeat(size, *[1] * (calibration.dim() - 1)))
    return Executable(run, file.stat().st_size)


INT8_PEERS: dict[str, Callable[[nn.Module, Tensor, Path], Executable]] = {
    ORT: _ort,
    ORT_CHANNEL: lambda *given: _ort(*given, per_channel=True),
    ORT_DEFAULT: lambda *given: _ort(*given, signed=True),
    TORCHAO: _torchao,
}


def predict_in_batches(run: Callable[[Tensor], Tensor], x: Tensor, batch: int = _BATCH) -> Tensor:
    """Outputs for all of x; the last batch is filled up, so that only one size is compiled.

    Examples
    --------
    >>> predict_in_batches(lambda x: 2 * x, torch.arange(5.0), batch=2)
    tensor([0., 2., 4., 6., 8.])
    """
    missing = -len(x) % batch
    parts = torch.cat([x, x[:1].expand(missing, *x.shape[1:])]).split(batch)
    return torch.cat([run(part) for part in parts])[: len(x)]
