"""Deployment: a network leaves Python as one file, and another program runs it.

``export_onnx`` writes a float model as an ONNX file, ``Session`` runs any ONNX file in ONNX Runtime on the
CPU and is called like a model. What makes the file smaller or faster is *not* here: a technique writes its own
graph (int8 in ``quantization``) and hands it to ``save_onnx``.
"""

from dca_lab.deploy.onnx import export_onnx, save_onnx
from dca_lab.deploy.session import Session
from dca_lab.deploy.trace import trace_onnx

__all__ = ["Session", "export_onnx", "save_onnx", "trace_onnx"]
