"""`train/dataset.py shards | latents`: clips in tar files, and latents computed once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from t4d.errors import InputError
from train import prepare
from train.prepare import Clips, Grid, Out, PerShard, Size, Workers

Model = Annotated[str, typer.Option(help="whose autoencoder: mini, public or a folder of train/stage1.py")]
Autoencoder = Annotated[Path | None, typer.Option(help="folder of train/autoencoder.py instead of a model")]


def shards(
    out: Out,
    clips: Annotated[Path | None, typer.Option(help="pack these: a cache or shards; none: render")] = None,
    count: Annotated[int, typer.Option(min=0, help="clips; 0: all of `clips`")] = 0,
    rigs: Annotated[Path | None, typer.Option(help="pack folder; procedural objects only without it")] = None,
    size: Size = "128",
    views: Annotated[int, typer.Option(min=1, max=64)] = 4,
    frames: Annotated[int, typer.Option(min=2, max=512)] = 16,
    procedural: Annotated[float, typer.Option(min=0, max=1, help="share of procedural objects")] = 0.3,
    grid: Grid = 15,
    seed: int = 0,
    split: str = "train",
    latents: Annotated[Path | None, typer.Option(help="put these latents in (train/dataset.py latents)")] = None,
    model: Model = "mini",
    autoencoder: Autoencoder = None,
    per_shard: PerShard = 64,
    workers: Workers = 0,
) -> None:
    """WebDataset shards of rendered or cached clips."""
    if clips is not None:
        data: Any = prepare.stored_clips(clips)
        made = {**getattr(data, "made", {}), "command": "shards", "clips": clips.resolve().name}
    else:
        if count < 1:
            raise InputError("--count is 0; say how many clips to render, or give --clips")
        options = {"views": views, "frames": frames, "grid": grid, "seed": seed, "split": split}
        data = prepare.rendered_clips(rigs, procedural, side=prepare.parse_size(size), **options)
        made = {"command": "shards", "rigs": rigs and rigs.resolve().name, "size": size, "procedural": procedural}
        made |= options
    if latents is not None:
        from t4d.data.latents import WithLatents, autoencoder_digest

        digest = autoencoder_digest(_autoencoder(model, autoencoder))
        data, made["latents"] = WithLatents(data, latents, digest), digest
    prepare.write(data, out, made, per_shard, workers, count or None)


def latents(
    clips: Clips,
    out: Annotated[Path, typer.Option(help="folder for the latents; clips that it has are not encoded again")],
    model: Model = "mini",
    autoencoder: Autoencoder = None,
    count: Annotated[int, typer.Option(min=0, help="clips from the first; 0: all")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Latents [V, T, C, h, w] of clips in float16: exact ones of rendered flow, else the posterior's mean."""
    import torch

    from t4d.data.latents import LatentStore, autoencoder_digest, encode_clips
    from train.draws import Drawn, clean_latents

    network = _autoencoder(model, autoencoder).eval()
    store = LatentStore(out, autoencoder_digest(network), create=True)
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device} cannot be used ({str(error).splitlines()[0]}); choose another") from error

    @torch.no_grad()
    def encode(item: dict[str, Any]) -> torch.Tensor:
        flow = item["flow"][None] if "flow" in item else None
        time = torch.zeros(1, dtype=torch.long)
        drawn = Drawn(item["rgba"][None], flow, None, item["cameras"][None], [""], time, None, [(0, 0, 0)])
        return clean_latents(network, drawn, drawn.rgba.to(device))[0]  # type: ignore[arg-type]

    made, there = encode_clips(prepare.stored_clips(clips), store, encode, count or None)
    print(f"{made} clips encoded, {there} were there, in {out}")


def _autoencoder(model: str, folder: Path | None) -> Any:
    from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
    from t4d.diffusion.model import VideoModel
    from t4d.diffusion.weights import load_module

    return load_module(ReferenceAutoencoder, folder) if folder is not None else VideoModel.load(model).autoencoder
