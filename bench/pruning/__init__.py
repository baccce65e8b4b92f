"""Channel pruning beside torch-pruning: what it can prune, and what the pruned network is worth."""
