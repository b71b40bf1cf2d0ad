"""Bound Gaussians against exact ray casting of the same mesh: colour inside the object, outline, coverage.

    python -m eval.bench.binding [FILE ...] [--count 8000] [--pictures FOLDER]

Without files: Fox, Duck, Spot and Trex of the shared development data. Pictures of 128 and 256 pixels from azimuths 0,
45, 90, 180, 270 at elevation 15; "psnr" is over the union of both silhouettes, "inside" over pixels the mesh fills
wholly; "iou" of the silhouettes at half coverage; "area" is the excess of covered area. "classic" is the same Gaussians
under gsplat's classic filter (eps2d 0.3, no compensation), the reason for ``t4d.splat.PIXEL_FILTER``.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from t4d.geometry.camera import rig, stack
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import shade_vertices
from t4d.geometry.visibility import render_mesh
from t4d.paths import shared_dir
from t4d.splat import Gaussians, bind_gaussians, rasterize, render_gaussians

RESULT = Path(__file__).parents[1] / "results" / "bench_binding.json"
FILES = ("animated/Fox.glb", "static/Duck.glb", "static/Spot/spot_triangulated.obj", "animated/Trex.glb")


def scores(mine: Tensor, truth: Tensor) -> dict[str, float]:
    """Measures of rgba pictures [V, 4, H, W] against the true ones."""
    error = (mine[:, :3].clamp(0, 1) - truth[:, :3]).square().mean(1)
    a, b = mine[:, 3] > 0.5, truth[:, 3] > 0.5

    def psnr(where: Tensor) -> float:
        return float(-10 * torch.log10(error[where].mean()))

    return {
        "psnr": psnr(a | b),
        "inside": psnr(truth[:, 3] > 0.999),
        "iou": float((a & b).sum() / (a | b).sum()),
        "area": float(mine[:, 3].sum() / truth[:, 3].sum() - 1),
    }


def classic(gaussians: Gaussians, size: int, azimuths: tuple[float, ...]) -> Tensor:
    """Pictures [V, 4, H, W] of degree-0 Gaussians under gsplat's default filter."""
    views, Ks = stack(rig(azimuths=azimuths, width=size, height=size))
    g = gaussians
    colors, alphas, _ = rasterize(g.means, g.quats, g.scales, g.opacities, g.colors(), views, Ks, size, size)
    return torch.cat([colors + 0.5 * (1 - alphas), alphas], -1).movedim(-1, -3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--pictures", type=Path, help="folder for comparison pictures")
    arguments = parser.parse_args()
    files = arguments.files
    if not files:
        shared = shared_dir()
        if shared is None:
            parser.error("no files are given and the shared development data is absent")
        files = [shared / "data" / "real3d" / name for name in FILES]
    torch.set_num_threads(1)
    azimuths = (0.0, 45.0, 90.0, 180.0, 270.0)
    rows = []
    print("file                  size     psnr  inside     iou    area    classic psnr     iou    area   bind cpu-s")
    for path in files:
        loaded = load_object(path)
        vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
        light = shade_vertices(loaded.mesh, vertices)
        start = time.process_time()
        gaussians, _ = bind_gaussians(loaded.mesh, vertices, arguments.count, light)
        seconds = time.process_time() - start
        for size in (128, 256):
            cameras = rig(azimuths=azimuths, width=size, height=size)
            truth = torch.stack([render_mesh(loaded.mesh, vertices, c, light, supersample=4)[0] for c in cameras])
            mine = render_gaussians(gaussians, cameras)
            row = scores(mine, truth)
            other = scores(classic(gaussians, size, azimuths), truth)
            print(
                f"{path.stem[:20]:20s} {size:5d}  {row['psnr']:7.2f} {row['inside']:7.2f} {row['iou']:7.4f}"
                f" {row['area']:+7.3f}"
                f"         {other['psnr']:7.2f} {other['iou']:7.4f} {other['area']:+7.3f}      {seconds:7.2f}",
                flush=True,
            )
            rows.append({"file": path.name, "size": size, **row, "classic": other, "bind_cpu_seconds": seconds})
            if arguments.pictures:
                arguments.pictures.mkdir(parents=True, exist_ok=True)
                picture = torch.cat([torch.cat(list(x[:, :3]), -1) for x in (truth, mine)], -2).clamp(0, 1)
                pixels = (255 * picture.permute(1, 2, 0) + 0.5).byte().numpy()
                Image.fromarray(pixels).save(arguments.pictures / f"{path.stem}_{size}.png")
    if not arguments.files:
        RESULT.write_text(json.dumps({"count": arguments.count, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
