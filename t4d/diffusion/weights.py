"""Strict saving and loading of network parts: safetensors shards and a config, nothing dropped, nothing executed."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from t4d.errors import InputError

WEIGHTS = "diffusion_pytorch_model"
SHARD_BYTES = 8_900_000  # files of a repository stay below 9 MB

Module = TypeVar("Module", bound=nn.Module)


def save_module(
    module: nn.Module, folder: str | Path, dtype: torch.dtype = torch.float16, max_shard_bytes: int = SHARD_BYTES
) -> None:
    """Write a diffusers-style part: ``config.json`` and safetensors, in shards where it is large.

    Args:
        module: A ModelMixin with a registered config.
        folder: Where to write; made if absent; older weight files in it are removed.
        dtype: Type of floating-point tensors on disk.
        max_shard_bytes: Largest file.
    """
    folder = Path(folder)
    state = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous().clone()
        for name, value in module.state_dict().items()
    }
    write_folder(state, folder, max_shard_bytes)
    module.save_config(folder)  # type: ignore[operator]
    if hasattr(module, "save_files"):  # a part with more than tensors, such as a tokenizer's vocabulary
        module.save_files(folder)  # type: ignore[operator]


def write_folder(state: dict[str, Tensor], folder: str | Path, max_shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors as safetensors, in shards where they are large; what :func:`read_folder` reads.

    Args:
        state: Contiguous tensors on the CPU, by name.
        folder: Where to write; made if absent; older weight files in it are removed.
        max_shard_bytes: Largest file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{WEIGHTS}*"):
        old.unlink()
    split = split_torch_state_dict_into_shards(
        state, filename_pattern=WEIGHTS + "{suffix}.safetensors", max_shard_size=max_shard_bytes
    )
    for file, names in split.filename_to_tensors.items():
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True))


def load_module(cls: type[Module], folder: str | Path, dtype: torch.dtype = torch.float32, **overrides: Any) -> Module:
    """Build a part from its config and load its weights strictly.

    Args:
        cls: The part's class (ConfigMixin and nn.Module).
        folder: Written by :func:`save_module`.
        dtype: Type in memory.
        **overrides: Config fields to change.

    Returns:
        The part, in evaluation mode.

    Raises:
        InputError: If a file or tensor is missing, left over or of another shape.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"No {cls.__name__} found in {folder}: it has no config.json; give a folder saved by this app."
        )
    config = cls.load_config(folder)  # type: ignore[attr-defined]
    module = cls.from_config({**config, **overrides})  # type: ignore[attr-defined]
    if hasattr(module, "load_files"):
        module.load_files(folder)  # type: ignore[operator]
    load_strictly(module, read_folder(folder), str(folder))
    nn.Module.to(module, dtype)  # ModelMixin.to warns where it need not
    return module.eval()


def read_folder(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors, in shards or not."""
    folder = Path(folder)
    index = folder / f"{WEIGHTS}.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise InputError(f"{index} names files outside its own folder; use a folder saved by this app.")
        files = [folder / name for name in names]
    else:
        files = [folder / f"{WEIGHTS}.safetensors"]
    state: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise InputError(f"Weights are incomplete: {file} is missing; copy the whole folder again.")
        try:
            state.update(load_file(file))
        except SafetensorError as error:
            raise InputError(f"{file} is not a readable safetensors file ({error}); copy it again.") from error
    return state


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str, *, assign: bool = False) -> None:
    """Load a state dict, naming every missing, unexpected or misshapen tensor if there is any.

    Args:
        module: Target.
        state: Tensors by name.
        source: What to call their origin in the message.
        assign: Take the tensors themselves instead of copying them, for a module whose parameters are on the meta
            device: nothing is then held twice. They become float32.
    """
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    for label, names in (("lack", missing), ("also hold", unexpected), ("have other shapes:", shapes)):
        if names:
            listed = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
            raise InputError(
                f"The weights in {source} {label} {len(names)} tensors ({listed}) for this "
                f"{type(module).__name__}; use weights and config of the same network."
            )
    if assign:
        state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    module.load_state_dict(state, strict=True, assign=assign)
