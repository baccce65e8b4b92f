"""Typical wrong answers of the lab "A network in integers".

Each one tests the grader: it must lose its exercise. And each one is a diagnosis: a student whose function gives the
same values reads its message. So a message says what was probably done, and what to try. What this file is *not*:
shown to students; they get the messages and, for the public cases, the values. The number of channels stands in for
the student's own number of bits, as in `checks.py`.
"""

import math

import numpy as np
import torch

from dca_lab.grading import wrong

# 1. affine_params ------------------------------------------------------------------


@wrong(
    "affine_params",
    "Your zero point is clamped to a level, but the range still does not contain zero: no level of your grid is 0, and "
    "the top of the range is cut off. Try the range 3 to 6: widen it to 0 to 6 first, and nothing is left to clamp.",
)
def zero_point_clamped(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    top = 2**bits - 1
    scale = (x_max - x_min) / top or 1.0
    return scale, min(max(round(-x_min / scale), 0), top)


@wrong(
    "affine_params",
    "The range was not widened to contain zero, so the zero point is not one of the levels. Try the values 3, 4, 5 and 6 "
    "with 2 bits: which of your four levels stands for 0?",
)
def not_widened(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    scale = (x_max - x_min) / (2**bits - 1) or 1.0
    return scale, round(-x_min / scale)


@wrong(
    "affine_params",
    "You divided by the number of levels. 2**bits levels have 2**bits - 1 steps between them, as four fence posts "
    "have three gaps: with your scale the top of the range is not reached.",
)
def divided_by_levels(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    low, high = min(x_min, 0.0), max(x_max, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / 2**bits
    return scale, round(-low / scale)


@wrong(
    "affine_params",
    "The fraction of the zero point was dropped instead of rounded. Try the range -1 to 2 with 3 bits: -low / scale is "
    "2.33 there, and 2.67 for the range -1 to 1.625. int() makes 2 of both.",
)
def zero_point_truncated(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    low, high = min(x_min, 0.0), max(x_max, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, int(-low / scale)


@wrong(
    "affine_params",
    "A zero point halfway between two integers was rounded up. This lab rounds half to even, as round(), np.rint and "
    "torch.round do: 2.5 becomes 2 and 3.5 becomes 4.",
)
def half_rounded_up(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    low, high = min(x_min, 0.0), max(x_max, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, math.floor(-low / scale + 0.5)


@wrong(
    "affine_params",
    "The zero point has the wrong sign. Level q stands for scale * (q - zero_point), and level 0 must stand for the "
    "lower end: scale * (0 - zero_point) = low.",
)
def sign_of_zero_point(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    low, high = min(x_min, 0.0), max(x_max, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, round(low / scale)


@wrong(
    "affine_params",
    "A constant range such as 3 to 3 has no width, but it is not empty: widen it to 0 to 3 first. Only a range that "
    "holds nothing but 0 is left without width, and only that one gets the scale 1.",
)
def constant_before_widening(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    if x_min == x_max:
        return 1.0, 0
    low, high = min(x_min, 0.0), max(x_max, 0.0)
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)


@wrong(
    "affine_params",
    "The range 0 to 0 gives the scale 0, and whoever divides by it gets NaN. A layer that is never active has this "
    "range. Return the scale 1 and the zero point 0 for it.",
)
def scale_zero(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    low, high = min(x_min, 0.0), max(x_max, 0.0)
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale) if scale else 0


@wrong(
    "affine_params",
    "This is the symmetric grid: its range is as wide below 0 as above, and half of the levels are wasted when the "
    "values have one sign. Use the ends that were given, widened to contain 0.",
)
def symmetric(x_min, x_max, bits):
    if not (math.isfinite(x_min) and math.isfinite(x_max)) or x_min > x_max:
        raise ValueError
    scale = 2 * max(abs(x_min), abs(x_max)) / (2**bits - 1)
    return scale or 1.0, 2 ** (bits - 1)


@wrong(
    "affine_params",
    "NaN, infinity and an upside-down range came through without an error. min() and max() drop a NaN silently, so "
    "check the ends first: math.isfinite, and x_min <= x_max.",
)
def impossible_ranges(x_min, x_max, bits):
    low, high = min(x_min, x_max), max(x_min, x_max)
    low = low if -math.inf < low < 0 else 0.0
    high = high if 0 < high < math.inf else 0.0
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)


# 2. quantize -----------------------------------------------------------------------


@wrong(
    "quantize",
    "The fraction was dropped instead of rounded. Such errors all have the same sign, and in a sum they add up: that "
    "is what cost the chapter's network most of its accuracy. Round to the nearest level.",
)
def fraction_dropped(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return (torch.floor(x / scale) + zero_point).clamp(0, 2**bits - 1).int()


@wrong(
    "quantize",
    "The fraction was cut off towards zero: int(), .int() and np.trunc do that. Round first, then convert.",
)
def cut_towards_zero(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return (torch.trunc(x / scale) + zero_point).clamp(0, 2**bits - 1).int()


@wrong(
    "quantize",
    "Values halfway between two levels always went up. Half of all ties must go down, or the errors have a mean: "
    "round half to even, as torch.round does. 0.5 becomes 0 and 1.5 becomes 2.",
)
def half_up(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return (torch.floor(x / scale + 0.5) + zero_point).clamp(0, 2**bits - 1).int()


@wrong(
    "quantize",
    "Values halfway between two levels went away from zero. That is the rounding of school, not of this lab: "
    "half goes to even, as torch.round does. 0.5 becomes 0, 1.5 and 2.5 become 2.",
)
def half_away_from_zero(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    steps = torch.sign(x) * torch.floor(torch.abs(x) / scale + 0.5)
    return (steps + zero_point).clamp(0, 2**bits - 1).int()


@wrong(
    "quantize",
    "You rounded after the zero point was added. With an odd zero point that turns each tie around (0.5 + 3 goes to 4, "
    "but round(0.5) + 3 is 3). The chapter's formula rounds x / scale, then adds.",
)
def rounded_after_adding(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return torch.round(x / scale + zero_point).clamp(0, 2**bits - 1).int()


@wrong(
    "quantize",
    "Values outside the range got levels that do not exist. Clamp to 0 and 2**bits - 1.",
)
def not_clamped(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return torch.round(x / scale).long() + zero_point


@wrong(
    "quantize",
    "Your largest level is 2**bits. Counting starts at 0, so the largest of 2**bits levels is 2**bits - 1.",
)
def one_level_too_many(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return (torch.round(x / scale) + zero_point).clamp(0, 2**bits).int()


@wrong(
    "quantize",
    "You clamped before the zero point was added: every negative value becomes the zero point, and the largest "
    "levels lie beyond the grid. Add first, clamp last.",
)
def clamped_too_early(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    return torch.round(x / scale).clamp(0, 2**bits - 1).int() + zero_point


@wrong(
    "quantize",
    "Large values came out small: they were converted to 8 bits before they were clamped, and 300 became 300 - 256 = 44. "
    "Clamp while the numbers are wide, then convert.",
)
def wrapped_around(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    wide = torch.round(x / scale).long() + zero_point
    return (wide % 256).clamp(0, 2**bits - 1).int()


@wrong(
    "quantize",
    "These are signed levels. The grid of this exercise begins at 0: the levels are 0 to 2**bits - 1.",
)
def signed_levels(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    half = 2 ** (bits - 1)
    return (torch.round(x / scale) + zero_point).clamp(-half, half - 1).int()


@wrong(
    "quantize",
    "NaN or infinity got a level, which hides that something broke earlier. Check torch.isfinite(x).all() first and "
    "raise a ValueError.",
)
def nan_got_a_level(x, scale, zero_point, bits):
    top = 2**bits - 1
    steps = torch.nan_to_num(torch.round(x / scale), 0.0, 1e9, -1e9)
    return (steps + zero_point).clamp(0, top).int()


@wrong(
    "quantize",
    "The levels are right, but x itself was changed: whoever called your function still needs it. Operations that end "
    "in an underscore, and /=, work in place.",
)
def changed_its_argument(x, scale, zero_point, bits):
    if not torch.isfinite(x).all():
        raise ValueError
    x /= scale
    return (x.round_() + zero_point).clamp(0, 2**bits - 1).int()


# 3. channel_scales -----------------------------------------------------------------


@wrong(
    "channel_scales",
    "This is one scale for the whole tensor, set by its largest channel. The small channels then share a few levels: "
    "take the maximum within each output channel.",
)
def one_for_all(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    largest = weight.abs().max() / (2 ** (bits - 1) - 1)
    return torch.where(largest > 0, largest, 1.0).repeat(weight.shape[0])


@wrong(
    "channel_scales",
    "These are scales of the *input* channels. A sum runs over the inputs, and a scale that differs inside the sum "
    "cannot leave it. Keep dimension 0, the output channels.",
)
def input_channels(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    largest = weight.abs().transpose(0, 1).flatten(1).amax(1)
    scale = largest / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "The most negative weight was overlooked: the maximum of -3, 1 and 2 is 2, the largest absolute value is 3. Take "
    "abs() before the maximum.",
)
def without_abs(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    scale = weight.flatten(1).amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(weight.flatten(1).abs().amax(1) > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "You divided by 2**(bits - 1). The largest symmetric level is one less (127 for 8 bits): with your scale the largest "
    "weight would need level 128, which is not there.",
)
def divided_by_128(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    scale = weight.flatten(1).abs().amax(1) / 2 ** (bits - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "You divided by 2**bits - 1, the steps of an unsigned grid. A symmetric grid has 2**(bits - 1) - 1 levels on each "
    "side of 0, and the largest weight must land on the last of them.",
)
def unsigned_steps(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    scale = weight.flatten(1).abs().amax(1) / (2**bits - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "A channel of zeros got the scale 0, and 0 / 0 is NaN: one dead channel would poison the network. Give it the "
    "scale 1.",
)
def dead_channel_scale_zero(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    return weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)


@wrong(
    "channel_scales",
    "The scales have the right values and one dimension too many. Return shape (out,): amax without keepdim.",
)
def kept_dimensions(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    scale = weight.flatten(1).abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "Right for a linear layer, not for a convolution: a weight of shape (out, in, kh, kw) has three dimensions to take "
    "the maximum over. weight.flatten(1) makes one of them.",
)
def linear_layers_only(weight, bits=None):
    bits = bits or len(weight)
    if not torch.isfinite(weight).all():
        raise ValueError
    scale = weight.abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "A weight that is NaN or infinite came through. Its channel would have no grid: raise a ValueError.",
)
def not_finite(weight, bits=None):
    bits = bits or len(weight)
    scale = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "Without `bits` you compute with another number of bits than the one that your own notebook gives you. Look it up in the "
    "text of the exercise: your neighbour's is not yours.",
)
def bits_of_another_variant(weight, bits=None):
    if not torch.isfinite(weight).all():
        raise ValueError
    bits = bits or (4 if len(weight) == 3 else 3)
    scale = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "Without `bits` you compute with another number of bits than the one that your own notebook gives you. Look it up in the "
    "text of the exercise: your neighbour's is not yours.",
)
def bits_of_yet_another_variant(weight, bits=None):
    if not torch.isfinite(weight).all():
        raise ValueError
    bits = bits or (4 if len(weight) == 5 else 5)
    scale = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


@wrong(
    "channel_scales",
    "Called with the weight alone, your function stops: `bits` is then None, and you compute with it. Replace None by "
    "your own number of bits first.",
)
def none_as_bits(weight, bits=None):
    if not torch.isfinite(weight).all():
        raise ValueError
    scale = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


# 4. best_clip ----------------------------------------------------------------------


@wrong(
    "best_clip",
    "You kept the widest range. Nothing is clipped then, but all other values share a coarse grid. Compare the whole "
    "squared error: rounding and clipping.",
)
def widest_range(x, bits, candidates):
    return max(candidates)


@wrong(
    "best_clip",
    "The narrowest range always wins, as if what it cuts off cost nothing. Either the levels were not clamped to -L and L, "
    "or only the values inside the range were counted. Quantize and clamp all values, and sum all squared errors.",
)
def clipped_not_counted(x, bits, candidates):
    top, errors = 2 ** (bits - 1) - 1, []
    for clip in candidates:
        scale, inside = clip / top, x[x.abs() <= clip]
        errors.append(float((inside - (inside / scale).round() * scale).square().sum()))
    return candidates[int(np.argmin(errors))]


@wrong(
    "best_clip",
    "This range has the smallest *absolute* error. A network sums products, and the power of the error counts, so "
    "square each error before you sum: a few large ones weigh more.",
)
def absolute_error(x, bits, candidates):
    top, errors = 2 ** (bits - 1) - 1, []
    for clip in candidates:
        scale = clip / top
        q = (x / scale).round().clamp(-top, top)
        errors.append(float((x - q * scale).abs().sum()))
    return candidates[int(np.argmin(errors))]


@wrong(
    "best_clip",
    "This range has the smallest *largest* error, so it is ruled by a single outlier. Sum the squared errors of all "
    "values.",
)
def largest_error(x, bits, candidates):
    top, errors = 2 ** (bits - 1) - 1, []
    for clip in candidates:
        scale = clip / top
        q = (x / scale).round().clamp(-top, top)
        errors.append(float((x - q * scale).abs().max()))
    return candidates[int(np.argmin(errors))]


@wrong(
    "best_clip",
    "Several ranges are equally good (all values are 0, for instance), and you returned the last. Return the first: "
    "replace the best only when the error is strictly smaller.",
)
def last_on_ties(x, bits, candidates):
    top, best, least = 2 ** (bits - 1) - 1, None, math.inf
    for clip in candidates:
        scale = clip / top
        q = (x / scale).round().clamp(-top, top)
        error = float((x - q * scale).square().sum())
        if error <= least:
            best, least = clip, error
    return best


@wrong(
    "best_clip",
    "This is the position of the best candidate. Return the candidate itself: candidates[position].",
)
def position(x, bits, candidates):
    top, errors = 2 ** (bits - 1) - 1, []
    for clip in candidates:
        scale = clip / top
        q = (x / scale).round().clamp(-top, top)
        errors.append(float((x - q * scale).square().sum()))
    return int(np.argmin(errors))


@wrong(
    "best_clip",
    "This is the least error. Return the candidate that has it.",
)
def least_error(x, bits, candidates):
    top, errors = 2 ** (bits - 1) - 1, []
    for clip in candidates:
        scale = clip / top
        q = (x / scale).round().clamp(-top, top)
        errors.append(float((x - q * scale).square().sum()))
    return min(errors)


@wrong(
    "best_clip",
    "The scale is clip / 2**(bits - 1), so the last level does not reach the clip. The largest symmetric level is "
    "2**(bits - 1) - 1: for 2 bits the levels are -1, 0 and 1.",
)
def last_level_short(x, bits, candidates):
    top, errors = 2 ** (bits - 1) - 1, []
    for clip in candidates:
        scale = clip / (top + 1)
        q = (x / scale).round().clamp(-top, top)
        errors.append(float((x - q * scale).square().sum()))
    return candidates[int(np.argmin(errors))]


# 5. integer_linear -----------------------------------------------------------------


@wrong(
    "integer_linear",
    "The zero point of the inputs is missing. Level zero_x stands for 0, so each level counts only by what it is above "
    "zero_x: q_x - zero_x.",
)
def zero_point_forgotten(q_x, zero_x, q_w, bias):
    return q_x.int() @ q_w.int().T + bias


@wrong(
    "integer_linear",
    "The zero point was subtracted once from the sum. It is in every product: subtract it from each input, or subtract "
    "zero_x times the sum of the row's weights.",
)
def subtracted_once(q_x, zero_x, q_w, bias):
    return q_x.int() @ q_w.int().T - zero_x + bias


@wrong(
    "integer_linear",
    "q_x - zero_x was computed in 8 unsigned bits, where 3 - 100 is 159. Convert to int32 first, then subtract.",
)
def wrapped_in_uint8(q_x, zero_x, q_w, bias):
    shifted = (q_x.int() - zero_x) % 256
    return shifted @ q_w.int().T + bias


@wrong(
    "integer_linear",
    "Products or sums wrapped around: 8 bits end at 127, and one product reaches 255 * 127 = 32385. Convert both "
    "factors to int32 *before* they are multiplied.",
)
def wrapped_in_int8(q_x, zero_x, q_w, bias):
    total = (q_x.int() - zero_x) @ q_w.int().T
    return (total + 128) % 256 - 128 + bias


@wrong(
    "integer_linear",
    "The sums wrapped around at 16 bits (32767). A single product nearly fills them. Convert to int32 before you "
    "multiply.",
)
def wrapped_in_int16(q_x, zero_x, q_w, bias):
    total = (q_x.int() - zero_x) @ q_w.int().T
    return (total + 2**15) % 2**16 - 2**15 + bias


@wrong(
    "integer_linear",
    "The sums went through float32, which has 24 bits: above 16,777,216 the odd integers are lost. The accumulator is "
    "an int32 so that the sum is exact.",
)
def summed_in_float32(q_x, zero_x, q_w, bias):
    total = (q_x.float() - zero_x) @ q_w.float().T + bias.float()
    return total.round().long()


@wrong(
    "integer_linear",
    "The bias is missing. It is already in the units of the sum: add it.",
)
def bias_forgotten(q_x, zero_x, q_w, bias):
    return (q_x.int() - zero_x) @ q_w.int().T


@wrong(
    "integer_linear",
    "The zero point of the inputs was subtracted from the weights, too. The weights' grid is symmetric: its zero point "
    "is 0.",
)
def subtracted_from_weights(q_x, zero_x, q_w, bias):
    return (q_x.int() - zero_x) @ (q_w.int() - zero_x).T + bias


@wrong(
    "integer_linear",
    "The result is transposed. Return one row an input, one column an output: shape (batch, out).",
)
def transposed(q_x, zero_x, q_w, bias):
    return ((q_x.int() - zero_x) @ q_w.int().T + bias).T


@wrong(
    "integer_linear",
    "The correction for the zero point has the wrong sign: sum of w (x - z) = sum of w x, *minus* z times the sum of w.",
)
def correction_added(q_x, zero_x, q_w, bias):
    return q_x.int() @ q_w.int().T + zero_x * q_w.int().sum(1) + bias


# 6. requantize ---------------------------------------------------------------------


@wrong(
    "requantize",
    "A shift alone drops the fraction: every level is too low by half a step on average. Add half of 2**shift before "
    "you shift.",
)
def half_not_added(acc, multiplier, shift, zero_point):
    return (((acc.long() * multiplier) >> shift) + zero_point).clamp(0, 255).int()


@wrong(
    "requantize",
    "The product did not fit. Two 31-bit numbers have a 62-bit product: convert acc to int64 before you multiply.",
)
def product_in_int32(acc, multiplier, shift, zero_point):
    product = (acc.long() * multiplier + 2**31) % 2**32 - 2**31
    return (((product + (1 << (shift - 1))) >> shift) + zero_point).clamp(0, 255).int()


@wrong(
    "requantize",
    "The zero point was added before the shift, which shifted it away. It is in units of the output's levels: add it "
    "after the shift.",
)
def zero_point_before_shift(acc, multiplier, shift, zero_point):
    total = acc.long() * multiplier + zero_point + (1 << (shift - 1))
    return (total >> shift).clamp(0, 255).int()


@wrong(
    "requantize",
    "Clamped before the zero point was added: negative numbers all became the zero point. Add it, then clamp to 0 and "
    "255.",
)
def clamped_before_zero_point(acc, multiplier, shift, zero_point):
    level = (acc.long() * multiplier + (1 << (shift - 1))) >> shift
    return (level.clamp(0, 255) + zero_point).int()


@wrong(
    "requantize",
    "There are levels below 0 or above 255. The output has 8 bits: clamp it.",
)
def no_clamp(acc, multiplier, shift, zero_point):
    return ((acc.long() * multiplier + (1 << (shift - 1))) >> shift) + zero_point


@wrong(
    "requantize",
    "Levels wrapped around at 256 instead of stopping at 255 and 0: converting to uint8 does that. Clamp before you "
    "convert.",
)
def wrapped_at_256(acc, multiplier, shift, zero_point):
    level = ((acc.long() * multiplier + (1 << (shift - 1))) >> shift) + zero_point
    return (level % 256).int()


@wrong(
    "requantize",
    "Negative sums were rounded towards zero. Adding half and then rounding *down* is right for both signs: use >> or "
    "//, not int() or torch.div(..., rounding_mode='trunc').",
)
def towards_zero(acc, multiplier, shift, zero_point):
    total = acc.long() * multiplier + (1 << (shift - 1))
    level = torch.div(total, 1 << shift, rounding_mode="trunc")
    return (level + zero_point).clamp(0, 255).int()


@wrong(
    "requantize",
    "Ties were rounded to even. This integer rounding always rounds half up, because adding half and shifting does: "
    "0.5 becomes 1, and -0.5 becomes 0.",
)
def half_to_even(acc, multiplier, shift, zero_point):
    level = torch.round(acc.double() * (multiplier / 2**shift))
    return (level + zero_point).clamp(0, 255).int()


@wrong(
    "requantize",
    "A float32 was used. It holds 24 bits, an accumulator has 31: just below a tie you land on the tie. Multiply and "
    "shift integers only.",
)
def through_float32(acc, multiplier, shift, zero_point):
    level = torch.floor(acc.float() * (multiplier / 2**shift) + 0.5)
    return (level + zero_point).clamp(0, 255).int()


# 7. saturating_dot -----------------------------------------------------------------


@wrong(
    "saturating_dot",
    "This is the exact dot product: it is what the float simulation computes, and not what the instruction does. Cut the "
    "sum of each *pair* of products at 16 bits.",
)
def exact(q_x, q_w):
    return int((q_x.long() * q_w.long()).sum())


@wrong(
    "saturating_dot",
    "The whole sum was cut at 16 bits. Only the two products of a pair are added in 16 bits; the pairs are added in 32.",
)
def whole_sum_cut(q_x, q_w):
    return max(-(2**15), min(int((q_x.long() * q_w.long()).sum()), 2**15 - 1))


@wrong(
    "saturating_dot",
    "The sums wrapped around: 64770 became -766. This instruction saturates: it stops at 32767 (or -32768).",
)
def wraps(q_x, q_w):
    products = torch.nn.functional.pad(q_x.long() * q_w.long(), (0, len(q_x) % 2))
    return int(((products.view(-1, 2).sum(1) + 2**15) % 2**16 - 2**15).sum())


@wrong(
    "saturating_dot",
    "The accumulator was cut at 16 bits after each pair. The cut belongs to the pair alone; the running sum has 32 "
    "bits.",
)
def running_sum_cut(q_x, q_w):
    products = torch.nn.functional.pad(q_x.long() * q_w.long(), (0, len(q_x) % 2))
    total = 0
    for pair in products.view(-1, 2).sum(1).tolist():
        total = max(-(2**15), min(total + pair, 2**15 - 1))
    return total


@wrong(
    "saturating_dot",
    "The wrong products share 16 bits: you paired the first half with the second. A pair is two *neighbours*: 0 and 1, "
    "2 and 3, ...",
)
def halves_paired(q_x, q_w):
    products = torch.nn.functional.pad(q_x.long() * q_w.long(), (0, len(q_x) % 2))
    return int(products.view(2, -1).sum(0).clamp(-(2**15), 2**15 - 1).sum())


@wrong(
    "saturating_dot",
    "With an odd length the last product is lost. Append a zero: the last value is then a pair with nothing.",
)
def odd_end_lost(q_x, q_w):
    products = (q_x.long() * q_w.long())[: len(q_x) // 2 * 2]
    return int(products.view(-1, 2).sum(1).clamp(-(2**15), 2**15 - 1).sum())


@wrong(
    "saturating_dot",
    "The lower end is -32768, one further than the upper end: 16 signed bits hold -2**15 to 2**15 - 1.",
)
def symmetric_ends(q_x, q_w):
    products = torch.nn.functional.pad(q_x.long() * q_w.long(), (0, len(q_x) % 2))
    return int(products.view(-1, 2).sum(1).clamp(-(2**15) + 1, 2**15 - 1).sum())


@wrong(
    "saturating_dot",
    "Every two neighbours were added, so each product counts twice. The pairs do not overlap: 0 and 1, then 2 and 3.",
)
def overlapping_pairs(q_x, q_w):
    products = torch.nn.functional.pad(q_x.long() * q_w.long(), (0, len(q_x) % 2))
    return int((products[:-1] + products[1:]).clamp(-(2**15), 2**15 - 1).sum())


@wrong(
    "saturating_dot",
    "Products wrapped around in 8 bits before anything was added. Convert both vectors to int32 first; the only "
    "16-bit step is the sum of a pair.",
)
def products_in_int8(q_x, q_w):
    products = (q_x.long() * q_w.long() + 128) % 256 - 128
    return int(products.sum())


# 8. compress -----------------------------------------------------------------------


@wrong(
    "compress",
    "Eight bits lose nothing, and the file is still a quarter. How many bits does each layer need?",
)
def eight_bits(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(1, keepdim=True) / 127
        codes = (state[name] / scale).round().clamp(-127, 127).int() + 128
        answer[name] = {"bits": 8, "codes": codes, "scale": scale}
    return answer


@wrong(
    "compress",
    "Four bits with the full range: accurate, but not the smallest. A better range buys another bit.",
)
def four_bits_everywhere(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(1, keepdim=True) / 7
        codes = (state[name] / scale).round().clamp(-7, 7).int() + 8
        answer[name] = {"bits": 4, "codes": codes, "scale": scale}
    return answer


@wrong(
    "compress",
    "Two bits with the full range: nearly all weights became 0. Choose the range for the bits, or more bits.",
)
def two_bits_full_range(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(1, keepdim=True)
        codes = (state[name] / scale).round().clamp(-1, 1).int() + 2
        answer[name] = {"bits": 2, "codes": codes, "scale": scale}
    return answer


@wrong(
    "compress",
    "Codes are stored as unsigned numbers: add the zero point to signed levels.",
)
def signed_codes(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(1, keepdim=True) / 7
        codes = (state[name] / scale).round().clamp(-7, 7).int()
        answer[name] = {"bits": 4, "codes": codes, "scale": scale}
    return answer


@wrong(
    "compress",
    "The zero point in the file is not the one that was added to the levels.",
)
def wrong_zero_point(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(1, keepdim=True) / 7
        codes = (state[name] / scale).round().clamp(-7, 7).int() + 8
        zero_point = torch.zeros(len(scale), 1, dtype=torch.int32)
        answer[name] = {
            "bits": 4,
            "codes": codes,
            "scale": scale,
            "zero_point": zero_point,
        }
    return answer


@wrong("compress", "These are weights again, not the numbers of levels.")
def weights_instead_of_codes(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(1, keepdim=True) / 7
        rounded = (state[name] / scale).round().clamp(-7, 7) * scale
        answer[name] = {"bits": 4, "codes": rounded, "scale": scale}
    return answer


@wrong("compress", "One scale an input channel: the grid needs one an output channel.")
def scales_of_inputs(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        scale = state[name].abs().amax(0) / 7
        codes = (state[name] / scale.clamp(min=1e-4)).round().clamp(-7, 7).int() + 8
        answer[name] = {"bits": 4, "codes": codes, "scale": scale}
    return answer


@wrong(
    "compress",
    "Groups of four cost a 16-bit scale for every four codes: as much as the codes.",
)
def tiny_groups(state, x):
    answer = {}
    for name in (name for name in state if name.endswith("weight")):
        rows, columns = state[name].shape
        groups = state[name].reshape(rows, columns // 4, 4)
        scale = groups.abs().amax(2).clamp(min=1e-4) / 7
        codes = (groups / scale[..., None]).round().clamp(-7, 7).int() + 8
        answer[name] = {
            "bits": 4,
            "codes": codes.reshape(rows, columns),
            "scale": scale,
        }
    return answer


@wrong("compress", "The last layer has weights, too.")
def first_layer_only(state, x):
    name = next(iter(state))
    scale = state[name].abs().amax(1, keepdim=True) / 3
    codes = (state[name] / scale).round().clamp(-3, 3).int() + 4
    return {name: {"bits": 3, "codes": codes, "scale": scale}}
