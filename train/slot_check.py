"""What a slot looks at before it trains: does this machine render and step, how fast, in how much memory."""

import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from t4d.data.dataset import ClipDataset
from t4d.data.device_render import DeviceClips, render_scenes
from t4d.data.device_scene import pack_scenes
from train.config import DataConfig

AGREE = 0.01  # share of pixels that may differ by more than this much colour
CLIPS = 2


def machine(device: torch.device) -> dict[str, Any]:
    """Device, versions and memory."""
    found: dict[str, Any] = {"python": sys.version.split()[0], "device": "cpu"}
    for name in ("torch", "diffusers", "transformers", "accelerate", "numpy", "numba", "huggingface_hub"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        found |= {"device": torch.cuda.get_device_name(), "free_gib": round(free / 2**30, 1)}
        found["memory_gib"] = round(total / 2**30, 1)
    return found


def renderers(clips: ClipDataset, device: torch.device, batch: int) -> dict[str, Any]:
    """The device renderer against the CPU's on a few clips, and its speed.

    Returns:
        "agrees", largest shares of differing pixels, and clips a second of a batch (scenes given); "error" and "agrees"
        False where the device cannot run it.
    """
    try:
        rendered = DeviceClips(clips, device)
        scenes = [clips.scene(i) for i in range(max(CLIPS, min(batch, 16)))]
        found: dict[str, Any] = {"differing_pixels": 0.0, "differing_flow": 0.0}
        for i in range(CLIPS):
            theirs, ours = rendered[i], clips[i]
            color = (theirs["rgba"].cpu() - ours["rgba"]).abs() > AGREE
            flow = (theirs["flow"].cpu() - ours["flow"]).abs() > AGREE
            found["differing_pixels"] = max(found["differing_pixels"], float(color.float().mean()))
            found["differing_flow"] = max(found["differing_flow"], float(flow.float().mean()))
        found["agrees"] = max(found["differing_pixels"], found["differing_flow"]) < AGREE
        packed = pack_scenes((scenes * -(-batch // len(scenes)))[:batch]).to(device)
        render_scenes(packed)
        wait(device)
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < 2 and rounds < 20:
            render_scenes(packed)
            wait(device)
            rounds += 1
        found["clips_per_second"] = round(rounds * batch / (time.perf_counter() - began), 1)
        return found
    except Exception as error:  # whatever this device or version lacks: the CPU's renderer is there
        return {"agrees": False, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def scene_seconds(clips: ClipDataset, count: int = 8) -> float:
    """Seconds of one process to draw a scene."""
    clips.scene(0)
    began = time.perf_counter()
    for i in range(1, 1 + count):
        clips.scene(i)
    return round((time.perf_counter() - began) / count, 4)


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clips_of(data: DataConfig, seed: int) -> ClipDataset:
    """The training clips as the workers draw them."""
    from train.sources import rendered_or_stored

    found, _ = rendered_or_stored(data.model_copy(update={"renderer": "cpu"}), seed)
    assert isinstance(found, ClipDataset)
    return found
