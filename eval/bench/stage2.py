"""Cost of Stage Two: features, every kind of fit iteration, one 4D-SDS step in its parts, and memory.

    python -m eval.bench.stage2 [--quick]          mini on the CPU, one thread
    python -m eval.bench.stage2 --paper [--quick]  the paper's size with random weights; needs a CUDA device and gsplat

The clip is an object of the gallery bent by a known motion, fitted with the preset's own settings: on the CPU the whole
fit is run, on a GPU `--iterations` of each kind (the stage's time is then the preset's counts times the medians). CPU
figures are processor seconds of one thread, GPU figures wall seconds with the device waited for. Memory is the peak
above what was held before the part began: resident memory of the process, or torch's on the device. Random weights cost
what trained ones cost; the public ones are not needed. Writes eval/results/bench_stage2.json (bench_stage2_paper.json).
"""

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from eval.bench.meter import Meter
from eval.bench.rasterizer import hardware
from t4d.config import Config
from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.image.clip import CLIPPictureEncoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE
from t4d.diffusion.text.clip import CLIPSentenceEncoder
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.geometry.camera import rig
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import shade_vertices
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_maps import features_of
from t4d.motion.feature_table import FeatureTable
from t4d.motion.fit import fit_motion
from t4d.motion.projection import Projector
from t4d.motion.random_rig import random_rig
from t4d.motion.sds import VideoGuidance
from t4d.motion.visibility import visible_from_mesh
from t4d.paths import ASSETS
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.render import render_gaussians
from t4d.steps import fit_options

RESULTS = Path(__file__).parents[1] / "results"
OBJECT, PROMPT = "fox", "a fox is running"


@dataclass
class Scene:
    """A bent object: its surface at rest, Gaussians, and the clip the rig sees."""

    vertices: Any
    faces: Any
    gaussians: Gaussians
    cameras: list
    rgb: Tensor
    mask: Tensor
    reference: Tensor  # [V, 4, H, W]

    @classmethod
    def make(cls, count: int, size: int, frames: int, device: torch.device) -> "Scene":
        loaded = load_object(ASSETS / "objects" / f"{OBJECT}.glb")
        vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
        light = shade_vertices(loaded.mesh, vertices)
        gaussians = bind_gaussians(loaded.mesh, vertices, count, light, 0)[0].to(device)
        cameras = rig(width=size, height=size)
        with torch.no_grad():
            bent = stack_gaussians([_bent(gaussians, i / (frames - 1)) for i in range(frames)])
            rgba = torch.stack([render_gaussians(bent.map(lambda x, i=i: x[i]), cameras) for i in range(frames)], 1)
        mask = rgba[:, :, 3:]
        rgb = ((rgba[:, :, :3] - 0.5 * (1 - mask)) / mask.clamp(min=1e-3)).clamp(0, 1)
        return cls(vertices, loaded.mesh.faces, gaussians, cameras, rgb, mask, rgba[:, 0].clamp(0, 1))


def _bent(gaussians: Gaussians, u: float) -> Gaussians:
    x, _, z = gaussians.means.unbind(-1)
    angle = 0.5 * u * torch.sin(3 * x + 2 * math.pi * u)
    lift = torch.stack([torch.zeros_like(x), 0.5 * angle, 0.3 * angle * (1 + z)], dim=-1)
    return gaussians.replace(means=gaussians.means + lift)


class UnreadSentences(CLIPSentenceEncoder):
    """CLIP's text tower over fixed tokens: the vocabulary is not shipped, and what is read does not change the cost."""

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        ids = torch.zeros(len(texts), self.tower.config.max_position_embeddings, dtype=torch.long, device=self.device)
        with torch.no_grad():
            return self.tower(ids).last_hidden_state, None


def paper_model(device: torch.device) -> VideoModel:
    """The paper's networks with random weights."""
    torch.manual_seed(0)
    meta = {"guidance": 7.5, "views": 4, "frames": 16, "size": 256, "drop_image": True}
    with torch.device(device):
        unet, autoencoder = MultiViewMotionUNet(), SDAutoencoder()
        text, image = UnreadSentences(), CLIPPictureEncoder()
    model = VideoModel(unet, autoencoder, text, image, dict(PAPER_SCHEDULE), "random weights", meta).to(device)
    for part in model.parts.values():
        part.eval()
    return model


def measure_features(meter: Meter, model: VideoModel, scene: Scene, config: Config) -> FeatureTable:
    """The features stage in its parts."""
    settings, seen = config.stage2.features, scene.cameras
    with meter.part("features: one pass of the network"):
        maps = features_of(
            "trained", model, scene.rgb, scene.mask, scene.reference, seen, PROMPT, layer=settings.layer, t=settings.t
        )
    with meter.part("features: visibility by ray casting"):
        visible = visible_from_mesh(scene.vertices, scene.faces, scene.gaussians.means.cpu(), seen)
    with meter.part("features: projection"):
        return Projector(maps, seen, settings.width, settings.neighbours).table(scene.gaussians.means.cpu(), visible)


def measure_fit(
    meter: Meter, scene: Scene, config: Config, table: FeatureTable, guidance: VideoGuidance, most: int | None
) -> MotionAsset:
    """The fit, iteration by iteration; stops early in each phase where `most` is given."""
    options = fit_options(config.stage2)
    if most is not None:
        options |= {"iterations": 2 * most, "refine_iterations": most}
    settings = config.stage2
    states = fit_motion(
        scene.gaussians, scene.cameras, scene.rgb, scene.mask, table=table, guidance=guidance, **options
    )
    state, start, total, done = None, meter.now(), options["iterations"], 0
    with meter.part("fit: whole"):
        for state in states:
            taken, done = meter.now() - start, done + 1
            half = done <= settings.coarse * total
            kind = "refine" if state.phase == "refine" else f"reconstruct, {'half' if half else 'full'} size"
            if done > 1:  # the first one starts up
                meter.seconds[f"fit: {kind}"].append(taken)
            start = meter.now()
    assert state is not None
    return state.asset


def measure_sds(meter: Meter, asset: MotionAsset, guidance: VideoGuidance, runs: int) -> None:
    """4D-SDS steps, whole and in their parts."""
    asset_parameters = list(asset.field.parameters())
    for run in range(runs):
        with meter.part("sds: whole step"):
            guidance(asset, torch.Generator().manual_seed(run)).backward()
        generator = torch.Generator().manual_seed(run)
        cameras = random_rig(generator, guidance.size, guidance.views)
        with meter.part("sds: render"):
            rgba = guidance.render(asset, cameras, guidance.frames_of(asset.frames, generator))
        leaf = rgba.detach().requires_grad_()
        with meter.part("sds: encode"):
            z = guidance.encode(leaf)
        with meter.part("sds: denoise"):
            target = guidance.denoise(z, leaf[:, 0].detach(), cameras, guidance.t_max, generator)
        with meter.part("sds: backward of encode"):
            (0.5 * (z - target).square().sum() / (z.shape[1] * (z.shape[2] - 1))).backward()
        with meter.part("sds: backward of render and field"):
            rgba.backward(leaf.grad)
        for parameter in asset_parameters:
            parameter.grad = None


def stage_seconds(parts: dict[str, dict[str, float]], config: Config) -> dict[str, float]:
    """Seconds of the stages at the preset's counts, from the medians of their iterations."""
    settings = config.stage2
    half = round(settings.coarse * settings.iterations)
    per = {name.removeprefix("fit: "): row["seconds"] for name, row in parts.items() if name.startswith("fit: ")}
    return {
        "features": round(sum(row["seconds"] for name, row in parts.items() if name.startswith("features")), 2),
        "reconstruction": round(
            half * per.get("reconstruct, half size", 0.0)
            + (settings.iterations - half) * per.get("reconstruct, full size", 0.0),
            2,
        ),
        "refinement": round(settings.refine_iterations * per.get("refine", 0.0), 2),
    }


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true", help="the paper's size, random weights, on a GPU")
    parser.add_argument("--quick", action="store_true", help="few small iterations, nothing written")
    parser.add_argument("--iterations", type=int, default=10, help="of each kind, with --paper")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. stage2.iterations=100")
    arguments = parser.parse_args()
    if arguments.paper and not torch.cuda.is_available():
        sys.exit("The paper's size is measured on a CUDA device and none was found; leave --paper out to measure mini.")
    if arguments.paper and importlib.util.find_spec("gsplat") is None:
        sys.exit("The paper's size needs gsplat, which is not installed: pip install gsplat==1.5.3.")
    torch.set_num_threads(1)
    config = Config.load("paper" if arguments.paper else "mini", arguments.set)
    device = torch.device("cuda" if arguments.paper else "cpu")
    count = 500 if arguments.quick else config.splat.count
    model = paper_model(device) if arguments.paper else VideoModel.load("mini")
    scene = Scene.make(count, config.stage1.size, config.stage1.frames, device)
    meter = Meter(device)

    table = measure_features(meter, model, scene, config)
    options = config.stage2.guidance.model_dump(exclude={"lambda_sds"})
    guidance = VideoGuidance(model, PROMPT, **options)
    most = 2 if arguments.quick else (arguments.iterations if arguments.paper else None)
    asset = measure_fit(meter, scene, config, table.to(device), guidance, most)
    measure_sds(meter, asset, guidance, 1 if arguments.quick else 5)

    parts = meter.medians()
    name = torch.cuda.get_device_name(device) if arguments.paper else hardware()
    print(f"{name}; {len(scene.gaussians)} Gaussians, {config.stage1.frames} frames x {len(scene.cameras)} views")
    for part, row in parts.items():
        memory = f"{row['peak_mb']:8.0f} MB" if "peak_mb" in row else ""
        print(f"{part:42s} {row['seconds']:9.3f} s  x {row['runs']:<4.0f}{memory}")
    stages = stage_seconds(parts, config)
    print("stages at the preset's counts:", ", ".join(f"{stage} {value:.1f} s" for stage, value in stages.items()))
    if arguments.quick:
        return
    report = {
        "hardware": name,
        "clock": "wall, device waited for" if arguments.paper else "processor seconds, one thread",
        "torch": torch.__version__,
        "gaussians": len(scene.gaussians),
        "weights": model.label,
        "parts": parts,
        "stages": stages,
        "config": config.stage2.model_dump(mode="json"),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / ("bench_stage2_paper.json" if arguments.paper else "bench_stage2.json")
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {out.relative_to(Path(__file__).parents[2])}")


if __name__ == "__main__":
    main()
