"""The four public checkpoints of the paper's size, their names in our network, and strict assembly.

Order: MVDream U-Net (690 entries), AnimateDiff motion adapter, IP-Adapter (36), Animate3D's delta (888), which
overwrites the motion modules. Files are read as safetensors or with ``weights_only``; nothing in them is executed.
"""

import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_strictly
from t4d.errors import InputError

State = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """Where a public checkpoint lives.

    Attributes:
        name: What it is, for messages.
        repo: Hub repository.
        files: File names inside it, the first that exists is taken.
    """

    name: str
    repo: str
    files: tuple[str, ...]


_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
MVDREAM = Source(
    "MVDream U-Net", "yanqinJiang/mvdream-sd1.5-diffusers", tuple(f"unet/{name}" for name in _DIFFUSERS) + _DIFFUSERS
)
MOTION = Source("AnimateDiff motion adapter", "guoyww/animatediff-motion-adapter-v1-5-2", _DIFFUSERS)
IP_ADAPTER = Source(
    "IP-Adapter",
    "h94/IP-Adapter",
    ("models/ip-adapter_sd15.safetensors", "models/ip-adapter_sd15.bin", "ip-adapter_sd15.bin"),
)
DELTA = Source("Animate3D delta", "yanqinJiang/animate3d", ("animate3d_motion_modules.ckpt",))


def is_delta(name: str) -> bool:
    """Whether an entry belongs to Animate3D's delta: motion modules and the MV2V adapter."""
    return "motion_modules" in name or "i2v" in name


def find_file(source: Source, place: str | Path | None = None) -> Path:
    """Local path of a checkpoint.

    Args:
        source: Which one.
        place: A file, a folder holding one of the source's files, or a Hub repository id; None: the source's own.

    Returns:
        A file.

    Raises:
        InputError: If it cannot be had, with how to get it.
    """
    if place is not None and Path(place).is_file():
        return Path(place)
    if place is not None and Path(place).is_dir():
        for name in source.files:
            if (Path(place) / name).is_file():
                return Path(place) / name
        raise InputError(f"The folder {place} holds no {source.name}; expected one of {', '.join(source.files)} in it.")
    repo = source.repo if place is None else str(place)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"{repo!r} is neither a file, a folder nor a Hub id for the {source.name}; give one of them.")
    return from_hub(repo, source.files, source.name)


def from_hub(repo: str, names: tuple[str, ...], what: str) -> Path:
    """First of some files of a Hub repository, from the local cache or downloaded."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            return Path(hf_hub_download(repo, name))
        except LocalEntryNotFoundError as error:  # no network and not in the cache
            raise InputError(_advice(what, repo, name)) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # offline mode, unknown repository, refused access: all mean "not there"
            raise InputError(_advice(what, repo, name)) from error
    raise InputError(f"The Hub repository {repo} has none of {', '.join(names)} for the {what}; check its id.")


def _advice(what: str, repo: str, name: str) -> str:
    return (
        f"The {what} weights are not on this machine and could not be downloaded from the Hub ({repo}, file {name}); "
        f"connect to the network, or run 'hf download {repo} {name}' where there is one and give the file's path."
    )


def read_state(path: str | Path) -> State:
    """Tensors of a .safetensors, .bin or .ckpt file, unwrapped to one flat dict.

    ``{"state_dict": ...}`` wrappers and the "module." prefix of distributed training are removed; nested dicts (the
    IP-Adapter file) become dotted names.

    Raises:
        InputError: If the file is not such a checkpoint.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            raw: object = load_file(path)
        else:
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a readable checkpoint of tensors ({reason}); download it again.") from error
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    state: State = {}
    _flatten(raw, "", state)
    if not state:
        raise InputError(f"{path} holds no tensors; give a checkpoint with a state dict.")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _flatten(value: object, prefix: str, into: State) -> None:
    if isinstance(value, Tensor):
        into[prefix] = value
    elif isinstance(value, dict):
        for name, inner in value.items():
            _flatten(inner, f"{prefix}.{name}" if prefix else str(name), into)


def ip_adapter_names(network: MultiViewMotionUNet) -> dict[str, str]:
    """Our names of the IP-Adapter file's entries: odd ids count the cross-attentions down, up, then mid."""
    paths = []
    blocks = [(f"down_blocks.{i}", block) for i, block in enumerate(network.down_blocks)]
    blocks += [(f"up_blocks.{i}", block) for i, block in enumerate(network.up_blocks)]
    blocks.append(("mid_block", network.mid_block))
    for path, block in blocks:
        count = len(block.attentions) if hasattr(block, "attentions") else 0  # type: ignore[arg-type]
        paths += [f"{path}.attentions.{i}.transformer_blocks.0.attn2.processor" for i in range(count)]
    names = {
        f"ip_adapter.{2 * index + 1}.{which}.weight": f"{path}.{which}.0.weight"
        for index, path in enumerate(paths)
        for which in ("to_k_ip", "to_v_ip")
    }
    layer = "encoder_hid_proj.image_projection_layers.0"
    for kind in ("weight", "bias"):
        names[f"image_proj.proj.{kind}"] = f"{layer}.image_embeds.{kind}"
        names[f"image_proj.norm.{kind}"] = f"{layer}.norm.{kind}"
    return names


@dataclass(frozen=True)
class Census:
    """What loading left open.

    Attributes:
        missing: Entries of the network that no checkpoint gave.
        unexpected: Entries of the checkpoints that the network has no place for.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def merge(
    network: MultiViewMotionUNet,
    base: State | None = None,
    motion: State | None = None,
    ip_adapter: State | None = None,
    delta: State | None = None,
) -> tuple[State, Census]:
    """Entries of the checkpoints under our names, later ones over earlier ones.

    Args:
        network: Tells the names.
        base: MVDream U-Net.
        motion: Motion adapter; its block-level position codes are dropped, as the network's processors have their own.
        ip_adapter: IP-Adapter.
        delta: Animate3D's delta. Where it lacks the adapter's ``to_q_i2v``, that starts as a copy of ``to_q``.

    Returns:
        Merged state and census; the census counts every entry of the network.
    """
    merged: State = dict(base or {})
    if motion:
        merged |= {name: value for name, value in motion.items() if not name.endswith("pos_embed.pe")}
        # what the public motion adapter never had: the 1D code of our processors is computed, not learned
        own = network.state_dict()
        merged |= {name: own[name] for name in own if name.endswith("time_pos_embed.pe")}
    if ip_adapter:
        names = ip_adapter_names(network)
        merged |= {names.get(name, name): value for name, value in ip_adapter.items()}
    merged |= delta or {}
    own_names = set(network.state_dict())
    return merged, Census(tuple(sorted(own_names - merged.keys())), tuple(sorted(merged.keys() - own_names)))


def load_checkpoints(
    network: MultiViewMotionUNet,
    base: State,
    motion: State | None,
    ip_adapter: State,
    delta: State,
) -> MultiViewMotionUNet:
    """Fill the network from the four public checkpoints; nothing may be missing or left over.

    A network whose parameters are on the meta device takes the files' tensors over instead of copying them.

    Raises:
        InputError: Naming the entries otherwise.
    """
    merged, _ = merge(network, base, motion, ip_adapter, delta)
    load_strictly(network, merged, "the four public checkpoints", assign=network.conv_in.weight.is_meta)
    return network


def start_from_public(
    network: MultiViewMotionUNet, base: State, motion: State, ip_adapter: State
) -> MultiViewMotionUNet:
    """Fill the network for training without Animate3D's delta.

    New parts start as training does: adapter queries copied from ``to_q`` and output zero, blend 0, new spatial
    projections at random.

    Raises:
        InputError: If anything but those new parts is missing, or anything is left over.
    """
    merged, _ = merge(network, base, motion, ip_adapter, None)
    own = network.state_dict()
    for name in own:
        if name.endswith("processor.to_q_i2v.weight"):
            merged[name] = merged[name.replace("processor.to_q_i2v", "to_q")].clone()
        elif "i2v" in name:
            merged[name] = torch.zeros_like(own[name])
        elif "_sp." in name or name.endswith("mix_factor"):
            merged[name] = own[name]
    load_strictly(network, merged, "the base checkpoints")
    return network
