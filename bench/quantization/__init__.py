"""Quantization beside ONNX Runtime, torchao, nncf and neural-compressor: error, accuracy, speed, bytes."""
