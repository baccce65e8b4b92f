"""More networks: how well-known architectures write what `channel_networks` spells out one by one."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from channel_networks import IMAGE, Residual, cbr
from torch import nn


class ConvNeXt(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.dw = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.n = nn.LayerNorm(c)
        self.a = nn.Linear(c, 4 * c)
        self.b = nn.Linear(4 * c, c)
        self.gamma = nn.Parameter(torch.randn(c))

    def forward(self, x):
        y = self.dw(x).permute(0, 2, 3, 1)
        y = self.b(F.gelu(self.a(self.n(y))))
        y = (self.gamma * y).permute(0, 3, 1, 2)
        return x + y


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 2, 2)
        self.cls = nn.Parameter(torch.randn(1, 1, 16))
        self.pos = nn.Parameter(torch.randn(1, 17, 16))
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)
        self.heads = 4
        self.scale = 4**-0.5

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
        B, N, C = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        a = (q * self.scale) @ k.transpose(-2, -1)
        a = a.softmax(dim=-1)
        x = x + self.proj((a @ v).transpose(1, 2).reshape(B, N, C))
        x = x + self.mlp(self.norm(x))
        return self.head(x[:, 0])


class SEc(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = cbr(c, c)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1), nn.Hardsigmoid()
        )

    def forward(self, x):
        x = self.conv(x)
        return x * self.se(x)


class CBAM(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = cbr(c, c)
        self.sp = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        x = self.conv(x)
        m = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.sp(m))


class OptA(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = cbr(8, 16)
        self.c2 = nn.Conv2d(16, 16, 3, 2, 1)

    def forward(self, x):
        return F.relu(self.c2(self.c1(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))


class ShuffleV2(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.b = nn.Sequential(
            cbr(c // 2, c // 2, 1),
            nn.Conv2d(c // 2, c // 2, 3, padding=1, groups=c // 2),
            cbr(c // 2, c // 2, 1),
        )

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.b(b)), dim=1)
        B, C, H, W = x.size()
        return torch.transpose(x.view(B, 2, C // 2, H, W), 1, 2).contiguous().view(B, -1, H, W)


class C2f(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.cv1 = cbr(c, 8)
        self.m = nn.ModuleList(cbr(4, 4) for _ in range(2))
        self.cv2 = cbr(16, c)

    def forward(self, x):
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class TiedAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(192, 12)
        self.f = nn.Linear(12, 7)
        self.g = nn.Linear(7, 12)
        self.b = nn.Parameter(torch.randn(192))

    def forward(self, x):
        h = torch.relu(self.e(x.flatten(1)))
        h = torch.relu(self.g(torch.relu(self.f(h))))
        return F.linear(h, self.e.weight.t(), self.b)


class View(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 6, 3)
        self.bn = nn.BatchNorm1d(10)
        self.a = nn.Linear(216, 10)
        self.h = nn.Linear(10, 3)

    def forward(self, x):
        x = F.relu(self.c(x))
        x = x.view(x.size(0), -1)
        return OrderedDict(out=self.h(F.relu(self.bn(self.a(x)))), aux=(x.sum(1),))


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 16)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16, bias=False) for _ in range(4))
        self.h = nn.Linear(16, 11, bias=False)
        self.w1, self.w2, self.w3 = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 24)
        self.register_buffer("cos", torch.rand(32, 4))
        self.register_buffer("sin", torch.rand(32, 4))
        self.register_buffer("mask", torch.tril(torch.ones(32, 32)))
        self.g = nn.Parameter(torch.rand(16))

    def rms(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.g

    def rot(self, x):
        T = x.shape[-2]
        a, b = x.chunk(2, -1)
        return x * self.cos[:T] + torch.cat((-b, a), -1) * self.sin[:T]

    def forward(self, x):
        x = self.e(x)
        B, T, C = x.shape
        y = self.rms(x)
        q, k, v = (f(y).view(B, T, 4, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = self.rot(q), self.rot(k)
        a = torch.einsum("bhid,bhjd->bhij", q, k) / 2
        a = a.masked_fill(self.mask[:T, :T] == 0, float("-inf")).softmax(-1)
        x = x + self.o(torch.einsum("bhij,bhjd->bhid", a, v).transpose(1, 2).reshape(B, T, C))
        y = self.rms(x)
        x = x + self.w2(F.silu(self.w1(y)) * self.w3(y))
        return self.h(self.rms(x))


class LinAtt(nn.Module):  # single head non-local block
    def __init__(self):
        super().__init__()
        self.s = cbr(3, 8)
        self.q, self.k, self.v = (nn.Conv2d(8, 6, 1) for _ in range(3))
        self.o = nn.Conv2d(6, 8, 1)
        self.h = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.s(x)
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        a = torch.bmm(q.transpose(1, 2), k).softmax(-1)
        y = torch.bmm(v, a.transpose(1, 2)).view(x.size(0), -1, x.size(2), x.size(3))
        return self.h(x + self.o(y))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Conv2d(3, 12, 2, 2)
        self.t = nn.Sequential(nn.Linear(16, 10), nn.GELU(), nn.Linear(10, 16))
        self.c = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.n = nn.LayerNorm(12)
        self.h = nn.Linear(12, 3)

    def forward(self, x):
        x = self.p(x).flatten(2).transpose(1, 2)
        x = x + self.t(self.n(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.c(self.n(x))
        return self.h(x.mean(1))


class Mixer2(Mixer):
    def forward(self, x):
        x = self.p(x).flatten(2).transpose(1, 2)
        x = x + self.t(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.c(x)
        return self.h(x.mean(1))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight1 = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.bias1 = nn.Parameter(torch.randn(8))
        self.weight2 = nn.Parameter(torch.randn(4, 8, 1, 1))
        self.m = nn.Parameter(torch.randn(4, 6))
        self.h = nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(F.conv2d(x, self.weight1, self.bias1))
        x = F.conv2d(x, self.weight2).mean(3).mean(2)
        return self.h(torch.tanh(x @ self.m))


class Sub(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def subs():
    return nn.Sequential(
        Sub(3, 8, 3, padding=1),
        nn.ReLU(),
        Sub(8, 8, 3, padding=1, groups=8),
        Sub(8, 6, 1),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    )


def conv1d():
    return nn.Sequential(
        nn.Flatten(2),
        nn.Conv1d(3, 8, 5),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 6, 3),
        nn.LayerNorm(28),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


class Conv3(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv3d(1, 6, 2)
        self.b = nn.BatchNorm3d(6)
        self.c = nn.ConvTranspose3d(6, 4, 2, groups=2)
        self.d = nn.InstanceNorm3d(4)
        self.e = nn.InstanceNorm3d(4, affine=True)
        self.h = nn.Conv3d(4, 2, 1)

    def forward(self, x):
        return self.h(self.e(self.d(self.c(F.relu(self.b(self.a(x.unsqueeze(1))))))))


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = cbr(3, 8)
        self.b = nn.Conv2d(8, 8, 1)
        self.l = nn.LocalResponseNorm(3)
        self.c = nn.Conv2d(8, 6, 1)
        self.d = nn.Conv2d(6, 6, 1)
        self.h = nn.Linear(6, 2)

    def forward(self, x):
        x = self.l(self.b(self.a(x)))
        x = F.normalize(self.c(x), dim=1)
        return self.h(torch.softmax(self.d(x), 1).amax((2, 3)))


IDIOMS = {
    "convnext": (lambda: Residual(ConvNeXt(8), ConvNeXt(8)), IMAGE),
    "vit": (ViT, IMAGE),
    "sec": (lambda: Residual(SEc(8)), IMAGE),
    "cbam": (lambda: Residual(CBAM(8), cbr(8, 6)), IMAGE),
    "opta": (lambda: Residual(cbr(8, 8), OptA()), IMAGE),
    "shv2": (lambda: Residual(ShuffleV2(8), cbr(8, 8), ShuffleV2(8)), IMAGE),
    "c2f": (lambda: Residual(C2f(8), C2f(8)), IMAGE),
    "tied": (TiedAE, IMAGE),
    "rotary": (Rotary, "tokens"),
    "nonlocal": (LinAtt, IMAGE),
    "mixer": (Mixer, IMAGE),
    "mixer2": (Mixer2, IMAGE),
    "functional": (Functional, IMAGE),
    "subs": (subs, IMAGE),
    "conv1d": (conv1d, IMAGE),
    "conv3": (Conv3, IMAGE),
    "norms": (Norms, IMAGE),
}
