"""A quantized model as a file: packed codes, float16 scales, and every other number in two bytes if that is exact.

    file = header (names, shapes, bits and group size of each layer) + packed codes + scales + zero points + rest

The format is safetensors, so any program can read it. A float32 tensor all of whose values are float16 values (the
scales; everything else after ``quantize_weights(..., rest=torch.float16)``) takes two bytes a value; any other keeps
four. The file itself therefore rounds nothing: what is read back equals what was written, bit for bit. It is
*not* compressed further: an entropy coder would still find something, as the codes are not equally frequent.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dca_lab.files import replacing, require_folder

from .group_weights import GroupWeights
from .packed_linear import PackedLinear
from .weight_only import replace_linears

_FORMAT = "dca-lab weight-only, format 1"


def save_quantized(model: nn.Module, path: str | Path) -> int:
    """Write a model with packed layers to a file.

    Parameters
    ----------
    model : nn.Module
        What `weight_only.quantize_weights` returned.
    path : str or Path
        ``.safetensors`` by custom. Its folder must be there; an older file is replaced, by a whole one.

    Returns
    -------
    int
        Bytes of the file, as the file system says.

    Raises
    ------
    ValueError
        When the model has no packed layer.
    FileNotFoundError
        When the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from dca_lab.quantization.weight_only import quantize_weights
    >>> model = quantize_weights(nn.Sequential(nn.Linear(512, 512)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_quantized(model, f"{folder}/small.safetensors") / (4 * (512 * 512 + 512)) < 0.16
    True
    """
    layers = {name: each for name, each in model.named_modules() if isinstance(each, PackedLinear)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no PackedLinear: call quantize_weights first")
    tensors, aliases = _unique(model.state_dict())
    stored = {name: _narrow(tensor.detach().contiguous()) for name, tensor in tensors.items()}
    about = {name: {"bits": each.bits, "group_size": each.group_size} for name, each in layers.items()}
    metadata = {"format": _FORMAT, "layers": json.dumps(about), "aliases": json.dumps(aliases)}
    path = require_folder(path)
    with replacing(path) as beside:
        save_file(stored, beside, metadata=metadata)
    return path.stat().st_size


def load_quantized(path: str | Path, model: nn.Module) -> nn.Module:
    """A copy of the model with the packed layers and all other values of the file.

    Parameters
    ----------
    path : str or Path
        What `save_quantized` wrote.
    model : nn.Module
        The same architecture in float, with any weights; not changed.

    Returns
    -------
    nn.Module
        Equal in every bit to the model that was saved, in evaluation mode.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged or of another format, or its layers are not those of the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: save_quantized writes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a file of save_quantized ({_FORMAT!r}): {metadata.get('format')!r}")
    state |= {name: state[first] for name, first in json.loads(metadata["aliases"]).items()}
    blanks = {
        name: _blank(state, name, model, **about) for name, about in json.loads(metadata["layers"]).items()
    }
    loaded = replace_linears(model, blanks)
    for name, tensor in loaded.state_dict().items():
        if name in state and state[name].dtype != tensor.dtype:
            state[name] = state[name].to(tensor.dtype)
    try:
        loaded.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit this {type(model).__name__}: {error}") from error
    return loaded.eval()


def _unique(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that have two names (tied weights) are stored once; the second name points to the first."""
    seen: dict[tuple, str] = {}
    tensors, aliases = {}, {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            tensors[name] = tensor
    return tensors, aliases


def _narrow(tensor: Tensor) -> Tensor:
    """The tensor in float16 when that loses nothing; a copy that shares no memory either way."""
    if tensor.dtype == torch.float32 and torch.equal(tensor.half().float(), tensor):
        return tensor.half()
    return tensor.clone()


def _blank(
    state: dict[str, Tensor], name: str, model: nn.Module, *, bits: int, group_size: int
) -> GroupWeights:
    """Weights of the right shape to be filled; the shape is the model's, the scale's dtype is the file's."""
    layer = dict(model.named_modules()).get(name)
    if type(layer) is not nn.Linear:
        raise ValueError(f"the file packs {name!r}, and the model has no nn.Linear of that name")
    rows, inputs = layer.weight.shape
    groups = (rows, -(-inputs // group_size))
    each = state.get(f"{name}.input_scale")
    return GroupWeights(
        torch.zeros(rows, inputs, dtype=torch.uint8),
        torch.ones(groups, dtype=state[f"{name}.scale"].dtype),
        torch.zeros(groups, dtype=torch.uint8),
        bits,
        group_size,
        None if each is None else torch.ones(inputs, dtype=each.dtype),
    )
