"""Unusual answers of the lab "A network in integers" that are right, and must get all points.

A loop, numpy instead of torch, float64 instead of float32, another formula with the same value. What this file is
*not*: shown to students, or the solutions: those stand in `lab.ipynb`.
"""

import math

import numpy as np
import torch

from dca_lab.grading import right

# 1. affine_params ------------------------------------------------------------------


@right("affine_params")
def affine_in_numpy(x_min, x_max, bits):
    ends = np.array([x_min, x_max, 0.0])
    if not np.isfinite(ends).all() or x_min > x_max:
        raise ValueError("impossible range")
    width = np.ptp(ends)
    if width == 0:
        return np.float64(1), np.int64(0)
    scale = width / (2**bits - 1)
    return scale, np.rint(-ends.min() / scale).astype(np.int64)


@right("affine_params")
def affine_in_float32_torch(x_min, x_max, bits):
    low, high = torch.tensor(float(x_min)), torch.tensor(float(x_max))
    if not (torch.isfinite(low) and torch.isfinite(high) and low <= high):
        raise ValueError("impossible range")
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    if scale == 0:
        return [torch.tensor(1.0), torch.tensor(0)]
    return [scale, torch.round(-low / scale).int()]


@right("affine_params")
def affine_from_the_top(x_min, x_max, bits):
    if math.isnan(x_min + x_max) or math.isinf(x_min) or math.isinf(x_max):
        raise ValueError("not finite")
    if x_max < x_min:
        raise ValueError("upside down")
    low, high = (x_min if x_min < 0 else 0.0), (x_max if x_max > 0 else 0.0)
    width = high - low
    return (
        (width / (2**bits - 1), round(-low * (2**bits - 1) / width))
        if width
        else (1, 0)
    )


# 2. quantize -----------------------------------------------------------------------


@right("quantize")
def quantize_in_numpy(x, scale, zero_point, bits):
    values = np.asarray(x, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    return np.clip(np.rint(values / scale) + zero_point, 0, 2**bits - 1).astype(
        np.uint8
    )


@right("quantize")
def quantize_in_a_loop(x, scale, zero_point, bits):
    levels = []
    for value in x.flatten().tolist():
        if not math.isfinite(value):
            raise ValueError("not finite")
        levels.append(min(max(round(value / scale) + zero_point, 0), 2**bits - 1))
    return torch.tensor(levels).reshape(x.shape)


@right("quantize")
def quantize_by_reciprocal(x, scale, zero_point, bits):
    if x.isnan().any() or x.isinf().any():
        raise ValueError("not finite")
    steps = torch.round(x.float() * (1 / scale))
    return steps.clamp(-zero_point, 2**bits - 1 - zero_point).short() + zero_point


# 3. channel_scales -----------------------------------------------------------------


@right("channel_scales")
def scales_in_a_loop(weight, bits=None):
    bits = 4 if bits is None else bits
    scales = []
    for channel in weight:
        largest = float(channel.abs().max())
        if not math.isfinite(largest):
            raise ValueError("not finite")
        scales.append(largest / (2 ** (bits - 1) - 1) if largest > 0 else 1.0)
    return scales


@right("channel_scales")
def scales_in_numpy(weight, bits=None):
    bits = 4 if bits is None else bits
    rows = np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)
    if not np.isfinite(rows).all():
        raise ValueError("not finite")
    scale = np.abs(rows).max(axis=1) / (2 ** (bits - 1) - 1)
    scale[scale == 0] = 1
    return scale


@right("channel_scales")
def scales_of_both_ends(weight, bits=None):
    bits = 4 if bits is None else bits
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("not finite")
    dims = tuple(range(1, weight.ndim))
    largest = torch.maximum(weight.amax(dims), -weight.amin(dims))
    return torch.where(largest == 0, 1.0, largest / (2 ** (bits - 1) - 1))


# 4. best_clip ----------------------------------------------------------------------


@right("best_clip")
def clip_in_numpy(x, bits, candidates):
    values, top = np.asarray(x, dtype=np.float64).ravel(), 2 ** (bits - 1) - 1
    scales = np.array(candidates)[:, None] / top
    rounded = np.clip(np.rint(values / scales), -top, top) * scales
    return candidates[int(((values - rounded) ** 2).sum(axis=1).argmin())]


@right("best_clip")
def clip_values_first(x, bits, candidates):
    top = 2 ** (bits - 1) - 1
    values = x.float()

    def error(clip):
        inside = values.clamp(-clip, clip)
        rounded = torch.round(inside / clip * top) * (clip / top)
        return float(torch.mean((values - rounded) ** 2))

    return min(candidates, key=error)


@right("best_clip")
def clip_in_a_loop(x, bits, candidates):
    top, best, least = 2 ** (bits - 1) - 1, None, None
    values = x.flatten().tolist()
    for clip in candidates:
        scale, errors = clip / top, []
        for value in values:
            q = max(-top, min(top, round(value / scale)))
            errors.append((value - q * scale) ** 2)
        error = math.fsum(errors)
        if least is None or error < least:
            best, least = clip, error
    return best


# 5. integer_linear -----------------------------------------------------------------


@right("integer_linear")
def linear_with_correction(q_x, zero_x, q_w, bias):
    q_w = q_w.to(torch.int32)
    return (
        q_x.to(torch.int32) @ q_w.T - zero_x * q_w.sum(dim=1, dtype=torch.int32) + bias
    )


@right("integer_linear")
def linear_in_numpy(q_x, zero_x, q_w, bias):
    x, w = np.asarray(q_x).astype(np.int64) - zero_x, np.asarray(q_w).astype(np.int64)
    return np.einsum("bi,oi->bo", x, w) + np.asarray(bias)


@right("integer_linear")
def linear_in_float64(q_x, zero_x, q_w, bias):  # exact: 53 bits hold every sum here
    return ((q_x.double() - zero_x) @ q_w.double().T + bias).to(torch.int64)


@right("integer_linear")
def linear_in_a_loop(q_x, zero_x, q_w, bias):
    rows = []
    for xs in q_x.tolist():
        sums = []
        for ws, b in zip(q_w.tolist(), bias.tolist(), strict=True):
            sums.append(sum((xs[k] - zero_x) * ws[k] for k in range(len(xs))) + b)
        rows.append(sums)
    return rows


# 6. requantize ---------------------------------------------------------------------


@right("requantize")
def requantize_in_python(acc, multiplier, shift, zero_point):
    half = 1 << (shift - 1)
    levels = [
        ((a * multiplier + half) >> shift) + zero_point for a in acc.flatten().tolist()
    ]
    return torch.tensor([min(max(level, 0), 255) for level in levels]).reshape(
        acc.shape
    )


@right("requantize")
def requantize_in_numpy(acc, multiplier, shift, zero_point):
    wide = np.asarray(acc).astype(np.int64) * multiplier + 2 ** (shift - 1)
    return np.clip(wide // 2**shift + zero_point, 0, 255).astype(np.uint8)


@right("requantize")
def requantize_zero_point_shifted(acc, multiplier, shift, zero_point):
    whole, rest = (
        acc.long() * multiplier >> shift,
        acc.long() * multiplier % (1 << shift),
    )
    up = (rest >= (1 << (shift - 1))).long()
    return torch.clamp(whole + up + zero_point, 0, 255)


# 7. saturating_dot -----------------------------------------------------------------


@right("saturating_dot")
def saturating_in_a_loop(q_x, q_w):
    x, w, total = q_x.tolist(), q_w.tolist(), 0
    for k in range(0, len(x), 2):
        pair = sum(a * b for a, b in zip(x[k : k + 2], w[k : k + 2], strict=True))
        total += max(-32768, min(32767, pair))
    return total


@right("saturating_dot")
def saturating_in_numpy(q_x, q_w):
    products = np.asarray(q_x).astype(np.int32) * np.asarray(q_w).astype(np.int32)
    even, odd = products[0::2], products[1::2]
    odd = np.concatenate([odd, np.zeros(len(even) - len(odd), dtype=np.int32)])
    return np.clip(even + odd, -(2**15), 2**15 - 1).sum()


@right("saturating_dot")
def saturating_minus_the_excess(q_x, q_w):
    products = q_x.int() * q_w.int()
    if len(products) % 2:
        products = torch.cat([products, products.new_zeros(1)])
    pairs = products.reshape(-1, 2).sum(dim=1)
    over, under = (pairs - 32767).clamp(min=0), (pairs + 32768).clamp(max=0)
    return pairs.sum() - over.sum() - under.sum()


# 8. compress -----------------------------------------------------------------------


@right("compress")
def compress_in_numpy(state, x):
    h, answer = np.asarray(x, dtype=np.float64), {}
    names = [name for name in state if name.endswith("weight")]
    for name in names:
        weight = np.asarray(state[name], dtype=np.float64)
        bias = np.asarray(state[name.replace("weight", "bias")])
        bits = 4 if name == names[-1] else 3
        top = 2 ** (bits - 1) - 1
        scales, codes, rounded = np.empty(len(weight)), [], []
        for row, channel in enumerate(weight):
            true, least = h @ channel, np.inf
            for clip in np.abs(channel).max() * np.linspace(0.3, 1.0, 29):
                scale = max(clip, 1e-3) / top
                q = np.clip(np.rint(channel / scale), -top, top)
                error = ((h @ (q * scale) - true) ** 2).sum()
                if error < least:
                    least, best, scales[row] = error, q, scale
            codes.append(best.astype(int) + 2 ** (bits - 1))
            rounded.append(best * scales[row])
        answer[name] = {"bits": bits, "codes": np.array(codes), "scale": scales}
        h = np.maximum(h @ np.array(rounded).T + bias, 0)
    return answer


@right("compress")
def compress_with_zero_points(state, x):
    answer, inputs = {}, x.double()
    names = [name for name in state if "weight" in name]
    for name in names:
        weight = state[name].double()
        bits = 4 if name == names[-1] else 3
        top = 2**bits - 1
        gram, best = inputs.T @ inputs, None
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        for part in torch.linspace(0.3, 1.0, 29, dtype=torch.float64):
            scale = (part * (high.clamp(min=0) - low.clamp(max=0)) / top).clamp(
                min=1e-4
            )
            scale = scale.half().double()
            zero = torch.round(-part * low.clamp(max=0) / scale).clamp(0, top)
            q = (torch.round(weight / scale) + zero).clamp(0, top)
            wrong_by = weight - scale * (q - zero)
            error = ((wrong_by @ gram) * wrong_by).sum(1, keepdim=True)
            if best is None:
                best = [error, q, scale, zero]
            better = error < best[0]
            new = (error, q, scale, zero)
            best = [torch.where(better, n, b) for n, b in zip(new, best, strict=True)]
        _, q, scale, zero = best
        codes, points = q.to(torch.uint8), zero.to(torch.uint8).flatten()
        answer[name] = {
            "bits": bits,
            "codes": codes,
            "scale": scale,
            "zero_point": points,
        }
        bias = state[name.replace("weight", "bias")]
        inputs = (inputs @ (scale * (q - zero)).T + bias).relu()
    return answer


@right("compress")
def compress_code_by_code(state, x):
    answer, h = {}, x.float()
    names = [name for name in state if name.endswith(".weight")]
    for name in names:
        weight, bits = state[name], (4 if name == names[-1] else 3)
        top = 2 ** (bits - 1) - 1
        gram = h.T @ h
        scale = weight.abs().amax(1).clamp(min=1e-3) * 0.75 / top
        q = torch.round(weight / scale[:, None]).clamp(-top, top)
        for _ in range(3):  # each code in turn becomes the one that suits the others
            for k in range(weight.shape[1]):
                if gram[k, k] > 0:
                    off = weight - q * scale[:, None]
                    off[:, k] = 0
                    ideal = weight[:, k] + off @ gram[:, k] / gram[k, k]
                    q[:, k] = torch.round(ideal / scale).clamp(-top, top)
        answer[name] = {
            "bits": bits,
            "codes": (q + top + 1).int(),
            "scale": scale.tolist(),
        }
        bias = state[name.replace(".weight", ".bias")]
        h = (h @ (q * scale[:, None]).T + bias).relu()
    return answer
