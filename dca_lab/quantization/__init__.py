"""Quantization: numbers on a grid, so that a network is small in the file and runs in integers."""
