"""The rounding of a language model's weights: beside two libraries, layer by layer, and in perplexity.

    RTN:    max |w_ours - w_peer| over all linear weights, scales in float32 as the peers keep them
    GPTQ:   sum ||X (W - W_gptq)^T||^2 / sum ||X (W - W_rtn)^T||^2 over all linear layers

X is what a layer receives in the float model, on the text that GPTQ saw and on text that it did not. The controls: AWQ
with its salience handed to random channels, and random channels kept in float beside those that the activations choose.
What this is *not*: a comparison of file sizes. All methods fill the same format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.common import OURS, failure, require
from bench.quantization.language_model import Trained
from bench.quantization.peers_int4 import rtn_with_neural_compressor, rtn_with_nncf
from dca_lab.quantization._calibration import input_statistics
from dca_lab.quantization.awq import quantize_awq, scale_awq
from dca_lab.quantization.gptq import gptq, quantize_gptq
from dca_lab.quantization.nearest import quantize_groupwise
from dca_lab.quantization.salient import keep_channels
from dca_lab.quantization.weight_only import linear_names, quantize_weights
from dca_lab.training.perplexity import perplexity

GROUP = 64
SHARE = 0.05  # of the input channels that `keep_channels` keeps
RTN_PEERS = {"nncf": rtn_with_nncf, "neural-compressor-pt": rtn_with_neural_compressor}
RTN_SETTINGS = [("neural-compressor-pt", b, s) for b in (4, 3) for s in (False, True)]
RTN_SETTINGS += [
    ("nncf", 4, False)
]  # its symmetric grid has one level more: another grid, not another rounding
FLOAT, RTN, GPTQ, GPTQ_ORDER, AWQ, AWQ_GPTQ, AWQ_RANDOM, SALIENT, RANDOM = (
    "fp32",
    "RTN",
    "GPTQ",
    "GPTQ, act_order",
    "AWQ",
    "AWQ then GPTQ",
    "control: AWQ, salience shuffled",
    "RTN, salient channels kept",
    "control: RTN, random channels kept",
)
CONTROLS = (AWQ_RANDOM, RANDOM)


def rtn_rows(model: nn.Module) -> list[dict[str, Any]]:
    """Ours minus a peer's round-to-nearest, over all linear weights."""
    rows = []
    weights = [model.get_submodule(name).weight.detach() for name in linear_names(model)]
    for library, bits, symmetric in RTN_SETTINGS:
        row = {"part": "rtn", "library": library, "bits": bits, "symmetric": symmetric, "error": None}
        try:
            require(library)
            options = {"bits": bits, "group_size": GROUP, "symmetric": symmetric}
            largest, differing, ties, count = 0.0, 0, 0, 0
            for weight in weights:
                ours = quantize_groupwise(weight, scale_dtype=torch.float32, **options)
                away = (ours.dequantize() - RTN_PEERS[library](weight, **options)).abs()
                steps = (weight.unflatten(1, (-1, GROUP)) / ours.scale.unsqueeze(-1)).flatten(1)
                tie = (
                    (steps - steps.floor()) - 0.5
                ).abs() < 1e-5  # the middle of two levels, but for rounding
                largest = max(largest, float(away.max()))
                differing, ties = (
                    differing + int((away > 1e-4).sum()),
                    ties + int((tie & (away > 1e-4)).sum()),
                )
                count += away.numel()
            row |= {"largest_difference": largest, "weights_that_differ": differing, "ties_among_them": ties}
            row["weights"] = count
        except Exception as error:  # noqa: BLE001  (whatever a library raises is its result)
            row["error"] = failure(error)
        rows.append(row)
    return rows


def layer_rows(trained: Trained, bits: int) -> list[dict[str, Any]]:
    """Squared output errors of every linear layer, rounded to nearest and by GPTQ, each layer by itself."""
    model, rows = trained.model, []
    seen = input_statistics(model, trained.calibration)
    unseen = input_statistics(model, trained.x_test[:128])
    for name in linear_names(model):
        weight = model.get_submodule(name).weight.detach()
        made = {
            RTN: quantize_groupwise(weight, bits=bits, group_size=GROUP),
            GPTQ: gptq(weight, seen[name].hessian, bits=bits, group_size=GROUP),
            GPTQ_ORDER: gptq(weight, seen[name].hessian, bits=bits, group_size=GROUP, act_order=True),
        }
        for method, found in made.items():
            change = weight.double() - found.dequantize().double()
            row = {"part": "layer", "layer": name, "bits": bits, "method": method, "library": OURS}
            row["error"] = None
            row["squared_error_calibration"] = _squared(change, seen[name].hessian)
            row["squared_error_test"] = _squared(change, unseen[name].hessian)
            rows.append(row)
    return rows


def _squared(change: Tensor, hessian: Tensor) -> float:
    return float(((change @ hessian) * change).sum())


def perplexity_rows(
    trained: Trained,
    bits: int,
    seeds: int,
    tick: Callable[[str], None],
    *,
    part: str = "perplexity",
) -> list[dict[str, Any]]:
    """The perplexity of the model under each method; the random controls once for each seed."""
    model, text = trained.model, trained.calibration
    grid = {"bits": bits, "group_size": GROUP}

    def awq_gptq(seed: int) -> nn.Module:
        return quantize_gptq(scale_awq(model, text, **grid), text, **grid)

    methods: dict[str, Callable[[int], nn.Module]] = {
        RTN: lambda seed: quantize_weights(model, **grid),
        GPTQ: lambda seed: quantize_gptq(model, text, **grid),
        GPTQ_ORDER: lambda seed: quantize_gptq(model, text, act_order=True, **grid),
        AWQ: lambda seed: quantize_awq(model, text, **grid),
        AWQ_GPTQ: awq_gptq,
        AWQ_RANDOM: lambda seed: quantize_awq(model, text, shuffle=_generator(seed), **grid),
        SALIENT: lambda seed: keep_channels(model, text, share=SHARE, **grid),
        RANDOM: lambda seed: keep_channels(
            model, text, by="random", share=SHARE, generator=_generator(seed), **grid
        ),
    }
    rows = []
    for method, make in methods.items():
        for seed in range(seeds if method in CONTROLS else 1):
            row = {"part": part, "method": method, "bits": bits, "seed": seed, "error": None}
            try:
                row["perplexity"] = perplexity(make(seed), trained.x_test, trained.y_test)
            except Exception as error:  # noqa: BLE001  (a failure is a result)
                row["error"] = failure(error)
            rows.append(row)
        tick(f"{method}, {bits} bits")
    return rows


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
