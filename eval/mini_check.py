"""What the shipped mini model does with objects it has never seen: ``python -m eval.mini_check [--out FOLDER]``.

Every object is rendered from its Gaussians, as the product does, and animated from its rest pose. Printed per clip:

- frame0: PSNR of the clip's frame 0 against the condition views, dB;
- area: least and largest silhouette area of frames 1.. over frame 0's, over all views;
- moved: mean absolute difference of frames 1.. from frame 0 inside the union of their masks, 0..1;
- jitter: second difference in time over first difference (1.7 for white noise, 0 for even motion).

Last come the distances (mean absolute difference inside the mask) between clips of one object: other verbs with the
same noise, and other noise with the same verb. Objects of the development data are used where they are present.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import Camera, rig
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import LightRig, shade_vertices
from t4d.paths import ASSETS, shared_dir
from t4d.splat.binding import bind_gaussians
from t4d.splat.render import render_gaussians

SHARED = (
    ("data/real3d/animated/Fox.glb", "a fox is running"),
    ("data/real3d/static/Spot/spot_triangulated.obj", "a cow is walking"),
    ("data/real3d/static/Spot/spot_triangulated.obj", "a cow is jumping"),
    ("data/real3d/static/Duck.glb", "a duck is walking"),
)
OWN = (("dinosaur.glb", "a dinosaur is walking"), ("goldfish.glb", "a goldfish is swimming"))
VERBS = ("a fox is running", "a fox is jumping", "a fox is eating", "a fox is standing still")


def reference_views(path: Path, cameras: list[Camera], count: int = 8000) -> Tensor:
    """Condition views [V, 4, H, W] of an object file at rest, rendered from bound Gaussians."""
    loaded = load_object(path)
    vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
    light = shade_vertices(loaded.mesh, vertices, LightRig())
    gaussians, _ = bind_gaussians(loaded.mesh, vertices, count, light, 0)
    with torch.no_grad():
        return render_gaussians(gaussians, cameras)


def sample(model: VideoModel, views: Tensor, cameras: list[Camera], prompt: str, steps: int, seed: int) -> Tensor:
    """A clip [V, T, 4, H, W]."""
    clip = None
    for state in sample_clip(model, views, cameras, prompt, steps=steps, seed=seed):
        clip = state.clip_rgba
    assert clip is not None
    return clip


def figures(clip: Tensor, views: Tensor) -> dict[str, float | bool]:
    """The row of one clip, see the module's docstring."""
    mask = clip[:, :, 3] > 0.5
    area = mask.flatten(2).sum(-1).float()
    ratio = area[:, 1:] / area[:, :1].clamp_min(1)
    union = mask.any(1, keepdim=True)[:, :, None].expand_as(clip[:, 1:, :3])
    first, second = clip[:, 1:, :3] - clip[:, :-1, :3], clip[:, 2:, :3] - 2 * clip[:, 1:-1, :3] + clip[:, :-2, :3]
    error = (clip[:, 0, :3] - views[:, :3]).square().mean().clamp_min(1e-10)
    return {
        "finite": bool(torch.isfinite(clip).all()),
        "frame0": round(float(-10 * torch.log10(error)), 1),
        "area_min": round(float(ratio.min()), 3),
        "area_max": round(float(ratio.max()), 3),
        "moved": round(float((clip[:, 1:, :3] - clip[:, :1, :3]).abs()[union].mean()), 4),
        "jitter": round(float(second.square().mean().sqrt() / first.square().mean().sqrt().clamp_min(1e-6)), 3),
    }


def distance(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two clips inside the union of their masks."""
    union = ((a[:, :, 3:] > 0.5) | (b[:, :, 3:] > 0.5)).expand_as(a[:, :, :3])
    return float((a[:, :, :3] - b[:, :, :3]).abs()[union].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="'mini' or a model folder")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--out", type=Path, help="folder for contact sheets and figures.json")
    args = parser.parse_args()
    model, cameras, shared = VideoModel.load(args.model), rig(width=128, height=128), shared_dir()
    objects = [(shared / name, prompt) for name, prompt in SHARED] if shared is not None else []
    objects += [(ASSETS / "objects" / name, prompt) for name, prompt in OWN]
    print(model.label)
    rows = {}
    for path, prompt in objects:
        views = reference_views(path, cameras)
        clip = sample(model, views, cameras, prompt, args.steps, 0)
        rows[f"{path.stem}: {prompt}"] = figures(clip, views)
        print(path.stem, prompt, rows[f"{path.stem}: {prompt}"], flush=True)
        if args.out is not None:
            write_contact_sheet(args.out / f"{path.stem}.png", clip[:, :, :3])
    path = objects[0][0] if shared is not None else ASSETS / "objects" / "fox.glb"
    views = reference_views(path, cameras)
    clips = {(v, s): sample(model, views, cameras, v, args.steps, s) for v in VERBS for s in (0, 1)}
    if args.out is not None:
        write_contact_sheet(args.out / "verbs.png", torch.stack([clips[v, 0][0, :, :3] for v in VERBS]))
    pairs = [(a, b) for i, a in enumerate(VERBS) for b in VERBS[i + 1 :]]
    between = sum(distance(clips[a, s], clips[b, s]) for a, b in pairs for s in (0, 1)) / (2 * len(pairs))
    within = sum(distance(clips[v, 0], clips[v, 1]) for v in VERBS) / len(VERBS)
    moved = {v: figures(clips[v, 0], views)["moved"] for v in VERBS}
    print("moved by verb", moved)
    print(f"distance between verbs {between:.4f}, between seeds {within:.4f}")
    if args.out is not None:
        summary = {"label": model.label, "clips": rows, "moved": moved, "verbs": between, "seeds": within}
        (args.out / "figures.json").write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
