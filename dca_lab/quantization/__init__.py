"""Quantization: numbers on a grid, so that a network is small in its file and runs in integers.

Read the files in this order:

- *grids*: ``affine`` (the map and its bound), ``granularity`` (one grid for how many numbers), ``error`` (what it
  costs in theory), ``observers`` (which range); at the far ends ``lowbit``, ``fixed_point``, ``q_format``, ``float8``;
- *a network in integers*: ``graph`` (trace, fold, plan), ``static`` (choose the grids), ``steps`` and ``model`` (what
  comes out), ``simulate``, ``integer`` and ``saturation`` (two ways to run it), ``export`` and ``qdq`` (the fast way), ``onednn``
  (the fast way with matrix instructions), ``dynamic`` (ranges measured while running), ``static_file``;
- *losing less without training*: ``equalize``, ``bias_correction``, ``refit``, ``adaround``; ``refine`` composes them;
- *training with the rounding inside*: ``ste``, ``lsq``, ``qat``; bits where they matter: ``mixed_bits``;
- *weights only, for language models*: ``packing``, ``nearest``, ``gptq``, ``awq``, ``smoothquant``, ``weight_only``,
  ``weight_file``, ``int4_onnx``.

Files whose names begin with an underscore are machinery. Nothing here rests on ``torch.ao.quantization``.
"""

from dca_lab.quantization.adaptive_rounding import round_adaptively
from dca_lab.quantization.adaround import adaround
from dca_lab.quantization.affine import affine_params, dequantize, fake_quantize, levels, quantize
from dca_lab.quantization.awq import clip_weights, quantize_awq, scale_awq
from dca_lab.quantization.bias_correction import bias_correction
from dca_lab.quantization.bit_sensitivity import BitSensitivity, bit_sensitivity
from dca_lab.quantization.dynamic import DynamicLinear, quantize_dynamic
from dca_lab.quantization.dynamic_gru import DynamicGRU
from dca_lab.quantization.dynamic_onnx import export_dynamic
from dca_lab.quantization.equalize import equalize
from dca_lab.quantization.error import best_gaussian_clip, gaussian_error, sqnr, sqnr_uniform
from dca_lab.quantization.export import export_int8
from dca_lab.quantization.fixed_point import fixed_multiplier, multiply_by_fixed
from dca_lab.quantization.float8 import (
    E4M3FN,
    E5M2,
    emulate_e4m3,
    emulate_e5m2,
    emulate_float8,
    float8_values,
)
from dca_lab.quantization.gptq import gptq, quantize_gptq
from dca_lab.quantization.granularity import grouped, ranges, weight_params
from dca_lab.quantization.graph import QuantizationError, prepare
from dca_lab.quantization.group_weights import GroupWeights
from dca_lab.quantization.int4_onnx import export_int4
from dca_lab.quantization.integer import integer_layer, integer_step
from dca_lab.quantization.lowbit import binarize, ternarize
from dca_lab.quantization.lsq import LearnedStep
from dca_lab.quantization.mixed_bits import allocate_bits
from dca_lab.quantization.nearest import quantize_groupwise
from dca_lab.quantization.observers import (
    OBSERVERS,
    KLObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from dca_lab.quantization.onednn import OneDnnModel
from dca_lab.quantization.packed_linear import PackedLinear
from dca_lab.quantization.packing import pack, packed_size, unpack
from dca_lab.quantization.q_format import QFormat, add_fixed, from_fixed, multiply_fixed, to_fixed
from dca_lab.quantization.qat import FakeQuantized, convert, prepare_qat
from dca_lab.quantization.qdq import write_qdq
from dca_lab.quantization.refine import quantize_best
from dca_lab.quantization.refit import refit
from dca_lab.quantization.salient import keep_channels
from dca_lab.quantization.saturation import can_saturate, saturating_product
from dca_lab.quantization.smoothquant import plant_outliers, smooth
from dca_lab.quantization.static import StaticModel, quantize_static
from dca_lab.quantization.static_file import load_static, save_static
from dca_lab.quantization.ste import fake_quantize_ste, round_ste
from dca_lab.quantization.steps import Grid, Step
from dca_lab.quantization.weight_file import load_quantized, save_quantized
from dca_lab.quantization.weight_only import dequantize_weights, quantize_weights

__all__ = [
    "BitSensitivity",
    "DynamicGRU",
    "DynamicLinear",
    "E4M3FN",
    "E5M2",
    "FakeQuantized",
    "Grid",
    "GroupWeights",
    "KLObserver",
    "LearnedStep",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "OBSERVERS",
    "OneDnnModel",
    "PackedLinear",
    "PercentileObserver",
    "QFormat",
    "QuantizationError",
    "StaticModel",
    "Step",
    "adaround",
    "add_fixed",
    "affine_params",
    "allocate_bits",
    "best_gaussian_clip",
    "bias_correction",
    "binarize",
    "bit_sensitivity",
    "can_saturate",
    "clip_weights",
    "convert",
    "dequantize",
    "dequantize_weights",
    "emulate_e4m3",
    "emulate_e5m2",
    "emulate_float8",
    "equalize",
    "export_dynamic",
    "export_int4",
    "export_int8",
    "fake_quantize",
    "fake_quantize_ste",
    "fixed_multiplier",
    "float8_values",
    "from_fixed",
    "gaussian_error",
    "gptq",
    "grouped",
    "integer_layer",
    "integer_step",
    "keep_channels",
    "levels",
    "load_quantized",
    "load_static",
    "multiply_by_fixed",
    "multiply_fixed",
    "pack",
    "packed_size",
    "plant_outliers",
    "prepare",
    "prepare_qat",
    "quantize",
    "quantize_awq",
    "quantize_best",
    "quantize_dynamic",
    "quantize_gptq",
    "quantize_groupwise",
    "quantize_static",
    "quantize_weights",
    "ranges",
    "refit",
    "round_adaptively",
    "round_ste",
    "saturating_product",
    "save_quantized",
    "save_static",
    "scale_awq",
    "smooth",
    "sqnr",
    "sqnr_uniform",
    "ternarize",
    "to_fixed",
    "unpack",
    "weight_params",
    "write_qdq",
]
