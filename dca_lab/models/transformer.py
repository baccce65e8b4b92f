"""A small transformer language model: pre-norm blocks of causal self-attention and a two-layer perceptron.

    x = x + attention(norm(x));   x = x + mlp(norm(x))
    attention = softmax(q k^T / sqrt(head_dim) + causal mask) v

Papers: A. Vaswani et al., "Attention Is All You Need", NeurIPS, 2017; the order "normalise, transform, add"
is that of GPT-2: A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; N(0, 0.02)
embeddings are GPT's: A. Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.
It is *not* a copy of either: q, k and v are three layers, and the number of heads is read off their width, so
whole heads can be removed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalSelfAttention(nn.Module):
    """Every position looks at itself and at what came before it."""

    def __init__(self, *, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads} must divide width={width}: choose a divisor")
        self.head_dim = width // heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        B, T, _ = x.shape
        q = self.q(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, heads, T, head_dim)
        k = self.k(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        v = self.v(x).view(B, T, -1, self.head_dim).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, head_dim)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, T, heads * head_dim) -> (B, T, width)


class Block(nn.Module):
    """One transformer block: attention mixes positions, the perceptron mixes channels."""

    def __init__(self, *, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))  # through (B, T, 4 width)


class TransformerLM(nn.Module):
    """Predicts the next token at every position.

    `layers` blocks of `width` channels and `heads` heads read at most `context` tokens below `vocabulary`.

    Examples
    --------
    >>> TransformerLM()(torch.zeros(5, 7, dtype=torch.int64)).shape
    torch.Size([5, 7, 128])
    """

    def __init__(
        self,
        *,
        vocabulary: int = 128,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        context: int = 64,
    ):
        super().__init__()
        self.context = context
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(Block(width=width, heads=heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, vocabulary) of tokens (B, T), int64, T at most `context`."""
        T = tokens.shape[1]
        torch._assert(T <= self.context, f"at most {self.context} tokens fit the context: cut the sequence")
        x = self.token(tokens) + self.position[:T]  # (B, T, width)
        x = self.norm(self.blocks(x))  # (B, T, width)
        return self.head(x)  # (B, T, vocabulary)
