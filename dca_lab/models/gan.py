"""A generative adversarial network for digits: the generator draws, the discriminator tells drawn from real.

    min_G max_D  E[log D(x)] + E[log(1 - D(G(z)))],   z ~ N(0, I)

Papers: I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS, 2014; the architecture (strided
convolutions, batch-norm, LeakyReLU, N(0, 0.02) weights): A. Radford, L. Metz, S. Chintala, "Unsupervised
Representation Learning with Deep Convolutional Generative Adversarial Networks", ICLR, 2016. The
discriminator returns a logit, *not* D(x): the sigmoid belongs in the loss.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _initialise(module: nn.Module) -> None:
    """The DCGAN paper's initial weights; batch-norm keeps torch's ones and zeros."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=0.02)


class Generator(nn.Module):
    """Draws digits from noise.

    Parameters
    ----------
    latent : int
        Length of the noise vector.
    channels : int
        Channels of the last hidden layer; the one before has twice as many.

    Examples
    --------
    >>> Generator()(torch.zeros(5, 64)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(self, *, latent: int = 64, channels: int = 64):
        super().__init__()
        self.deconv1 = nn.ConvTranspose2d(latent, 2 * channels, 7, bias=False)
        self.bn1 = nn.BatchNorm2d(2 * channels)
        self.deconv2 = nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.deconv3 = nn.ConvTranspose2d(channels, 1, 4, stride=2, padding=1)
        _initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures (B, 1, 28, 28) in [-1, 1] from noise z (B, latent)."""
        x = z[:, :, None, None]  # (B, latent, 1, 1)
        x = F.relu(self.bn1(self.deconv1(x)))  # (B, 2 channels, 7, 7)
        x = F.relu(self.bn2(self.deconv2(x)))  # (B, channels, 14, 14)
        return torch.tanh(self.deconv3(x))  # (B, 1, 28, 28)


class Discriminator(nn.Module):
    """Says how real a digit looks.

    Parameters
    ----------
    channels : int
        Channels of the first convolution; the second has twice as many.

    Examples
    --------
    >>> Discriminator()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5])
    """

    def __init__(self, *, channels: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * channels)
        self.fc = nn.Linear(2 * channels * 7 * 7, 1)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) of pictures x (B, 1, 28, 28): above zero means real."""
        x = F.leaky_relu(self.conv1(x), 0.2)  # (B, channels, 14, 14)
        x = F.leaky_relu(self.bn2(self.conv2(x)), 0.2)  # (B, 2 channels, 7, 7)
        return self.fc(torch.flatten(x, 1)).squeeze(1)  # (B, 1) -> (B,)
