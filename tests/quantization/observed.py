"""What the tests of observers share: normal numbers, and the range after some batches."""

import torch


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def observe(observer, *batches):
    for batch in batches:
        observer.update(batch)
    return observer.range()
