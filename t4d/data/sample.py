"""A training clip as a few byte strings: what shards hold, and what anyone can open without this program.

`view_K.png`: frames 0..T-1 of view K below one another, [T * H, W] RGBA, colour over mid-grey (not premultiplied).
`safetensors.gz`: cameras and, where known, flow (float16), flow_valid, tracks, visible, query_valid, latents.
`json`: caption, verb, noun, name, clip; shape [V, T, H, W]; the names of the fields; the format's version.
"""

import gzip
import io
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from t4d.errors import InputError

VERSION = 1
TEXT = ("caption", "verb", "noun", "name", "clip")
# Field -> type on disk; in an item it is `_LOADED`'s. Shapes are checked in `_check`.
_STORED = {
    "cameras": torch.float32,
    "flow": torch.float16,
    "flow_valid": torch.uint8,
    "tracks": torch.float32,
    "visible": torch.bool,
    "query_valid": torch.bool,
    "latents": torch.float16,
}
_LOADED = {**_STORED, "flow": torch.float32, "flow_valid": torch.float32}
_TOGETHER = (("flow", "flow_valid"), ("tracks", "visible", "query_valid"))
_JSON, _TENSORS = "json", "safetensors.gz"
_MOST_PIXELS = 2**28  # of one view's strip: 64 frames of 2048 x 2048
_MOST_BYTES = 2**31  # of the unpacked tensors


def encode_item(item: Mapping[str, Any]) -> dict[str, bytes]:
    """Byte strings of an item of `ClipDataset` or of one without flow, tracks or latents.

    Pictures are rounded to 8 bits and flow to float16; everything else comes back equal.

    Args:
        item: `rgba` [V, T, 4, H, W] in 0..1, `cameras` [V, 16], texts, and any of `flow` with `flow_valid`, `tracks`
            with `visible` and `query_valid`, `latents`.

    Returns:
        Bytes by extension.

    Raises:
        InputError: A field is missing, unknown, misshapen or not finite.
    """
    name = str(item.get("name", "?"))
    known = {"rgba", *TEXT, *_STORED}
    missing, unknown = [k for k in ("rgba", "cameras", *TEXT) if k not in item], sorted(item.keys() - known)
    if missing or unknown:
        raise InputError(f"clip {name} lacks {missing} and has {unknown}; a training clip's fields are {sorted(known)}")
    tensors = {k: item[k] for k in _STORED if k in item}
    _check(item["rgba"].shape, tensors, name)
    if not 0 <= float(item["rgba"].min()) <= float(item["rgba"].max()) <= 1:
        raise InputError(f"the pictures of clip {name} are not finite or leave 0..1; render it again")
    pictures = quantised(item["rgba"]).permute(0, 1, 3, 4, 2).flatten(1, 2).numpy()  # [V, T * H, W, 4]
    out = {f"view_{k}.png": _png(strip) for k, strip in enumerate(pictures)}
    stored = {k: x.to(_STORED[k]).contiguous() for k, x in tensors.items()}
    out[_TENSORS] = gzip.compress(save(stored), compresslevel=1, mtime=0)
    views, frames, _, height, width = item["rgba"].shape
    facts = {"version": VERSION, "shape": [views, frames, height, width], "fields": sorted(tensors)}
    out[_JSON] = json.dumps({**facts, **{k: item[k] for k in TEXT}}).encode()
    return out


def decode_item(members: Mapping[str, bytes], source: str) -> dict[str, Any]:
    """The item that `encode_item` was given.

    Args:
        members: Bytes by extension; others than its own are left alone.
        source: What to call the clip in messages.

    Raises:
        InputError: A member is missing, cannot be read or does not fit the others.
    """
    try:
        facts = json.loads(_member(members, _JSON, source))
        version, (views, frames, height, width), fields = facts["version"], map(int, facts["shape"]), facts["fields"]
        texts = {k: str(facts[k]) for k in TEXT}
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}.{_JSON} is not a training clip's ({error}); write the shard again") from error
    if version != VERSION:
        raise InputError(f"{source} has format version {version}, this program reads {VERSION}; write the shard again")
    if min(views, frames, height, width) < 1 or frames * height * width > _MOST_PIXELS:
        raise InputError(f"{source} says its shape is {facts['shape']}; write the shard again")
    names = [f"view_{k}.png" for k in range(views)]
    strips = [_pixels(_member(members, name, source), f"{source}.{name}", frames * height, width) for name in names]
    rgba = torch.empty(views, frames, 4, height, width)
    for view, strip in zip(rgba, strips):
        view.copy_(torch.from_numpy(strip).view(frames, height, width, 4).permute(0, 3, 1, 2))
    item: dict[str, Any] = {"rgba": rgba.div_(255)}
    try:
        tensors = load(_unzipped(_member(members, _TENSORS, source)))
    except (OSError, EOFError, zlib.error, SafetensorError) as error:
        raise InputError(f"{source}.{_TENSORS} cannot be read ({error}); write the shard again") from error
    if sorted(tensors) != sorted(fields):
        raise InputError(f"{source} holds {sorted(tensors)} but its json names {fields}; write the shard again")
    _check(item["rgba"].shape, tensors, source)
    item.update({k: x.to(_LOADED[k]) for k, x in tensors.items()})
    return item | texts


def quantised(rgba: Tensor) -> Tensor:
    """Pictures in 0..1 as uint8."""
    return (rgba * 255).round_().to(torch.uint8)


def _check(rgba: torch.Size, tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuses fields of wrong shapes, lonely ones and values that are not finite, naming the field."""
    if len(rgba) != 5 or rgba[2] != 4 or 0 in rgba:
        raise InputError(f"clip {name} has pictures of shape {list(rgba)}; expected [views, frames, 4, height, width]")
    v, t = rgba[:2]
    for group in _TOGETHER:
        present = [k for k in group if k in tensors]
        if present and len(present) < len(group):
            raise InputError(f"clip {name} has {present} alone; store {list(group)} together")
    points = tensors["query_valid"].shape[-1] if "query_valid" in tensors else 0
    cells = tuple(tensors["flow"].shape[3:]) if "flow" in tensors else ()
    shapes = {
        "cameras": (v, 16),
        "flow": (v, t, 2, *cells),
        "flow_valid": (v, t, 1, *cells),
        "tracks": (v, t, points, 2),
        "visible": (v, t, points),
        "query_valid": (v, points),
        "latents": (v, t, *tensors["latents"].shape[2:]) if "latents" in tensors else (),
    }
    for key, value in tensors.items():
        if key not in shapes or tuple(value.shape) != shapes[key]:
            expected = list(shapes.get(key, ()))
            raise InputError(f"{key} of clip {name} has shape {list(value.shape)}; expected {expected}: make it again")
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{key} of clip {name} holds values that are not finite; make it again")


def _png(strip: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(strip).save(out, "png", compress_level=3)
    return out.getvalue()


def _pixels(data: bytes, source: str, height: int, width: int) -> np.ndarray:
    """[height, width, 4] uint8 of a PNG whose header is checked before anything is unpacked."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.size != (width, height) or picture.mode != "RGBA":
                raise InputError(
                    f"{source} is {picture.size[0]}x{picture.size[1]} {picture.mode}; expected {width}x{height} RGBA"
                )
            return np.asarray(picture).copy()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{source} cannot be read ({error}); write the shard again") from error


def _unzipped(data: bytes) -> bytes:
    """Gunzips at most `_MOST_BYTES`: a few kilobytes may claim to be terabytes."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        out = stream.read(_MOST_BYTES + 1)
    if len(out) > _MOST_BYTES:
        raise OSError(f"it unpacks to more than {_MOST_BYTES} bytes")
    return out


def _member(members: Mapping[str, bytes], name: str, source: str) -> bytes:
    if name not in members:
        raise InputError(f"{source} has no {name} (found {sorted(members)}); write the shard again")
    return members[name]
