"""Several processes that train one network: real processes, real messages, counted bytes.

``launch`` runs a function in p processes, ``ring`` adds up their vectors with a hand-written all-reduce, and
``data_parallel`` trains with it: each process takes its share of every batch, and the gradients are averaged. Files
whose names begin with an underscore are what runs inside the processes.
"""

from dca_lab.parallel.data_parallel import DataParallelRun, train_data_parallel
from dca_lab.parallel.launch import ProcessError, launch
from dca_lab.parallel.ring import all_gather, reduce_scatter, ring_all_reduce, ring_bytes

__all__ = [
    "DataParallelRun",
    "ProcessError",
    "all_gather",
    "launch",
    "reduce_scatter",
    "ring_all_reduce",
    "ring_bytes",
    "train_data_parallel",
]
