"""The networks that every chapter stands on: one file a model, each short enough to read whole.

Plain modules with a plain ``forward(x)``: no registry to subclass, no configuration files. ``build(name)``
makes a model with its defaults, ``example_input(name)`` a tensor that it accepts, ``NAMES`` lists both. What
is *not* here: trained weights. A chapter that needs a trained network trains it, in front of the reader.
"""

from dca_lab.models.digit_cnn import DigitCNN
from dca_lab.models.gan import Discriminator, Generator
from dca_lab.models.gru import GRUClassifier
from dca_lab.models.lenet5 import LeNet5
from dca_lab.models.lenet300 import LeNet300
from dca_lab.models.resnet18 import ResNet18
from dca_lab.models.small_cnn import SmallCNN
from dca_lab.models.transformer import TransformerLM
from dca_lab.models.zoo import NAMES, build, example_input

__all__ = [
    "NAMES",
    "DigitCNN",
    "Discriminator",
    "GRUClassifier",
    "Generator",
    "LeNet300",
    "LeNet5",
    "ResNet18",
    "SmallCNN",
    "TransformerLM",
    "build",
    "example_input",
]
