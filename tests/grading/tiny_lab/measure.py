"""How the capstone of the tiny lab is measured; students get this file."""

import torch

from dca_lab.grading import Score

ERROR = 0.45  # relative error of the outputs that is allowed


def judge_sparse(answer, case):
    """Points grow from a third of the weights zero to two thirds, as long as the outputs stay near."""
    (w,) = case.args
    try:
        answer = torch.as_tensor(answer, dtype=w.dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return Score(0.0, "Return an array of weights.")
    if answer.shape != w.shape:
        return Score(0.0, "Return as many weights as you were given.")
    x = case.held["inputs"]
    error = float(torch.linalg.norm(x @ answer - x @ w) / torch.linalg.norm(x @ w))
    if not error <= ERROR:
        return Score(0.0, f"The outputs are too far away: the relative error is above {ERROR}.")
    zeros = float((answer == 0).double().mean())
    fraction = min(1.0, max(0.0, 3 * zeros - 1))
    if fraction == 1.0:
        return Score(1.0, "Two thirds of the weights are zero, and the outputs stay near.")
    return Score(fraction, "More weights could be zero: two thirds give all points.")
