"""Pruning: leave out what a trained (or an untrained) network does not need.

Five questions, a file or two each:

- *what* is removed: ``granularity`` and ``patterns`` (weights, N:M, patterns, vectors, kernels, filters,
  channels, layers),
- *which* ones: ``scores`` (weights alone), ``scores_data`` (activations), ``scores_gradient`` and ``obs``
  (the loss),
- *how much*: ``budget`` (layer-wise, row-wise), ``global_budget`` and ``sensitivity`` (a share for each
  layer),
- *how often*: ``schedules`` (one-shot, iterative) and ``gradual``,
- *when*: ``initial`` (before training) and ``lottery`` (back to the beginning).

``masks`` keeps pruned weights at zero, which saves nothing yet. ``channels``, ``layers`` and
``recurrent`` remove what is pruned from the module: smaller tensors, less work.
"""

from dca_lab.pruning._within import emptied_layers
from dca_lab.pruning.batchnorm import reestimate_batchnorm
from dca_lab.pruning.budget import SCOPES, layerwise_masks, make_masks, n_m_masks, rowwise_masks
from dca_lab.pruning.channels import Group, PruningError, coupled_groups, prune_channels
from dca_lab.pruning.global_budget import global_masks
from dca_lab.pruning.gradual import cubic_sparsity, gradual
from dca_lab.pruning.granularity import GRANULARITIES, block_mask, expand, group_scores
from dca_lab.pruning.initial import snip, snip_scores, synflow, synflow_scores
from dca_lab.pruning.layers import block_changes, remove_layers
from dca_lab.pruning.lottery import Ticket, lottery_ticket
from dca_lab.pruning.masks import Masker, apply_masks, mask_sparsity, prunable
from dca_lab.pruning.obs import obs_prune_linear
from dca_lab.pruning.patterns import best_patterns, pattern_dictionary
from dca_lab.pruning.recurrent import prune_hidden
from dca_lab.pruning.schedules import PruningRun, finetune, iterative, one_shot
from dca_lab.pruning.scores import batchnorm_scale, geometric_median, magnitude, random_scores
from dca_lab.pruning.scores_data import activation_norms, wanda
from dca_lab.pruning.scores_gradient import obs_diagonal, taylor
from dca_lab.pruning.sensitivity import Sensitivity, allocate, sensitivity

__all__ = [
    "GRANULARITIES",
    "SCOPES",
    "Group",
    "Masker",
    "PruningError",
    "PruningRun",
    "Sensitivity",
    "Ticket",
    "activation_norms",
    "allocate",
    "apply_masks",
    "batchnorm_scale",
    "best_patterns",
    "block_changes",
    "block_mask",
    "coupled_groups",
    "cubic_sparsity",
    "emptied_layers",
    "expand",
    "finetune",
    "geometric_median",
    "global_masks",
    "gradual",
    "group_scores",
    "iterative",
    "layerwise_masks",
    "lottery_ticket",
    "magnitude",
    "make_masks",
    "mask_sparsity",
    "n_m_masks",
    "obs_diagonal",
    "obs_prune_linear",
    "one_shot",
    "pattern_dictionary",
    "prunable",
    "prune_channels",
    "prune_hidden",
    "random_scores",
    "reestimate_batchnorm",
    "remove_layers",
    "rowwise_masks",
    "sensitivity",
    "snip",
    "snip_scores",
    "synflow",
    "synflow_scores",
    "taylor",
    "wanda",
]
