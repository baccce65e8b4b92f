"""Unusual right answers to the lab "What a network costs": loops, other libraries, other types, all worth full points.

What this file is *not*: better solutions. They are here so that the grader punishes no honest way of writing.
"""

import math

import numpy as np
import torch

from dca_lab.grading.answers import right

# 1. linear_cost ---------------------------------------------------------------------------------------------


@right("linear_cost")
def by_asking_torch(inputs, outputs, batch=1, bias=True):
    layer = torch.nn.Linear(inputs, outputs, bias=bias)
    parameters = torch.tensor(sum(p.numel() for p in layer.parameters()))
    return {
        "macs": float(batch * inputs * outputs),
        "bytes": parameters * 4,
        "parameters": parameters,
    }


@right("linear_cost")
def by_counting(inputs, outputs, batch=1, bias=True):
    parameters, macs = 0, 0
    for _ in range(outputs):
        parameters += inputs + (1 if bias else 0)
        macs += batch * inputs
    return {
        "parameters": parameters,
        "bytes": np.int64(parameters) * 32 // 8,
        "macs": macs,
    }


@right("linear_cost")
def by_matrix_size(inputs, outputs, batch=1, bias=True):
    weight = np.zeros((outputs, inputs), dtype=np.float32)
    vector = np.zeros(outputs if bias else 0, dtype=np.float32)
    return dict(
        parameters=weight.size + vector.size,
        bytes=weight.nbytes + vector.nbytes,
        macs=weight.size * batch,
    )


# 2. conv_macs -----------------------------------------------------------------------------------------------


@right("conv_macs")
def by_running_it(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if in_channels % groups or out_channels % groups:
        raise ValueError("groups")
    weight = torch.zeros(out_channels, in_channels // groups, kernel, kernel)
    try:
        output = torch.nn.functional.conv2d(
            torch.zeros(1, in_channels, *image),
            weight,
            stride=stride,
            padding=padding,
            groups=groups,
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return output.numel() * weight[0].numel()


@right("conv_macs")
def by_sliding_the_window(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if in_channels % groups != 0 or out_channels % groups != 0:
        raise ValueError("groups must divide the channels")
    rows = len(range(-padding, image[0] + padding - kernel + 1, stride))
    columns = len(range(-padding, image[1] + padding - kernel + 1, stride))
    if rows == 0 or columns == 0:
        raise ValueError("no place for the window")
    macs = 0
    for _ in range(groups):
        macs += (
            rows
            * columns
            * (out_channels // groups)
            * (in_channels // groups)
            * kernel
            * kernel
        )
    return macs


@right("conv_macs")
def in_numpy_floats(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    size = np.floor((np.array(image) + 2.0 * padding - kernel) / stride) + 1
    if (
        in_channels % groups
        or out_channels % groups
        or (np.array(image) + 2 * padding < kernel).any()
    ):
        raise ValueError("impossible layer")
    return np.prod(size) * out_channels * in_channels / groups * kernel**2


# 3. network_macs --------------------------------------------------------------------------------------------


@right("network_macs")
def network_by_running_it(layers, image):
    x, counts = torch.zeros(1, *image), []
    for layer in layers:
        kind, count = layer["kind"], 0
        if kind == "conv":
            weight = torch.zeros(
                layer["channels"],
                x.shape[1] // layer["groups"],
                layer["kernel"],
                layer["kernel"],
            )
            x = torch.nn.functional.conv2d(
                x,
                weight,
                stride=layer["stride"],
                padding=layer["padding"],
                groups=layer["groups"],
            )
            count = x.numel() * weight[0].numel()
        elif kind == "pool":
            x = torch.nn.functional.max_pool2d(x, layer["size"])
        elif kind == "flatten":
            x = x.flatten(1)
        elif kind == "linear" and x.ndim == 2:
            count = x.shape[1] * layer["outputs"]
            x = torch.zeros(1, layer["outputs"])
        elif kind != "relu":
            raise ValueError(f"layer {layer}")
        counts.append(count)
    return counts


@right("network_macs")
def network_by_recursion(layers, image):
    if not layers:
        return []
    first, rest = layers[0], layers[1:]
    match first["kind"]:
        case "conv":
            k, s, p = first["kernel"], first["stride"], first["padding"]
            height, width = ((n - k + 2 * p) // s + 1 for n in image[1:])
            after = (first["channels"], height, width)
            count = (
                height * width * first["channels"] * k * k * image[0] // first["groups"]
            )
        case "pool":
            after, count = (
                (image[0], image[1] // first["size"], image[2] // first["size"]),
                0,
            )
        case "relu":
            after, count = image, 0
        case "flatten":
            after, count = (math.prod(image),), 0
        case "linear" if len(image) == 1:
            after, count = (first["outputs"],), image[0] * first["outputs"]
        case kind:
            raise ValueError(kind)
    return [count, *network_by_recursion(rest, after)]


@right("network_macs")
def network_as_array(layers, image):
    counts, channels, sides, flat = (
        np.zeros(len(layers)),
        image[0],
        np.array(image[1:]),
        None,
    )
    for i, layer in enumerate(layers):
        kind = layer["kind"]
        if kind not in {"conv", "pool", "relu", "flatten", "linear"} or (
            kind == "linear" and flat is None
        ):
            raise ValueError(f"layer {i}: {kind}")
        if kind == "conv":
            sides = (sides + 2 * layer["padding"] - layer["kernel"]) // layer[
                "stride"
            ] + 1
            window = layer["kernel"] ** 2 * (channels // layer["groups"])
            channels = layer["channels"]
            counts[i] = sides.prod() * channels * window
        if kind == "pool":
            sides = sides // layer["size"]
        if kind == "flatten":
            flat = channels * sides.prod() if flat is None else flat
        if kind == "linear":
            counts[i], flat = flat * layer["outputs"], layer["outputs"]
    return counts


# 4. linear_intensity ----------------------------------------------------------------------------------------


@right("linear_intensity")
def intensity_in_float32(batch, inputs, outputs, bytes_each=4):
    b = np.asarray(batch, dtype=np.float32)
    return (
        np.float32(2)
        * b
        * inputs
        * outputs
        / (bytes_each * (b * (inputs + outputs) + inputs * outputs))
    )


@right("linear_intensity")
def intensity_as_reciprocal(batch, inputs, outputs, bytes_each=4):
    return 2 / bytes_each / (1 / outputs + 1 / np.array(batch) + 1 / inputs)


@right("linear_intensity")
def intensity_in_torch(batch, inputs, outputs, bytes_each=4):
    b = torch.tensor(np.array(batch), dtype=torch.float64)
    flops = 2 * b * (inputs * outputs)
    return flops / (bytes_each * (b * inputs + inputs * outputs + b * outputs))


# 5. attainable ----------------------------------------------------------------------------------------------


@right("attainable")
def attainable_in_a_loop(intensity, peak, bandwidth):
    if not (peak > 0 and bandwidth > 0):
        raise ValueError("peak and bandwidth must be positive")
    speed, memory = np.zeros(intensity.shape), np.zeros(intensity.shape, dtype=bool)
    for place in np.ndindex(intensity.shape):
        memory[place] = bandwidth * intensity[place] < peak
        speed[place] = bandwidth * intensity[place] if memory[place] else peak
    return speed, memory


@right("attainable")
def attainable_in_torch(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError
    slope = torch.tensor(np.array(intensity)) * bandwidth
    return slope.clamp(max=peak), slope < peak


@right("attainable")
def attainable_by_where(intensity, peak, bandwidth):
    if min(peak, bandwidth) <= 0:
        raise ValueError("not a machine")
    ridge = peak / bandwidth
    memory = np.less(intensity, ridge)
    return [np.where(memory, intensity * bandwidth, peak), memory.astype(int)]


# 6. widest --------------------------------------------------------------------------------------------------


@right("widest")
def widest_by_formula(budget, inputs, classes, depth):
    budget = 2_000_000 // 60 if budget is None else budget
    # the positive root of (depth - 1) h^2 + (inputs + classes) h = budget, in whole numbers
    a, b = depth - 1, inputs + classes
    width = (
        budget // b if a == 0 else (math.isqrt(b * b + 4 * a * budget) - b) // (2 * a)
    )
    if width < 1:
        raise ValueError("the budget is too small for one unit")
    return width


@right("widest")
def widest_by_loop(budget, inputs, classes, depth):
    budget = 2_000_000 // 60 if budget is None else budget

    def macs(h):
        return inputs * h + (depth - 1) * h * h + h * classes

    if macs(1) > budget:
        raise ValueError("too small")
    h = 1
    while macs(h + 1) <= budget:
        h += 1
    return float(h)


@right("widest")
def widest_by_halving(budget, inputs, classes, depth):
    budget = 2_000_000 // 60 if budget is None else budget
    low, high = 0, budget + 1  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        if inputs * middle + (depth - 1) * middle**2 + middle * classes <= budget:
            low = middle
        else:
            high = middle
    if low == 0:
        raise ValueError("nothing fits")
    return np.int64(low)


# 7. paired_ratio --------------------------------------------------------------------------------------------


@right("paired_ratio")
def paired_in_a_loop(before, after, resamples):
    if len(before) != len(after) or min(before) <= 0 or min(after) <= 0:
        raise ValueError("pairs")
    ratios = np.array([b / a for b, a in zip(before, after, strict=True)])
    medians = [np.median(ratios[row]) for row in resamples]
    return [
        float(np.median(ratios)),
        np.percentile(medians, 2.5),
        np.percentile(medians, 97.5),
    ]


@right("paired_ratio")
def paired_in_torch(before, after, resamples):
    a, b = (torch.tensor(np.array(v), dtype=torch.float64) for v in (after, before))
    if len(a) != len(b) or bool((a <= 0).any()) or bool((b <= 0).any()):
        raise ValueError("pairs")
    ratios = b / a
    # torch.median takes the lower of two middle values, so quantile(0.5) is used
    medians = ratios[torch.tensor(np.array(resamples))].quantile(0.5, dim=1)
    return ratios.quantile(0.5), medians.quantile(0.025), medians.quantile(0.975)


@right("paired_ratio")
def paired_by_logarithms(before, after, resamples):
    before, after = (
        np.array(before, dtype=np.float64),
        np.array(after, dtype=np.float64),
    )
    if before.shape != after.shape or not (np.concatenate([before, after]) > 0).all():
        raise ValueError("pairs of positive seconds")
    ratios = np.exp(np.log(before) - np.log(after))
    ends = np.quantile(np.sort(np.median(ratios[resamples], 1)), (0.025, 0.975))
    return np.array([np.median(ratios), *ends])


# 8. design --------------------------------------------------------------------------------------------------


@right("design")
def by_hand_in_numpy(images, labels):
    # the same small network, with gradients written out and momentum
    rng = np.random.default_rng(0)
    x, y = (
        images.numpy().reshape(len(images), 64),
        np.eye(10, dtype=np.float32)[labels.numpy()],
    )
    w1 = rng.normal(0, 0.15, (48, 64)).astype(np.float32)
    w2 = rng.normal(0, 0.2, (10, 48)).astype(np.float32)
    state = [w1, np.zeros(48, np.float32), w2, np.zeros(10, np.float32)]
    speed = [np.zeros_like(p) for p in state]
    steps = 900
    for step in range(steps):
        pick = rng.integers(0, len(x), 128)
        hidden = np.maximum(x[pick] @ state[0].T + state[1], 0)
        logits = hidden @ state[2].T + state[3]
        error = np.exp(logits - logits.max(1, keepdims=True))
        error = (error / error.sum(1, keepdims=True) - y[pick]) / len(pick)
        back = (error @ state[2]) * (hidden > 0)
        slopes = [back.T @ x[pick], back.sum(0), error.T @ hidden, error.sum(0)]
        for p, v, g in zip(state, speed, slopes, strict=True):
            v *= 0.9
            v += g
            p -= 0.15 * (1 - step / steps) * v
    layers = [{"kind": "flatten"}, {"kind": "linear", "outputs": 48}, {"kind": "relu"}]
    layers.append({"kind": "linear", "outputs": 10})
    names = ("1.weight", "1.bias", "3.weight", "3.bias")
    return {"layers": layers, "weights": dict(zip(names, state, strict=True))}


@right("design")
def as_lists_in_float64(images, labels):
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(64, 52),
        torch.nn.ReLU(),
        torch.nn.Linear(52, 10),
    ).double()
    x, steps = images.double(), 800
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9, nesterov=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / steps)
        pick = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[pick]), labels[pick]).backward()
        optimizer.step()
    layers = ({"kind": "flatten"}, {"kind": "linear", "outputs": 52}, {"kind": "relu"})
    layers += ({"kind": "linear", "outputs": 10},)
    return {
        "layers": layers,
        "weights": {name: p.tolist() for name, p in net.state_dict().items()},
    }
