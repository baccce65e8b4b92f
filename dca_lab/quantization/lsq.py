r"""Learned step size: the width of the grid's steps is a parameter like any other, trained with the weights.

With v the value, s the step, :math:`-Q_N` and :math:`Q_P` the lowest and the highest level,

.. math:: \hat v = s\ \mathrm{clip}(\mathrm{round}(v / s), -Q_N, Q_P), \qquad
   \frac{\partial \hat v}{\partial s} = \begin{cases}
   \mathrm{round}(v / s) - v / s & -Q_N \le \mathrm{round}(v / s) \le Q_P \\ -Q_N & \text{below} \\ Q_P & \text{above}
   \end{cases}

Values beyond the range pull the step up, values just past a rounding threshold push it about: the step settles
where clipping and rounding cost the *task* the same, not where the squared error is least. One step hears all its
N values, so its gradient is damped by :math:`g = 1 / \sqrt{N Q_P}`; it starts at
:math:`2\,\overline{|v|} / \sqrt{Q_P}`.

S. K. Esser, J. L. McKinstry, D. Bablani, R. Appuswamy, D. S. Modha, "Learned Step Size Quantization", ICLR 2020
(equations 1 to 3 and section 2.2).

What this file is *not*: to the letter the paper. It clips before it rounds, so that the half step beyond the last
level counts as clipped; here it still rounds to that level, as in torch. The paper learns one step a layer, here a
step may belong to a channel, and a grid may have a fixed ``zero_point`` (values of both signs on unsigned levels);
LSQ+ learns that as well (Y. Bhalgat et al., "LSQ+: Improving Low-Bit Quantization through Learnable Offsets and
Better Initialization", CVPR Workshops 2020). Under Adam, which divides a gradient by
its own size, the factor g hardly matters: it is for SGD, the paper's optimizer, that it balances the updates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dca_lab.quantization.affine import levels
from dca_lab.quantization.observers import Observer
from dca_lab.quantization.ste import fake_quantize_ste

_SMALLEST = 1e-8  # a step of zero would divide by zero; nothing that is trained comes near it


def initial_step(v: Tensor, *, q_max: int, axis: int | None = None) -> Tensor:
    """The paper's first step: twice the mean magnitude over the root of the highest level.

    Parameters
    ----------
    v : Tensor
        Weights, or activations of a first batch; any shape, float.
    q_max : int
        The highest level above zero, at least 1.
    axis : int, optional
        The axis of channels that have a step each; default one step for all.

    Returns
    -------
    Tensor
        0-d, or ones in every axis but `axis`; positive, also where all values are zero.

    Raises
    ------
    ValueError
        No values, values that are not finite, q_max below 1.

    Examples
    --------
    >>> initial_step(torch.tensor([[1.0, -1.0], [4.0, 0.0]]), q_max=4, axis=0).tolist()
    [[1.0], [2.0]]
    """
    if v.numel() == 0 or not bool(torch.isfinite(v).all()):
        raise ValueError(f"a step needs finite values, got {v.numel()} of them with NaN, infinity or none")
    if q_max < 1:
        raise ValueError(f"the highest level must be at least 1, not {q_max}")
    other = [d for d in range(v.ndim) if axis is not None and d != axis % v.ndim]
    size = v.detach().abs().mean() if axis is None else v.detach().abs().mean(other, keepdim=True)
    return (2 * size / q_max**0.5).clamp(min=_SMALLEST)


class FirstStepObserver(Observer):
    """The range of the paper's first step, for activations: unsigned levels, or both signs if values have them.

    Parameters
    ----------
    bits : int
        2 to 8.

    Examples
    --------
    >>> observer = FirstStepObserver(bits=2)
    >>> observer.update(torch.tensor([0.0, 3.0]))  # Q_P = 3: step 2 * 1.5 / sqrt(3)
    >>> [round(end / 3**0.5, 4) for end in observer.range()]
    [0.0, 3.0]
    """

    def __init__(self, *, bits: int = 8) -> None:
        super().__init__(bits=bits)
        self._sum, self._count, self._low = 0.0, 0, 0.0

    def _update(self, x: Tensor, low: float, high: float) -> None:
        self._sum, self._count = self._sum + float(x.abs().double().sum()), self._count + x.numel()
        self._low = min(self._low, low)

    def _range(self) -> tuple[float, float]:
        low, high = levels(self.bits, signed=self._low < 0)
        step = max(2 * self._sum / self._count / high**0.5, _SMALLEST)
        return low * step, high * step


def gradient_scale(count: int, *, q_max: int) -> float:
    """The factor 1 / sqrt(N Q_P) on a step's gradient.

    Parameters
    ----------
    count : int
        N: the weights that share the step; for activations, the features of one example that share it.
    q_max : int
        The highest level above zero.

    Examples
    --------
    >>> gradient_scale(100, q_max=4)
    0.05
    """
    if count < 1 or q_max < 1:
        raise ValueError(f"count and q_max must be at least 1, got {count} and {q_max}")
    return (count * q_max) ** -0.5


def scaled_gradient(step: Tensor, factor: float) -> Tensor:
    """The same value, whose gradient reaches `step` times `factor`.

    Examples
    --------
    >>> step = torch.tensor(3.0, requires_grad=True)
    >>> (2 * scaled_gradient(step, 0.25)).backward()
    >>> step.grad.item()
    0.5
    """
    return step.detach() + (step - step.detach()) * factor


class LearnedStep(nn.Module):
    """Fake-quantizes what passes through, with a step that is trained.

    Parameters
    ----------
    step : Tensor
        The first step: 0-d, or broadcasting against the input, positive.
    bits : int
        2 to 8.
    signed, symmetric
        The levels, as in :func:`dca_lab.quantization.affine.levels`: signed and symmetric for weights.
    zero_point : int
        The level of 0, fixed.
    learned : bool
        False keeps the step where it is: the plain straight-through estimator.
    batched : bool
        True for activations: the first axis counts examples, which are not counted in N.

    Examples
    --------
    >>> grid = LearnedStep(torch.full((3, 1), 0.1), bits=4, signed=True, symmetric=True)
    >>> y = grid(torch.randn(3, 50))
    >>> y.sum().backward()
    >>> y.shape, grid.step.grad.shape
    (torch.Size([3, 50]), torch.Size([3, 1]))
    """

    def __init__(
        self,
        step: Tensor,
        *,
        bits: int,
        signed: bool = False,
        symmetric: bool = False,
        zero_point: int = 0,
        learned: bool = True,
        batched: bool = False,
    ):
        super().__init__()
        if not bool(((step > 0) & torch.isfinite(step)).all()):
            raise ValueError(f"the first step must be positive and finite, got {step}")
        self.step = nn.Parameter(step.detach().clone().float(), requires_grad=learned)
        self.bits, self.signed, self.symmetric = bits, signed, symmetric
        self.zero_point, self.batched = int(zero_point), batched
        self.q_min, self.q_max = levels(bits, signed=signed, symmetric=symmetric)

    @property
    def scale(self) -> Tensor:
        """The step in use: an update that overshoots zero is reflected, so that the step stays positive."""
        return self.step.abs().clamp(min=_SMALLEST)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, on the grid."""
        count = (x[0].numel() if self.batched else x.numel()) // self.step.numel()
        factor = gradient_scale(max(1, count), q_max=max(1, self.q_max - self.zero_point))
        return fake_quantize_ste(
            x,
            scaled_gradient(self.scale, factor),
            self.zero_point,
            bits=self.bits,
            signed=self.signed,
            symmetric=self.symmetric,
        )

    def extra_repr(self) -> str:
        kind = "signed" if self.signed else f"unsigned, zero_point {self.zero_point}"
        return f"{self.bits} bits, {kind}, {self.step.numel()} steps"
