"""A long text cut into windows of equal length, which a language model reads side by side.

    window i = tokens[i length : (i + 1) length],    i = 0 .. floor(T / length) - 1

The windows do not overlap, so each token is predicted once and the mean over windows is the mean over tokens.
The first token of a window is predicted without context: shorter windows give a worse perplexity of the same
model, so two perplexities compare only at one length. What this is *not*: a sliding window, shuffling or
batching. The tail that fills no window is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # importing torch takes seconds, and slicing works on arrays and tensors alike
    import torch

Sequence = TypeVar("Sequence", np.ndarray, "torch.Tensor")


def windows(tokens: Sequence, targets: Sequence, length: int) -> tuple[Sequence, Sequence]:
    """Cut a sequence and its targets into windows.

    Parameters
    ----------
    tokens : array or Tensor
        (T,): the tokens.
    targets : array or Tensor
        (T,): what is to be predicted at each of them, usually the next token.
    length : int
        Tokens a window, at most T.

    Returns
    -------
    tokens, targets : array or Tensor
        Both (T // length, length), of the same kind and dtype; they share the input's memory.

    Raises
    ------
    ValueError
        When the two are not 1-D and equally long, or do not fill one window.

    Examples
    --------
    >>> x, y = windows(np.arange(10), np.arange(1, 11), 4)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    """
    shapes = tuple(tokens.shape), tuple(targets.shape)
    if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise ValueError(
            f"tokens {shapes[0]} and targets {shapes[1]} must be one-dimensional and equally long: "
            "give the whole text, not windows of it"
        )
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= len(tokens):
        raise ValueError(
            f"length={length!r}: give a whole number from 1 to {len(tokens)}, the tokens there are"
        )
    count = len(tokens) // length
    return tokens[: count * length].reshape(count, length), targets[: count * length].reshape(count, length)
