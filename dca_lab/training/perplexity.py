"""How surprised a language model is: the perplexity of its next-token predictions.

    perplexity = exp( -(1/N) sum_i log p(token_i | the tokens before it) )

A model that spreads its probability evenly over V tokens has perplexity V; one that is always certain and
right has 1. ``math.log2(perplexity)`` is the bits a token that a perfect arithmetic coder would need with this
model: where the tokens are characters, the bits per character. F. Jelinek, R. L. Mercer, L. R. Bahl,
J. K. Baker, "Perplexity: a measure of the difficulty of speech recognition tasks", Journal of the Acoustical
Society of America 62 (S1), 1977. It is *not* comparable between tokenisers, window lengths or texts.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .evaluation import mode


def perplexity(model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 64) -> float:
    """The perplexity of a model on a text.

    Parameters
    ----------
    model : nn.Module
        Maps tokens (B, T) to logits (B, T, V). Called in evaluation mode, which is put back.
    x : Tensor
        Tokens (N, T), int64, N at least 1.
    y : Tensor
        The token after each, (N, T), int64; -100 marks a position that does not count.
    batch_size : int
        Windows at a time; the result does not depend on it beyond rounding.

    Returns
    -------
    float
        At least 1; infinite where a token has probability 0.

    Raises
    ------
    ValueError
        When x is empty, x and y differ in length, or no position counts.

    Examples
    --------
    >>> from dca_lab.training.perplexity import perplexity
    >>> even = nn.Embedding.from_pretrained(torch.zeros(5, 5))  # every logit 0: five tokens, equally likely
    >>> round(perplexity(even, torch.zeros(2, 3).long(), torch.ones(2, 3).long()), 4)
    5.0
    """
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} windows and y has {len(y)}: they must be as many")
    if len(x) == 0:
        raise ValueError("there is nothing to read: x holds no window")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    total, count = 0.0, 0
    with mode(model, training=False), torch.no_grad():
        for batch, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            logits = model(batch)  # (B, T, V)
            if logits.shape[:-1] != labels.shape:
                raise ValueError(
                    f"logits {tuple(logits.shape)} need labels {tuple(logits.shape[:-1])}, "
                    f"not {tuple(labels.shape)}: give the next token of each position",
                )
            # Summed in double: a book has more tokens than single precision can count one by one.
            each = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), reduction="none")
            total += float(each.double().sum())
            count += int((labels != -100).sum())
    if count == 0:
        raise ValueError("no position counts: every label is -100")
    nats = total / count
    return math.exp(nats) if nats < 709 else math.inf  # exp(710) is beyond double precision
