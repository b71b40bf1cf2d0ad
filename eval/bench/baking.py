"""Baked objects against the textured ones they stand for, and merged Gaussians against the many they stand for.

    python -m eval.bench.baking [FILE ...] [--vertices 5000 10000 20000 30000] [--size 192] [--pictures FOLDER]

Without files: Spot, Fox and Duck of the shared development data. "psnr" is over the object's pixels in two rig views,
both lit by the same baked light (ambient occlusion, soft shadows). "merged" is 60 000 Gaussians on the same object
against the 8 000 that `t4d.splat.merge` makes of them, "pruned" against a random 8 000 of them.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from t4d.geometry.bake import bake_vertex_colors
from t4d.geometry.baked_light import light_steps
from t4d.geometry.camera import rig
from t4d.geometry.fine_mesh import split_for_light
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.occlusion import drain
from t4d.geometry.shading import LightRig, shade_vertices
from t4d.geometry.visibility import render_mesh
from t4d.paths import shared_dir
from t4d.splat import Gaussians, bind_gaussians, render_gaussians
from t4d.splat.merge import merge_gaussians

RESULT = Path(__file__).parents[1] / "results" / "bench_baking.json"
FILES = ("static/Spot/spot_triangulated.obj", "animated/Fox.glb", "static/Duck.glb")


def psnr(mine: Tensor, truth: Tensor) -> float:
    """Of colours [V, 4, H, W], over pixels the truth covers by half or more."""
    inside = truth[:, 3] > 0.5
    return float(-10 * torch.log10((mine[:, :3] - truth[:, :3]).square().mean(1)[inside].mean()))


def baked_rows(path: Path, budgets: list[int], size: int, pictures: Path | None) -> list[dict[str, Any]]:
    """One row a vertex budget."""
    loaded = load_object(path)
    vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
    cameras = rig(width=size, height=size)[:2]
    rows = []
    for budget in budgets:
        start = time.process_time()
        fine = split_for_light(loaded.mesh, vertices, budget)
        light = drain(light_steps(fine, LightRig(), 64, 0))
        found = drain(bake_vertex_colors(fine, light, budget))
        seconds = time.process_time() - start
        truth = torch.stack([render_mesh(fine.mesh, fine.mesh.vertices, c, light, supersample=3)[0] for c in cameras])
        mine = torch.stack([render_mesh(found, found.vertices, c, supersample=3)[0] for c in cameras])
        row = {"file": path.name, "budget": budget, "vertices": len(found.vertices), "triangles": len(found.faces)}
        rows.append({**row, "psnr": round(psnr(mine, truth), 2), "cpu_seconds": round(seconds, 2)})
        print(rows[-1], flush=True)
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            sheet = torch.cat([torch.cat(list(x[:, :3]), -1) for x in (truth, mine)], -2).clamp(0, 1)
            pixels = (255 * sheet.permute(1, 2, 0) + 0.5).byte().numpy()
            Image.fromarray(pixels).save(pictures / f"{path.stem}_{budget}.png")
    return rows


def merged_row(path: Path, size: int, many: int = 60_000, few: int = 8_000) -> dict[str, Any]:
    """How well fewer Gaussians show what many show."""
    loaded = load_object(path)
    vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
    full, _ = bind_gaussians(loaded.mesh, vertices, many, shade_vertices(loaded.mesh, vertices))
    cameras = rig(width=size, height=size)
    truth = render_gaussians(full, cameras)
    pick = torch.randperm(many, generator=torch.Generator().manual_seed(0))[:few]
    pruned = Gaussians(**{name: value[pick] for name, value in full.state_dict().items()})
    start = time.process_time()
    merged = merge_gaussians(full, few)
    seconds = round(time.process_time() - start, 2)
    shown = {"merged": merged, "pruned": pruned}
    scores = {name: round(psnr(render_gaussians(g, cameras), truth), 2) for name, g in shown.items()}
    row = {"file": path.name, "from": many, "to": len(merged), **scores, "cpu_seconds": seconds}
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--vertices", nargs="+", type=int, default=[5000, 10_000, 20_000, 30_000])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--pictures", type=Path, help="folder for comparison pictures")
    arguments = parser.parse_args()
    files = arguments.files
    if not files:
        folder = shared_dir()
        if folder is None:
            parser.error("name a file; the shared development data is absent")
        files = [folder / "data/real3d" / name for name in FILES]
    baked = [row for path in files for row in baked_rows(path, arguments.vertices, arguments.size, arguments.pictures)]
    merged = [merged_row(path, 128) for path in files]
    if not arguments.files:
        RESULT.write_text(json.dumps({"size": arguments.size, "baked": baked, "merged": merged}, indent=1) + "\n")


if __name__ == "__main__":
    main()
