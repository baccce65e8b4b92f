"""The default loss: cross-entropy over the last dimension, for one label an example or one a position.

    loss = -mean log softmax(logits)[label]

torch's own ``F.cross_entropy`` wants the classes in dimension 1, language models have them last: this is
*not* another loss, it only flattens (B, T, V) to (B * T, V) first.
"""

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in nats.

    Parameters
    ----------
    logits : Tensor
        (B, C), or (B, T, V) of a language model, float.
    y : Tensor
        Labels: (B,), or (B, T), int64; -100 marks a position that does not count.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        When the shapes do not belong together.

    Examples
    --------
    >>> import torch
    >>> cross_entropy(torch.zeros(5, 7, 3), torch.zeros(5, 7, dtype=torch.int64)).shape
    torch.Size([])
    """
    if logits.shape[:-1] != y.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} need labels {tuple(logits.shape[:-1])}, not {tuple(y.shape)}: "
            "give integer class labels, or another loss=",
        )
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
