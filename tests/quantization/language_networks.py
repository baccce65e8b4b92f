"""A small language model and tokens, for the tests of weight-only methods."""

import torch

from dca_lab.models import TransformerLM


def language_model():
    """The model, with weights that are not all small, and tokens (24, 16)."""
    torch.manual_seed(0)
    model = TransformerLM(vocabulary=20, width=32, heads=2, layers=2, context=16).eval()
    for p in model.parameters():
        p.data.add_(torch.randn_like(p) * 0.2)
    return model, torch.randint(0, 20, (24, 16), generator=torch.Generator().manual_seed(1))
