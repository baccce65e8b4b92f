"""Typical wrong answers to the lab "What a network costs": each tests the grader, and each is a diagnosis.

The messages are what a student reads whose function gives the same values. What this file is *not*: exhaustive. An
unknown mistake still loses its points, with a plainer message. Where a student's own budget is asked, the numbers of
inputs and classes say which one it is, as in `checks.py`.
"""

import math

import numpy as np
import torch

from dca_lab.grading.answers import wrong

# 1. linear_cost ---------------------------------------------------------------------------------------------


@wrong(
    "linear_cost",
    "You count the biases as MACs. A bias is added but multiplied with nothing: leave it out there.",
)
def bias_is_a_mac(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs + bias * outputs
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": batch * parameters,
    }


@wrong(
    "linear_cost",
    "You count two operations for a MAC. One MAC is a multiplication together with its addition.",
)
def flops_not_macs(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs + bias * outputs
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": 2 * batch * inputs * outputs,
    }


@wrong(
    "linear_cost",
    "You forget that bias=False means fewer parameters. How many biases are there, and when?",
)
def always_a_bias(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs + outputs
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": batch * inputs * outputs,
    }


@wrong(
    "linear_cost",
    "You leave the biases out of the parameters. Try 5 inputs and 3 outputs: 18 numbers, not 15.",
)
def never_a_bias(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": batch * inputs * outputs,
    }


@wrong(
    "linear_cost",
    "You give the layer one bias for each input. The bias is added to the outputs: count those.",
)
def bias_of_the_inputs(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs + bias * inputs
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": batch * inputs * outputs,
    }


@wrong(
    "linear_cost",
    "You ignore the batch. Every input of the batch goes through the whole matrix.",
)
def one_input_only(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs + bias * outputs
    return {"parameters": parameters, "bytes": 4 * parameters, "macs": inputs * outputs}


@wrong(
    "linear_cost",
    "Your parameters grow with the batch. All inputs of a batch share the same weights.",
)
def weights_for_each_input(inputs, outputs, batch=1, bias=True):
    parameters = batch * (inputs * outputs + bias * outputs)
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "macs": batch * inputs * outputs,
    }


@wrong(
    "linear_cost",
    "Your bytes are bits, or 64-bit numbers. A float32 has 32 bits, which are 4 bytes.",
)
def eight_bytes_each(inputs, outputs, batch=1, bias=True):
    parameters = inputs * outputs + bias * outputs
    return {
        "parameters": parameters,
        "bytes": 8 * parameters,
        "macs": batch * inputs * outputs,
    }


# 2. conv_macs -----------------------------------------------------------------------------------------------


@wrong(
    "conv_macs",
    "You add the padding once. It is put on both sides: the image grows by 2 * padding.",
)
def padding_once(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height, width = ((n + padding - kernel) // stride + 1 for n in image)
    return height * width * out_channels * (in_channels // groups) * kernel**2


@wrong(
    "conv_macs",
    "You forget the + 1: the window stands at position 0 too. Try a 5 x 5 image and a 5 x 5 window.",
)
def no_plus_one(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height, width = ((n + 2 * padding - kernel) // stride for n in image)
    return height * width * out_channels * (in_channels // groups) * kernel**2


@wrong(
    "conv_macs",
    "You round up. A window that would stick out of the image is not computed: round down (//).",
)
def rounded_up(image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height, width = (math.ceil((n + 2 * padding - kernel) / stride) + 1 for n in image)
    return height * width * out_channels * (in_channels // groups) * kernel**2


@wrong(
    "conv_macs",
    "You use the size of the input image. MACs are done for each position of the output: steps 2 and 3.",
)
def input_positions(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    return image[0] * image[1] * out_channels * (in_channels // groups) * kernel**2


@wrong(
    "conv_macs",
    "You take the image for a square. Height and width differ: compute both.",
)
def square_image(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height = (image[0] + 2 * padding - kernel) // stride + 1
    return height**2 * out_channels * (in_channels // groups) * kernel**2


@wrong(
    "conv_macs",
    "You ignore the groups. An output channel sees only the in_channels / groups channels of its group.",
)
def groups_ignored(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in image)
    return height * width * out_channels * in_channels * kernel**2


@wrong(
    "conv_macs",
    "You divide both channel counts by the groups. There are still out_channels outputs to compute.",
)
def groups_twice(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in image)
    return (
        height * width * (out_channels // groups) * (in_channels // groups) * kernel**2
    )


@wrong("conv_macs", "You use kernel once. The window has kernel * kernel entries.")
def window_is_a_line(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if (
        in_channels % groups
        or out_channels % groups
        or min(image) + 2 * padding < kernel
    ):
        raise ValueError("cannot be built")
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in image)
    return height * width * out_channels * (in_channels // groups) * kernel


@wrong(
    "conv_macs",
    "Counts are right, but a layer that cannot exist must raise ValueError: read the docstring's Raises.",
)
def nothing_is_checked(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in image)
    return height * width * out_channels * (in_channels // groups) * kernel**2


# 3. network_macs --------------------------------------------------------------------------------------------


@wrong(
    "network_macs",
    "You return the sum. Return a list with one count for each layer: it shows where the work is.",
)
def only_the_sum(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] // layer["groups"] * k**2
            shape = (layer["channels"], *((n + 2 * p - k) // s + 1 for n in shape[1:]))
            count = math.prod(shape) * each
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            count = shape[0] * layer["outputs"]
            shape = (layer["outputs"],)
        elif layer["kind"] != "relu":
            raise ValueError("unknown")
        counts.append(count)
    return sum(counts)


@wrong(
    "network_macs",
    "You list only the layers that multiply. Pooling, ReLU and flatten get a 0 in the list.",
)
def zeros_left_out(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] // layer["groups"] * k**2
            shape = (layer["channels"], *((n + 2 * p - k) // s + 1 for n in shape[1:]))
            counts.append(math.prod(shape) * each)
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            counts.append(shape[0] * layer["outputs"])
            shape = (layer["outputs"],)
        elif layer["kind"] != "relu":
            raise ValueError("unknown")
    return counts


@wrong(
    "network_macs",
    "Your image keeps its size through a convolution. Stride and window shrink it for all later layers.",
)
def maps_keep_their_size(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] // layer["groups"] * k**2
            positions = math.prod((n + 2 * p - k) // s + 1 for n in shape[1:])
            count = positions * layer["channels"] * each
            shape = (layer["channels"], *shape[1:])
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            count = shape[0] * layer["outputs"]
            shape = (layer["outputs"],)
        elif layer["kind"] != "relu":
            raise ValueError("unknown")
        counts.append(count)
    return counts


@wrong(
    "network_macs",
    "Your channels stay those of the image. A convolution's output has `channels` channels.",
)
def channels_of_the_image(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            positions = [(n + 2 * p - k) // s + 1 for n in shape[1:]]
            count = (
                math.prod(positions)
                * layer["channels"]
                * (image[0] // layer["groups"])
                * k**2
            )
            shape = (layer["channels"], *positions)
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            count = shape[0] * layer["outputs"]
            shape = (layer["outputs"],)
        elif layer["kind"] != "relu":
            raise ValueError("unknown")
        counts.append(count)
    return counts


@wrong(
    "network_macs",
    "Pooling changes nothing in your shapes. Windows of size x size leave 1 / size of height and width.",
)
def pooling_keeps_the_size(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] // layer["groups"] * k**2
            shape = (layer["channels"], *((n + 2 * p - k) // s + 1 for n in shape[1:]))
            count = math.prod(shape) * each
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            count = shape[0] * layer["outputs"]
            shape = (layer["outputs"],)
        elif layer["kind"] not in ("relu", "pool"):
            raise ValueError("unknown")
        counts.append(count)
    return counts


@wrong(
    "network_macs",
    "Your flatten forgets the channels. A map of C x H x V has C * H * V numbers.",
)
def flatten_without_channels(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] // layer["groups"] * k**2
            shape = (layer["channels"], *((n + 2 * p - k) // s + 1 for n in shape[1:]))
            count = math.prod(shape) * each
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape[1:]),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            count = shape[0] * layer["outputs"]
            shape = (layer["outputs"],)
        elif layer["kind"] != "relu":
            raise ValueError("unknown")
        counts.append(count)
    return counts


@wrong(
    "network_macs",
    "You ignore `groups`: in a grouped convolution each output sees only the channels of its group.",
)
def groups_do_not_matter(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] * k**2
            shape = (layer["channels"], *((n + 2 * p - k) // s + 1 for n in shape[1:]))
            count = math.prod(shape) * each
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            if len(shape) != 1:
                raise ValueError("not flat")
            count = shape[0] * layer["outputs"]
            shape = (layer["outputs"],)
        elif layer["kind"] != "relu":
            raise ValueError("unknown")
        counts.append(count)
    return counts


@wrong(
    "network_macs",
    "Counts are right, but a linear layer on a map, and an unknown kind, must raise ValueError.",
)
def anything_goes(layers, image):
    counts, shape = [], tuple(image)
    for layer in layers:
        count = 0
        if layer["kind"] == "conv":
            k, s, p = layer["kernel"], layer["stride"], layer["padding"]
            each = shape[0] // layer["groups"] * k**2
            shape = (layer["channels"], *((n + 2 * p - k) // s + 1 for n in shape[1:]))
            count = math.prod(shape) * each
        elif layer["kind"] == "pool":
            shape = (shape[0], *(n // layer["size"] for n in shape[1:]))
        elif layer["kind"] == "flatten":
            shape = (math.prod(shape),)
        elif layer["kind"] == "linear":
            count = math.prod(shape) * layer["outputs"]
            shape = (layer["outputs"],)
        counts.append(count)
    return counts


# 4. linear_intensity ----------------------------------------------------------------------------------------


@wrong(
    "linear_intensity",
    "You count MACs. A MAC is two operations, so your intensity is half of what it should be.",
)
def macs_not_flops(batch, inputs, outputs, bytes_each=4):
    moved = bytes_each * (batch * inputs + inputs * outputs + batch * outputs)
    return batch * inputs * outputs / moved


@wrong(
    "linear_intensity",
    "You move only the weights. That is the chapter's rule for small batches: add inputs and outputs.",
)
def weights_only(batch, inputs, outputs, bytes_each=4):
    return 2 * batch * inputs * outputs / (bytes_each * inputs * outputs)


@wrong(
    "linear_intensity",
    "You fetch the weights again for each input. A batch shares one fetch: that is its whole point.",
)
def weights_each_time(batch, inputs, outputs, bytes_each=4):
    moved = bytes_each * batch * (inputs + inputs * outputs + outputs)
    return 2 * batch * inputs * outputs / moved


@wrong(
    "linear_intensity", "You forget that the outputs are written: they are traffic too."
)
def nothing_written(batch, inputs, outputs, bytes_each=4):
    return (
        2
        * batch
        * inputs
        * outputs
        / (bytes_each * (batch * inputs + inputs * outputs))
    )


@wrong(
    "linear_intensity",
    "You divide by numbers, not by bytes. Each number is bytes_each bytes.",
)
def numbers_not_bytes(batch, inputs, outputs, bytes_each=4):
    return (
        2
        * batch
        * inputs
        * outputs
        / (batch * inputs + inputs * outputs + batch * outputs)
    )


@wrong(
    "linear_intensity",
    "You always use 4 bytes. int8 has 1, float16 has 2: use bytes_each.",
)
def always_four_bytes(batch, inputs, outputs, bytes_each=4):
    return (
        2
        * batch
        * inputs
        * outputs
        / (4 * (batch * inputs + inputs * outputs + batch * outputs))
    )


@wrong(
    "linear_intensity",
    "That is bytes per operation. Intensity is the other way round: operations per byte.",
)
def upside_down(batch, inputs, outputs, bytes_each=4):
    moved = bytes_each * (batch * inputs + inputs * outputs + batch * outputs)
    return moved / (2 * batch * inputs * outputs)


# 5. attainable ----------------------------------------------------------------------------------------------


@wrong(
    "attainable",
    "You take the larger of the two roofs. Both are limits, so the lower one counts.",
)
def the_higher_roof(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return np.maximum(peak, bandwidth * intensity), intensity < peak / bandwidth


@wrong(
    "attainable",
    "You add the time of the arithmetic to that of the traffic. They overlap: the longer one counts.",
)
def no_overlap(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return peak * bandwidth * intensity / (
        peak + bandwidth * intensity
    ), intensity < peak / bandwidth


@wrong(
    "attainable",
    "Your slope divides by the bandwidth. I operations a byte, bandwidth bytes a second: multiply.",
)
def slope_divides(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return np.minimum(peak, intensity / bandwidth), intensity < peak / bandwidth


@wrong(
    "attainable",
    "The flags are the wrong way round: left of the ridge, at low intensity, a layer waits for memory.",
)
def flags_turned_round(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return np.minimum(peak, bandwidth * intensity), intensity >= peak / bandwidth


@wrong(
    "attainable",
    "At the ridge itself both roofs are equal and a layer no longer waits for memory: use <, not <=.",
)
def ridge_counts_as_memory(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return np.minimum(peak, bandwidth * intensity), intensity <= peak / bandwidth


@wrong(
    "attainable",
    "Your ridge is bandwidth / peak. The roofs meet where bandwidth * I = peak: solve for I.",
)
def ridge_upside_down(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return np.minimum(peak, bandwidth * intensity), intensity < bandwidth / peak


@wrong(
    "attainable",
    "Your answer is one number. np.minimum compares number by number and keeps the shape of `intensity`.",
)
def one_number_for_all(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("not a machine")
    return np.minimum(peak, bandwidth * intensity).min(), (
        intensity < peak / bandwidth
    ).all()


@wrong(
    "attainable",
    "The values are right, but a peak or bandwidth of zero or below must raise ValueError.",
)
def any_machine(intensity, peak, bandwidth):
    return np.minimum(peak, bandwidth * intensity), bandwidth * intensity < peak


# 6. widest --------------------------------------------------------------------------------------------------


@wrong(
    "widest",
    "Your network is one unit too wide: it is the first that breaks the budget, not the last that keeps it.",
)
def one_too_many(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    width = 1
    while width * (inputs + classes) + (depth - 1) * width**2 <= budget:
        width += 1
    if width == 1:
        raise ValueError("does not fit")
    return width


@wrong("widest", "A budget that is met exactly is met: compare with <=, not with <.")
def exactly_is_too_much(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2 < budget:
        width += 1
    return width


@wrong(
    "widest",
    "You count `depth` matrices between hidden layers. Between 2 hidden layers there is 1: depth - 1.",
)
def one_matrix_too_many(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (width + 1) * (inputs + classes) + depth * (width + 1) ** 2 <= budget:
        width += 1
    return width


@wrong(
    "widest",
    "You forget the matrices between hidden layers: width * width MACs each, and there are depth - 1.",
)
def as_if_linear(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    if inputs + classes > budget:
        raise ValueError("does not fit")
    return budget // (inputs + classes)


@wrong("widest", "You count the biases. They are parameters, but they are not MACs.")
def with_biases(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while True:
        h = width + 1
        if h * (inputs + classes) + (depth - 1) * h**2 + depth * h + classes > budget:
            return width
        width += 1


@wrong(
    "widest",
    "You count two operations for a MAC. The budget is in MACs, so count each once.",
)
def budget_in_flops(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (
        2 * ((width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2)
        <= budget
    ):
        width += 1
    return width


@wrong(
    "widest",
    "When not even one hidden unit fits, raise ValueError: a network of width 0 computes nothing.",
)
def width_zero(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // inputs
    width = 0
    while (width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2 <= budget:
        width += 1
    return width


@wrong(
    "widest",
    "Without a budget you compute with another camera's pictures a second. Look yours up in the text of the exercise: "
    "your neighbour's is not yours.",
)
def another_camera(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000 // (24 if inputs == 60 else 60)
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2 <= budget:
        width += 1
    return width


@wrong(
    "widest",
    "Without a budget you compute with another processor's MACs a second. Look yours up in the text of the exercise: "
    "your neighbour's is not yours.",
)
def another_processor(budget, inputs, classes, depth):
    budget = budget or (7 if classes == 2 else 2) * 1_000_000 // inputs
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2 <= budget:
        width += 1
    return width


@wrong(
    "widest",
    "You take all MACs of a second for one picture. Your camera delivers many pictures a second, and they share them: "
    "divide, and round down.",
)
def budget_of_a_second(budget, inputs, classes, depth):
    budget = budget or classes * 1_000_000
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2 <= budget:
        width += 1
    return width


@wrong(
    "widest",
    "Without a budget your function stops: `budget` is then None, and you compute with it. Replace None by what your "
    "processor can spare for one picture first.",
)
def none_as_budget(budget, inputs, classes, depth):
    if inputs + classes > budget:
        raise ValueError("does not fit")
    width = 0
    while (width + 1) * (inputs + classes) + (depth - 1) * (width + 1) ** 2 <= budget:
        width += 1
    return width


# 7. paired_ratio --------------------------------------------------------------------------------------------


@wrong(
    "paired_ratio",
    "You divide the medians. Divide within each round first: a slow round slows both, and cancels.",
)
def ratio_of_medians(before, after, resamples):
    before, after = np.asarray(before, float), np.asarray(after, float)
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    medians = np.median(before[resamples], axis=1) / np.median(after[resamples], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return np.median(before) / np.median(after), low, high


@wrong(
    "paired_ratio",
    "Your ratio is upside down. before / after is above 1 when the change made it faster.",
)
def after_by_before(before, after, resamples):
    before, after = np.asarray(before, float), np.asarray(after, float)
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    ratios = after / before
    low, high = np.quantile(np.median(ratios[resamples], axis=1), [0.025, 0.975])
    return np.median(ratios), low, high


@wrong(
    "paired_ratio",
    "You take the mean. One slow moment moves a mean as far as it likes, and a median hardly at all.",
)
def means(before, after, resamples):
    before, after = np.asarray(before, float), np.asarray(after, float)
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    ratios = before / after
    low, high = np.quantile(ratios[resamples].mean(axis=1), [0.025, 0.975])
    return ratios.mean(), low, high


@wrong(
    "paired_ratio",
    "Your interval is that of single ratios. Take the median of each row of resamples first: step 4.",
)
def spread_of_ratios(before, after, resamples):
    before, after = np.asarray(before, float), np.asarray(after, float)
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    ratios = before / after
    low, high = np.quantile(ratios, [0.025, 0.975])
    return np.median(ratios), low, high


@wrong(
    "paired_ratio",
    "Your interval holds 90 %. For 95 % leave out 2.5 % at each end: quantiles 0.025 and 0.975.",
)
def ninety_percent(before, after, resamples):
    before, after = np.asarray(before, float), np.asarray(after, float)
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    ratios = before / after
    low, high = np.quantile(np.median(ratios[resamples], axis=1), [0.05, 0.95])
    return np.median(ratios), low, high


@wrong(
    "paired_ratio", "You take medians down the columns. A resample is a row: axis=1."
)
def columns_not_rows(before, after, resamples):
    before, after = np.asarray(before, float), np.asarray(after, float)
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    ratios = before / after
    low, high = np.quantile(np.median(ratios[resamples], axis=0), [0.025, 0.975])
    return np.median(ratios), low, high


@wrong(
    "paired_ratio",
    "You sort both lists first, which tears the pairs apart: round i belongs to round i.",
)
def pairs_torn_apart(before, after, resamples):
    before, after = (
        np.sort(np.asarray(before, float)),
        np.sort(np.asarray(after, float)),
    )
    if len(before) != len(after) or before.min() <= 0 or after.min() <= 0:
        raise ValueError("pairs of positive seconds")
    ratios = before / after
    low, high = np.quantile(np.median(ratios[resamples], axis=1), [0.025, 0.975])
    return np.median(ratios), low, high


@wrong(
    "paired_ratio",
    "The numbers are right, but lists of different lengths, and seconds of 0 or below, must raise ValueError.",
)
def no_pairs_checked(before, after, resamples):
    rounds = min(len(before), len(after))
    ratios = np.asarray(before, float)[:rounds] / np.maximum(
        np.asarray(after, float)[:rounds], 1e-12
    )
    low, high = np.quantile(
        np.median(ratios[np.minimum(resamples, rounds - 1)], axis=1), [0.025, 0.975]
    )
    return np.median(ratios), low, high


# 8. design: the messages that count are those of measure.py; these say what each answer does ----------------


@wrong(
    "design", "The weights are those of the start. Return state_dict() after training."
)
def untrained(images, labels):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(32, 64, generator=generator) / 8
    second = torch.randn(10, 32, generator=generator) / 6
    layers = [{"kind": "flatten"}, {"kind": "linear", "outputs": 32}, {"kind": "relu"}]
    layers.append({"kind": "linear", "outputs": 10})
    weights = {
        "1.weight": first,
        "1.bias": torch.zeros(32),
        "3.weight": second,
        "3.bias": torch.zeros(10),
    }
    return {"layers": layers, "weights": weights}


@wrong("design", "The weights are transposed: torch keeps (outputs, inputs).")
def wrong_shape(images, labels):
    layers = [{"kind": "flatten"}, {"kind": "linear", "outputs": 10}]
    return {
        "layers": layers,
        "weights": {"1.weight": torch.zeros(64, 10), "1.bias": torch.zeros(10)},
    }


@wrong("design", "The names count only the layers that have weights.")
def wrong_names(images, labels):
    layers = [{"kind": "flatten"}, {"kind": "linear", "outputs": 10}]
    return {
        "layers": layers,
        "weights": {"0.weight": torch.zeros(10, 64), "0.bias": torch.zeros(10)},
    }


@wrong("design", "The training diverged, and nobody looked.")
def not_finite(images, labels):
    layers = [{"kind": "flatten"}, {"kind": "linear", "outputs": 10}]
    return {
        "layers": layers,
        "weights": {
            "1.weight": torch.full((10, 64), math.nan),
            "1.bias": torch.zeros(10),
        },
    }


@wrong("design", "A wide network is accurate, and costs more than the task allows.")
def too_large(images, labels):
    layers = [{"kind": "flatten"}, {"kind": "linear", "outputs": 512}, {"kind": "relu"}]
    layers.append({"kind": "linear", "outputs": 10})
    # the 10 class means as a classifier, carried through 512 units: accurate, and needlessly wide
    x, means = (
        images.flatten(1),
        torch.stack([images.flatten(1)[labels == c].mean(0) for c in range(10)]),
    )
    first, second = torch.zeros(512, 64), torch.zeros(10, 512)
    first[:10], first[10:20] = means, -means
    second[:, :10], second[:, 10:20] = torch.eye(10), -torch.eye(10)
    weights = {"1.weight": first, "1.bias": torch.zeros(512) * x[0, 0]}
    weights |= {"3.weight": second, "3.bias": -0.5 * means.square().sum(1)}
    return {"layers": layers, "weights": weights}


@wrong("design", "Four by four pixels and class means: cheap, and far below the floor.")
def floor_missed(images, labels):
    x = torch.nn.functional.avg_pool2d(images, 2).flatten(1)
    means = torch.stack([x[labels == c].mean(0) for c in range(10)])
    layers = [
        {"kind": "pool", "size": 2},
        {"kind": "flatten"},
        {"kind": "linear", "outputs": 10},
    ]
    return {
        "layers": layers,
        "weights": {"2.weight": means, "2.bias": -0.5 * means.square().sum(1)},
    }


@wrong("design", "A linear layer needs a flat input.")
def does_not_fit(images, labels):
    layers = [{"kind": "linear", "outputs": 10}]
    return {
        "layers": layers,
        "weights": {"0.weight": torch.zeros(10, 64), "0.bias": torch.zeros(10)},
    }


@wrong("design", "The predictions are returned instead of the network.")
def no_description(images, labels):
    return labels
