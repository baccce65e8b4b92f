"""The techniques of the course in the framework that its source document uses: Keras 3 on TensorFlow.

Names, arguments and values are those of the torch rooms wherever both exist; tests hold the two side by side. Read the
files in this order:

- *the network*: ``models`` (the document's), ``transfer`` (the same weights in torch and back);
- *pruning*: ``masks`` (which weights), ``pruning`` (the schedule while it trains), ``filters`` (physically gone);
- *quantization*: ``affine`` (the map), ``ste`` (its gradient), ``qat`` (training with the rounding inside), ``builtin``
  (what Keras' own ``quantize`` touches), ``litert`` and ``lite_model`` (integers throughout, and executed);
- *half precision*: ``precision`` (policies, loss scaling), ``memory`` (what activations take);
- *several devices*: ``parallel``; how many cores each takes: ``threads``;
- *on disk*: ``files`` (networks and their bytes), ``logs`` (what TensorBoard would draw).

``use_threads``, ``logical_cpus`` and ``count_memory`` belong into a notebook's first cell: TensorFlow takes them until
its first tensor. Importing this room imports TensorFlow, which takes some seconds; nothing else in `dca_lab` does so,
but for `dca_lab.studies`. ``quiet`` is machinery.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it prints pages otherwise
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from dca_lab.keras.quiet import quiet  # noqa: E402

with quiet():  # lines that C++ writes before it knows of the log level
    import tensorflow

tensorflow.get_logger().setLevel("ERROR")  # it warns whenever a notebook makes several small models

# ruff: noqa: E402  - what follows must come after TensorFlow's quiet import
from dca_lab.keras.affine import affine_params, dequantize, fake_quantize, levels, quantize
from dca_lab.keras.builtin import quantize_builtin, quantized_layers
from dca_lab.keras.files import Sizes, load, save, sizes
from dca_lab.keras.filters import group_norm, prune_filters
from dca_lab.keras.lite_model import LiteModel
from dca_lab.keras.litert import export_litert
from dca_lab.keras.logs import scalars
from dca_lab.keras.masks import apply_masks, magnitude_masks, prunable, sparsity
from dca_lab.keras.memory import activation_bytes, count_memory, peak_bytes
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.parallel import logical_cpus, mirrored, train_step
from dca_lab.keras.precision import DynamicLossScale, gradients, scaled_step, use_policy
from dca_lab.keras.pruning import GradualPruning, cubic_sparsity
from dca_lab.keras.qat import finish_qat, prepare_qat
from dca_lab.keras.ste import fake_quantize_ste
from dca_lab.keras.threads import follow_omp, use_threads
from dca_lab.keras.transfer import from_torch, state_arrays, to_torch

follow_omp()
del follow_omp

__all__ = [
    "DynamicLossScale",
    "GradualPruning",
    "LiteModel",
    "Sizes",
    "activation_bytes",
    "affine_params",
    "apply_masks",
    "count_memory",
    "cubic_sparsity",
    "dequantize",
    "digit_cnn",
    "export_litert",
    "fake_quantize",
    "fake_quantize_ste",
    "finish_qat",
    "from_torch",
    "gradients",
    "group_norm",
    "levels",
    "load",
    "logical_cpus",
    "magnitude_masks",
    "mirrored",
    "peak_bytes",
    "prepare_qat",
    "prunable",
    "prune_filters",
    "quantize",
    "quantize_builtin",
    "quantized_layers",
    "save",
    "scalars",
    "scaled_step",
    "sizes",
    "sparsity",
    "state_arrays",
    "to_torch",
    "train_step",
    "use_policy",
    "use_threads",
]
