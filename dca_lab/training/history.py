"""What a training run leaves behind: its losses, its accuracies, its duration.

It is *not* a log file and holds no weights.
"""

from dataclasses import dataclass, field


@dataclass
class History:
    """The course of one training run, over all its sessions when it was interrupted and resumed.

    Attributes
    ----------
    losses : list[float]
        The mean loss of each mini-batch, one a step, before that step's update.
    accuracies : list[float]
        The accuracy in [0, 1] on the validation set, one an epoch; empty when there was none.
    seconds : float
        Elapsed (wall clock) seconds, validation and callbacks included; work that was lost to an interruption
        is not.

    Examples
    --------
    >>> History(losses=[2.0, 1.5], accuracies=[0.5]).steps
    2
    """

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """How many optimizer steps were taken."""
        return len(self.losses)
