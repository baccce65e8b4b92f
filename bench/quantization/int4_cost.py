"""What packed weights cost: the bytes of the file, read back, and the seconds in ONNX Runtime.

    bytes:  file of `save_quantized` / file of the float model, both safetensors; all that is not packed in float16
    speed:  ORT fp32 seconds / ORT MatMulNBits seconds, one thread, interleaved, int8 and float32 products

A language model that writes one token at a time reads all weights for it: one row of x. Reading a prompt gives many
rows, and the weights are read once for all. The multilayer perceptron is the pure case: three layers of 3072 x 3072,
113 MB in fp32, which no core keeps in its own cache. What this is *not*: 3 bits; ORT has no kernel for them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.common import failure
from bench.quantization.int4_quality import GROUP
from bench.quantization.language_model import Trained
from dca_lab.deploy import export_onnx
from dca_lab.measure import latency, size_on_disk
from dca_lab.quantization.int4_onnx import export_int4
from dca_lab.quantization.weight_file import load_quantized, save_quantized
from dca_lab.quantization.weight_only import quantize_weights
from dca_lab.studies.language_model import LENGTH
from dca_lab.training import predict

ORT_FLOAT, INT8_PRODUCTS, FLOAT_PRODUCTS = "ORT fp32", "int4, int8 products", "int4, fp32 products"


def byte_rows(trained: Trained) -> list[dict[str, Any]]:
    """The file of each number of bits, and whether what is read back computes the same."""
    rows, full = [], size_on_disk(trained.model)
    for bits in (4, 3):
        packed = quantize_weights(trained.model, bits=bits, group_size=GROUP, rest=torch.float16)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "packed.safetensors"
            written = save_quantized(packed, file)
            again = load_quantized(file, trained.model)
        x = trained.x_test[:4]
        same = torch.equal(predict(packed, x), predict(again, x))
        row = {"part": "bytes", "bits": bits, "error": None, "bytes": written, "bytes_fp32": full}
        rows.append({**row, "read_back_equal": same})
    return rows


def _perceptron(quick: bool) -> nn.Module:
    width = 256 if quick else 3072
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Linear(width, width) for _ in range(3)]
    for each in layers:
        nn.init.normal_(each.weight, std=width**-0.5, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()


def speed_rows(trained: Trained, *, quick: bool) -> list[dict[str, Any]]:
    """Median speeds of int4 over ORT fp32 and over eager, and the largest relative error of the kernel."""
    perceptron = _perceptron(quick)
    cases: dict[str, tuple[nn.Module, Tensor]] = {
        "language model, 1 token": (trained.model, trained.x_test[:1, :1]),
        f"language model, {LENGTH} tokens": (trained.model, trained.x_test[:1]),
        "perceptron, 1 row": (perceptron, torch.ones(1, perceptron[0].in_features)),
        "perceptron, 64 rows": (perceptron, torch.ones(64, perceptron[0].in_features)),
    }
    rows = []
    for case, (model, x) in list(cases.items())[:: 3 if quick else 1]:
        row: dict[str, Any] = {"part": "speed", "case": case, "error": None}
        try:
            row |= _timed(model, x, repeats=5 if quick else 31)
        except Exception as error:  # noqa: BLE001  (whatever a library raises is its result)
            row["error"] = failure(error)
        rows.append(row)
    return rows


def _timed(model: nn.Module, x: Tensor, *, repeats: int) -> dict[str, Any]:
    packed = quantize_weights(model, bits=4, group_size=GROUP)
    with tempfile.TemporaryDirectory() as folder:
        subjects = {
            "torch eager": model,
            ORT_FLOAT: export_onnx(model, x, f"{folder}/float.onnx"),
            INT8_PRODUCTS: export_int4(packed, x, f"{folder}/level4.onnx", accuracy_level=4),
            FLOAT_PRODUCTS: export_int4(packed, x, f"{folder}/level0.onnx", accuracy_level=0),
        }
        timed = latency(subjects, x, repeats=repeats)
        wanted, row = predict(packed, x), {}
        for name in (INT8_PRODUCTS, FLOAT_PRODUCTS):
            row[f"over ORT fp32: {name}"] = timed.ratio(ORT_FLOAT, name)
            row[f"interval: {name}"] = timed.ratio_interval(ORT_FLOAT, name)
            row[f"over eager: {name}"] = timed.ratio("torch eager", name)
            row[f"kernel error: {name}"] = float((subjects[name](x) - wanted).norm() / wanted.norm())
    return row | {f"milliseconds: {name}": 1e3 * timed.median(name) for name in subjects}
