"""`train/dataset.py pack | sheet | cache`: rendered clips."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from t4d.errors import InputError
from train.prepare import rendered_clips

Rigs = Annotated[Path | None, typer.Option(help="pack folder; procedural objects only without it")]
Procedural = Annotated[float, typer.Option(min=0, max=1, help="share of procedural objects")]
Side = Annotated[int, typer.Option(min=16, max=2048, help="picture side in pixels, even")]


def pack(
    source: Annotated[Path, typer.Option(help="folder of animated .glb/.gltf files")],
    out: Annotated[Path, typer.Option(help="folder for the packs")] = Path("data/rigs"),
) -> None:
    """Writes one npz per animated file and index.json; files that cannot be used are listed with the reason."""
    from t4d.data.rigfolder import pack_folder
    from t4d.data.rigpack import PackedRig

    def say(name: str, packed: PackedRig, size: int) -> None:
        facts = f"{len(packed.rig.faces)} triangles, {len(packed.clips)} clips, {size / 1024:.0f} KB"
        print(f"{name}: {facts} {'; '.join(packed.notes)}", flush=True)

    done = pack_folder(source, out, say)
    for _, reason in done.skipped:
        print(f"left out: {reason}")
    print(f"{len(done.rigs)} rigs, {done.size / 1e6:.1f} MB in {out}")


def sheet(
    out: Annotated[Path, typer.Option(help="PNG to write")],
    rigs: Rigs = None,
    rows: Annotated[int, typer.Option(min=1, max=1000)] = 12,
    procedural: Procedural = 0.3,
    side: Side = 96,
    seed: int = 0,
    split: str = "train",
) -> None:
    """Contact sheet: one sample a row, frame 0 of 4 views, then frames of the fourth and first view."""
    from PIL import Image

    if out.suffix.lower() != ".png":
        raise InputError(f"--out is {out.name}; give the name of a .png file")
    out.parent.mkdir(parents=True, exist_ok=True)
    data = rendered_clips(rigs, procedural, side=side, seed=seed, split=split)
    lines = []
    for i in range(rows):
        item = data[i]
        rgb = item["rgba"][:, :, :3].numpy()
        picks = [*rgb[:, 0], *rgb[3, [1, 2, 4, 6, 8, 10, 12, 14]], *rgb[0, [4, 8, 12]]]
        lines.append(np.concatenate(picks, -1))
        print(f"{i}: {item['name']} [{item['clip']}] {item['caption']!r}")
    picture = np.concatenate(lines, 1).transpose(1, 2, 0)
    Image.fromarray(np.round(picture * 255).astype(np.uint8)).save(out)


def cache(
    out: Annotated[Path, typer.Option(help="folder for the npz files")],
    count: Annotated[int, typer.Option(min=1)] = 400,
    start: Annotated[int, typer.Option(min=0)] = 0,
    rigs: Rigs = None,
    side: Side = 128,
    views: Annotated[int, typer.Option(min=1, max=64)] = 4,
    frames: Annotated[int, typer.Option(min=2, max=512)] = 16,
    procedural: Procedural = 0.3,
    seed: int = 0,
    split: str = "train",
    rest: Annotated[float, typer.Option(min=0, max=1, help="share of clips that start from the rest pose")] = 0.5,
) -> None:
    """Renders samples `start` .. `start + count - 1` once; those that `out` has stay. Several may fill one folder."""
    from t4d.data.cache import claim_folder, save_item

    options: dict[str, Any] = {"side": side, "views": views, "frames": frames, "seed": seed, "split": split}
    if rest != 0.5:  # caches of before this option stay usable
        options["rest_fraction"] = rest
    data = rendered_clips(rigs, procedural, **options)
    claim_folder(out, {"rigs": rigs and rigs.resolve().name, "procedural": procedural, **options})
    for i in range(start, start + count):
        path = out / f"{i:06d}.npz"
        if not path.exists():
            save_item(data[i], path)
