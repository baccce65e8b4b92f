"""What a network costs: parameters, multiply-accumulates, bytes, seconds, memory; this machine's bound.

Each figure is measured or counted when it is asked for; none is typed in.
"""

from dca_lab.hardware import build_folder, cores, cpu_name, instruction_sets, last_level_cache, memory_limits

from .latency import Latency, latency, median_interval
from .machine import Machine, machine
from .macs import count_macs, macs_per_layer
from .memory import peak_memory
from .parameters import count_nonzero, count_parameters, sparsity
from .roofline import LayerPoint, arithmetic_intensity, bound, layer_points, share_of_bound
from .storage import size_compressed, size_on_disk
from .trace import LayerCost, trace

__all__ = [
    "LayerCost",
    "LayerPoint",
    "Latency",
    "Machine",
    "arithmetic_intensity",
    "bound",
    "build_folder",
    "cores",
    "count_macs",
    "count_nonzero",
    "count_parameters",
    "cpu_name",
    "instruction_sets",
    "last_level_cache",
    "latency",
    "layer_points",
    "machine",
    "macs_per_layer",
    "median_interval",
    "memory_limits",
    "peak_memory",
    "share_of_bound",
    "size_compressed",
    "size_on_disk",
    "sparsity",
    "trace",
]
