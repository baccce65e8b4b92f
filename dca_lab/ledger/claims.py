"""A sentence of the book that a cell can falsify.

``claim("int8 loses at most half a point", drop <= 0.005)`` prints that it holds, or stops the notebook. A
condition that is not plainly true or false is refused: an array (is it *any* or *all*?), a number, a NaN, a
missing value.

What this is *not*: a test of the code. Claims are about what was measured in this run, on this machine.
"""

from __future__ import annotations

from typing import Any


class ClaimError(AssertionError):
    """A claim that does not hold; its message is the sentence."""


def _plain_truth(condition: Any) -> bool:
    kind = f"{type(condition).__module__}.{type(condition).__qualname__}"
    if isinstance(condition, bool):
        return condition
    shape = getattr(condition, "shape", None)
    if shape is not None and "bool" in str(getattr(condition, "dtype", "")):
        if len(shape) == 0:
            return bool(condition)
        raise ValueError(
            f"the condition is an array of shape {tuple(shape)}: say which is meant, .all() or .any()"
        )
    hint = "compare it with something, as in `drop <= 0.005`"
    if isinstance(condition, float) and condition != condition:
        raise ValueError(f"the condition is NaN, neither true nor false: {hint}")
    raise ValueError(f"the condition is {condition!r} of type {kind}, neither True nor False: {hint}")


def claim(text: str, condition: Any) -> None:
    """Assert a sentence: print ``holds: text``, or raise.

    Parameters
    ----------
    text : str
        The sentence as the prose says it.
    condition : bool
        Also a numpy or torch boolean without dimensions. A comparison with NaN is false.

    Raises
    ------
    ClaimError
        If the condition is false; the message is `text`.
    ValueError
        If the condition is not a single boolean, or the text is empty.

    Examples
    --------
    >>> claim("two and two make four", 2 + 2 == 4)
    holds: two and two make four
    >>> claim("two and two make five", 2 + 2 == 5)
    Traceback (most recent call last):
    ...
    dca_lab.ledger.claims.ClaimError: does not hold: two and two make five
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text={text!r}: say in words what is claimed")
    if not _plain_truth(condition):
        raise ClaimError(f"does not hold: {text}")
    print(f"holds: {text}")
