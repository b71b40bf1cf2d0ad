"""Command line: ``python -m t4d animate FILE "PROMPT" -o OUT``."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tqdm import tqdm

from t4d.config import Config, preset_names, variant_names
from t4d.errors import Cancelled, InputError

if TYPE_CHECKING:
    from t4d.pipeline import AnimateRequest

app = typer.Typer(
    help="Turn a static 3D model and one sentence into a moving 4D Gaussian asset.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130
BOUNDS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "multiple_of": "a multiple of",
    "min_length": "length at least",
}
BAR = "{desc} |{bar}| {n:.0f}% [{elapsed}<{postfix}]"
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
Preset = Annotated[str, typer.Option(help=f"{', '.join(preset_names())}, or a YAML file.")]
Variant = Annotated[str, typer.Option(help=f"Named patch of the configuration: {', '.join(variant_names())}.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", "-s", help="section.key=value; may be repeated.")]
Seed = Annotated[int | None, typer.Option(help="Seed; the preset's where not given.")]
Cache = Annotated[Path | None, typer.Option(help="Folder of stage outputs shared by several runs.")]


@app.command()
def animate(
    file: Annotated[Path, typer.Argument(help="Object file: .glb, .gltf, .obj or .ply.")],
    prompt: Annotated[str, typer.Argument(help='One sentence, e.g. "a fox is running".')],
    out: Out,
    preset: Preset = "mini",
    variant: Variant = "full",
    overrides: Overrides = None,
    seed: Seed = None,
    cache: Cache = None,
) -> None:
    """Animate an object: four-view video, orbit video, offline player, animated GLB, PLY frames, tracks, run.json.

    Ctrl-C once the fit has begun keeps the asset so far and writes its files.
    """
    config = _config(preset, variant, overrides, seed)
    from t4d.pipeline import AnimateRequest

    _run(AnimateRequest(file, prompt, out, config, cache))


@app.command()
def fit(
    clip: Annotated[
        Path, typer.Argument(help="Folder with view_0/0000.png, ... or 0.png, ... (RGBA), or a .safetensors clip.")
    ],
    obj: Annotated[Path, typer.Option("--object", help="The static object the clip shows: .glb, .gltf, .obj or .ply.")],
    out: Out,
    prompt: Annotated[str, typer.Option(help="What the clip shows, in one sentence; guides features and 4D-SDS.")] = "",
    views: Annotated[
        int | None, typer.Option(help="Views of a folder of 0.png, 1.png, ... (view * frames + frame).")
    ] = None,
    preset: Preset = "mini",
    variant: Variant = "full",
    overrides: Overrides = None,
    seed: Seed = None,
    cache: Cache = None,
) -> None:
    """Fit a moving asset to a multi-view clip from elsewhere: any number of views and frames, any picture size.

    Frame 0 of every view must show the object as it is in its file. Cameras are those of the preset's rig unless the
    folder has a cameras.json. Ctrl-C keeps the asset so far and writes its files.
    """
    config = _config(preset, variant, overrides, seed)
    from t4d.pipeline import AnimateRequest

    _run(AnimateRequest(obj, prompt, out, config, cache, clip, views))


@app.command()
def prepare(
    file: Annotated[Path, typer.Argument(help="Object file: .glb, .gltf, .obj or .ply.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .glb to write.")],
    samples: Annotated[int, typer.Option(help="Rays a vertex, 1 to 4096.")] = 64,
    vertices: Annotated[int | None, typer.Option(help="Most vertices of the result.")] = None,
    cycles: Annotated[
        bool, typer.Option(help="Let Blender's Cycles compute the light; needs the package bpy.")
    ] = False,
    up: Annotated[str | None, typer.Option(help="The file's up axis, y or z; its format's where not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the rays.")] = 0,
) -> None:
    """Bake textures and light (soft shadows, ambient occlusion) into the vertex colours of a new .glb.

    The preparation of the paper's Sketchfab28 objects. Animating needs none: it lights and samples the file itself.
    """
    _threads(1)
    from t4d.bake import VERTICES, bake_file

    vertices = vertices or VERTICES
    notes: tuple[str, ...] = ()
    with tqdm(total=100, unit="%", bar_format=BAR) as bar:
        for step in bake_file(file, out, samples=samples, seed=seed, cycles=cycles, vertices=vertices, up=up):
            bar.set_description_str(step.message, refresh=False)
            bar.n = 100 * step.fraction
            bar.refresh()
            notes = step.notes or notes
    for note in notes:
        print(note, file=sys.stderr)
    print(out)


@app.command()
def config(preset: Preset = "mini", variant: Variant = "full", overrides: Overrides = None) -> None:
    """Print the resolved configuration and the bounds of every setting."""
    resolved = Config.load(preset, overrides, variant)
    print(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False))
    for name, description, bounds in _settings(resolved):
        print(f"# {name}: {description} {bounds}".rstrip())


def _settings(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted name, description and bounds of every setting; of a list of sections, those of its first item."""
    for key, field in type(section).model_fields.items():
        value, name = getattr(section, key), f"{prefix}{key}"
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{name}.")
            continue
        yield name, field.description or "", _bounds(field)
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield from _settings(value[0], f"{name}[].")


def _bounds(field: FieldInfo) -> str:
    """What a setting may be, in words: "1 to 200", "above 0", "one of a, b"."""
    if get_origin(field.annotation) is Literal:
        return f"One of {', '.join(str(choice) for choice in get_args(field.annotation))}."
    found = {key: getattr(part, key) for part in field.metadata for key in BOUNDS if hasattr(part, key)}
    said = ", ".join(f"{word} {found[key]:,}" for key, word in BOUNDS.items() if key in found)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _config(preset: str, variant: str, overrides: list[str] | None, seed: int | None) -> Config:
    resolved = Config.load(preset, [*(overrides or []), *([] if seed is None else [f"seed={seed}"])], variant)
    _threads(resolved.threads)
    return resolved


def _threads(count: int) -> None:
    """Before torch and numba are imported: both read these once."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    os.environ.setdefault("NUMBA_NUM_THREADS", str(count))


class _Interrupt:
    """The first Ctrl-C asks the job to stop, the second ends the program."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "_Interrupt":
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
        print("\nstopping after this step; Ctrl-C again ends at once", file=sys.stderr)


def _run(request: "AnimateRequest") -> None:
    """Runs a job with a bar, then prints what it wrote; a job that was stopped ends with code 130."""
    from t4d.pipeline import animate as run

    result = None
    with tqdm(total=100, unit="%", bar_format=BAR) as bar, _Interrupt() as interrupt:
        for progress in run(request, stop=lambda: interrupt.asked):
            bar.set_description_str(f"{progress.stage}: {progress.message}", refresh=False)
            bar.set_postfix_str("?" if progress.eta_s is None else f"{progress.eta_s:.0f} s", refresh=False)
            bar.n = 100 * progress.fraction
            bar.refresh()
            result = progress.result or result
    assert result is not None
    for path in (*result.outputs().values(), result.manifest):
        print(path)
    if result.stopped:
        print(result.stopped, file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


def main() -> None:
    """Entry point: bad input ends with its sentence and exit code 2, a cancelled job with 130."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (Cancelled, KeyboardInterrupt):
        print("cancelled; finished stages are kept", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
