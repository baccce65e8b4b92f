"""Run a LiteRT file (``.tflite``) as a phone would: with an interpreter of a few megabytes, and no TensorFlow.

    levels = clamp(round(x / scale) + zero_point)      before, where the file wants integers
    logits = (levels - zero_point) * scale             after

A `LiteModel` is called with floats and answers with floats, so that a float file and an integer file can be compared
on the same data; what happens between is the file's affair, and `operators`, `tensor_types`, `weights` show it.
It is *not* a Keras model: it cannot be trained. `litert` writes the files.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from dca_lab.keras.quiet import quiet

_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class LiteModel:
    """A LiteRT file, ready to be called with float arrays, whatever it computes in.

    Parameters
    ----------
    path : str or Path
        The file. It is read once, here.
    threads : int
        Threads inside one operator.

    Attributes
    ----------
    path : Path
    threads : int
    bytes : int
        Size of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no LiteRT model, not one with a single input and output, or `threads` is below 1.

    Examples
    --------
    >>> import tempfile
    >>> from dca_lab.keras.litert import export_litert
    >>> from dca_lab.keras.models import digit_cnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lite = export_litert(digit_cnn(), f"{folder}/digits.tflite")
    >>> lite(np.zeros((5, 28, 28, 1), np.float32)).shape, lite.is_integer()
    ((5, 10), False)
    """

    def __init__(self, path: str | Path, *, threads: int = 1):
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ValueError(f"threads={threads!r}: give a whole number of at least 1")
        self.path, self.threads = Path(path), threads
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}: write one with export_litert first")
        self._content = self.path.read_bytes()
        self.bytes = len(self._content)
        self._run = self._open(OpResolverType.AUTO)
        inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"{path}: {len(inputs)} inputs and {len(outputs)} outputs, and not one of each")
        self._in, self._out = inputs[0], outputs[0]
        self._batch = None  # the size that tensors are allocated for

    def _open(self, kernels: OpResolverType) -> Interpreter:
        try:
            with quiet():
                return Interpreter(
                    model_content=self._content,
                    num_threads=self.threads,
                    experimental_op_resolver_type=kernels,
                )
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{self.path} is no model that LiteRT can run: {error}") from error

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Logits of x: inputs are quantized and outputs dequantized here where the file wants integers.

        Parameters
        ----------
        x : ndarray
            (B, 28, 28, 1) for a digit CNN; float32 in [0, 1]. Values outside the calibrated range are clamped to it.

        Returns
        -------
        ndarray
            (B, classes), float32.

        Raises
        ------
        ValueError
            If x is no float32 array of the file's shape, or holds NaN where it must become integers.
        """
        x, shape = np.asarray(x), tuple(int(n) for n in self._in["shape_signature"][1:])
        if x.dtype != np.float32 or x.ndim != len(shape) + 1 or x.shape[1:] != shape or not len(x):
            wanted = ", ".join(str(n) for n in ("B", *shape))
            raise ValueError(f"{self.path.name} takes float32 ({wanted}), not {x.dtype} {x.shape}")
        if len(x) != self._batch:
            with quiet():  # the first allocation announces its delegate
                self._run.resize_tensor_input(self._in["index"], x.shape)
                self._run.allocate_tensors()
            self._batch = len(x)
        self._run.set_tensor(self._in["index"], _to_levels(x, self._in))
        self._run.invoke()
        return _to_values(self._run.get_tensor(self._out["index"]), self._out)

    def operators(self) -> dict[str, int]:
        """How many operators of each name the file holds, such as ``{"CONV_2D": 1, ...}``."""
        return dict(sorted(Counter(operator["op_name"] for operator in self._inside()[1]).items()))

    def tensor_types(self) -> dict[str, str]:
        """The number format of every tensor in the file by its name: "float32", "int8", "int32"."""
        tensors = self._inside()[0].get_tensor_details()
        return {
            t["name"]: np.dtype(t["dtype"]).name for t in tensors if t["name"]
        }  # the nameless are scratch

    def is_integer(self) -> bool:
        """Whether no tensor of the file holds floats: then nothing in it is computed in floats either."""
        return all(np.issubdtype(np.dtype(name), np.integer) for name in self.tensor_types().values())

    def weights(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """The weights of the convolutions and dense layers, in the order in which they compute.

        Returns
        -------
        list of (operator, codes, scales)
            Codes (O, kh, kw, I) or (O, I), int8 with scales (O,), or (1,) where the layer has one; float32 with
            scales (0,) in a float file.
        """
        inside, operators = self._inside()
        tensors = {t["index"]: t for t in inside.get_tensor_details()}
        found = []
        for operator in operators:
            if operator["op_name"] in _WITH_WEIGHTS:
                index = int(operator["inputs"][1])
                scales = tensors[index]["quantization_parameters"]["scales"]
                found.append((operator["op_name"], inside.get_tensor(index).copy(), scales.copy()))
        return found

    def grids(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """(scale, zero_point) of the input and of the output; the scale is 0 where they are floats."""
        first, last = (detail["quantization"] for detail in (self._in, self._out))
        return (float(first[0]), int(first[1])), (float(last[0]), int(last[1]))

    def _inside(self) -> tuple[Interpreter, list[dict]]:
        """The file as it stands, without the fused blocks of the fast kernels, and its operators."""
        plain = self._open(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        with quiet():
            plain.allocate_tensors()
        return plain, plain._get_ops_details()  # there is no public way to list them

    def __repr__(self) -> str:
        return f"LiteModel({str(self.path)!r}, threads={self.threads}, bytes={self.bytes})"


def _to_levels(x: np.ndarray, detail: dict) -> np.ndarray:
    dtype, (scale, zero_point) = np.dtype(detail["dtype"]), detail["quantization"]
    if dtype == np.float32:
        return x
    if not np.isfinite(x).all():
        raise ValueError("the input holds NaN or infinity: no integer stands for them")
    ends = np.iinfo(dtype)
    return np.clip(np.rint(x / np.float32(scale)) + zero_point, ends.min, ends.max).astype(dtype)


def _to_values(q: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if q.dtype == np.float32:
        return q
    return (q.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)
