"""Run an ONNX file: a `Session` is called like a model and computes in ONNX Runtime, on the CPU.

Loading is where the speed comes from. ONNX Runtime rewrites the graph (constants folded, convolution and ReLU
fused, a quantize-dequantize sandwich turned into one integer operator) and picks for each node the best kernel
that this processor has. `Session.node_types` counts the nodes of the graph *after* that, so "it runs in int8"
can be read off: ``QLinearConv`` is an integer convolution, ``Conv`` a float one.

It takes and gives torch tensors, so that `training.evaluate`, `training.predict` and `measure.latency` accept
it. What this is *not*: an ``nn.Module``. It has no parameters to train or to count; its size is that of its
file, `Session.bytes`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(uint8)": torch.uint8,
    "tensor(int8)": torch.int8,
    "tensor(bool)": torch.bool,
}
_CPU = ["CPUExecutionProvider"]


class Session:
    """An ONNX file, ready to be called.

    Parameters
    ----------
    path : str or Path
        The file. It is read once, here.
    threads : int
        Threads inside one operator. One is what `measure.latency` assumes by default.

    Attributes
    ----------
    path : Path
    threads : int
    bytes : int
        Size of the file, as the file system says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model that ONNX Runtime can run, or `threads` is below 1.

    Examples
    --------
    >>> from dca_lab.deploy import export_onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = export_onnx(torch.nn.Linear(4, 3), torch.zeros(1, 4), f"{folder}/linear.onnx")
    >>> session(torch.zeros(7, 4)).shape
    torch.Size([7, 3])
    >>> session.node_types()
    {'Gemm': 1}
    """

    def __init__(self, path: str | Path, *, threads: int = 1):
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ValueError(f"threads={threads!r}: give a whole number of at least 1")
        self.path, self.threads = Path(path), threads
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}: export a model to it first")
        self._content = self.path.read_bytes()
        self.bytes = len(self._content)
        self._session = self._load()
        self._inputs = self._session.get_inputs()
        self._names = [given.name for given in self._inputs]
        self._run = self._session.run

    def _load(self, optimized_path: str = "") -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only, and those are raised
        if optimized_path:
            options.optimized_model_filepath = optimized_path
        try:
            return onnxruntime.InferenceSession(self._content, options, providers=_CPU)
        except Exception as error:  # ONNX Runtime's classes of errors share no base but Exception
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"{self.path} is no model that ONNX Runtime can run: {first}") from error

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The network's output (a tuple when the graph has several), on tensors like the exported example.

        Raises
        ------
        ValueError
            If number, shape or dtype of the inputs are not those of the file.
        """
        if len(inputs) != len(self._inputs):
            raise ValueError(
                f"{self.path.name} takes {len(self._inputs)} inputs, {self._names}, not {len(inputs)}"
            )
        feeds = {want.name: _array(x, want) for x, want in zip(inputs, self._inputs, strict=True)}
        outputs = tuple(torch.from_numpy(y) for y in self._run(None, feeds))
        return outputs[0] if len(outputs) == 1 else outputs

    def node_types(self) -> dict[str, int]:
        """How many nodes of each operator there are after ONNX Runtime's own optimisation on this machine.

        The body of a loop counts once, however often it runs.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/optimized.onnx"
            self._load(file)
            graph = onnx.load(file).graph
        return dict(sorted(Counter(_types(graph)).items()))

    # What makes `training.evaluate` and `training.predict` take a session: it has one mode, and no parts.

    def modules(self) -> Iterator[Any]:
        """No submodules."""
        return iter(())

    def train(self, mode: bool = True) -> Session:
        """Nothing to switch: a session always runs as in evaluation."""
        return self

    def eval(self) -> Session:
        """The session itself: see `train`."""
        return self

    def __reduce__(self) -> tuple:
        return (_reopen, (str(self.path), self.threads))

    def __repr__(self) -> str:
        return f"Session({str(self.path)!r}, threads={self.threads}, bytes={self.bytes})"


def _reopen(path: str, threads: int) -> Session:
    return Session(path, threads=threads)


def _types(graph: onnx.GraphProto) -> Iterator[str]:
    """The operator of every node, those inside loops and branches included."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _types(attribute.g)


def _array(x: Tensor, want: Any) -> np.ndarray:
    """The tensor as the array that the input `want` of the graph takes, without a copy where that is possible."""
    if not isinstance(x, Tensor):
        raise ValueError(f"input {want.name!r}: give a torch tensor, not {type(x).__name__}")
    if x.dtype != (dtype := _DTYPES.get(want.type)):
        raise ValueError(
            f"input {want.name!r} is {dtype or want.type}, and the tensor is {x.dtype}: convert it"
        )
    fits = len(x.shape) == len(want.shape) and all(
        not isinstance(size, int) or size == given for size, given in zip(want.shape, x.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join(str(size) for size in want.shape)
        raise ValueError(f"input {want.name!r} has shape ({sizes}), and the tensor has {tuple(x.shape)}")
    return x.detach().numpy()
