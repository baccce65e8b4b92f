"""Train and evaluate a network: one loop that every chapter uses, deterministic and resumable.

``fit`` trains, ``evaluate`` gives the accuracy, ``predict`` the logits, ``perplexity`` that of a
language model. A checkpoint is written atomically after each epoch; an interrupted ``fit`` that is started
again ends with the same bits as one that was never interrupted. What is *not* here: mixed precision, several
processes, pruning. They have their own rooms and enter through ``on_step`` and ``on_epoch``.
"""

from dca_lab.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from dca_lab.training.evaluation import evaluate, predict
from dca_lab.training.history import History
from dca_lab.training.loop import fit
from dca_lab.training.losses import cross_entropy
from dca_lab.training.perplexity import perplexity

__all__ = [
    "CheckpointError",
    "History",
    "cross_entropy",
    "evaluate",
    "fit",
    "load_checkpoint",
    "perplexity",
    "predict",
    "save_checkpoint",
]
