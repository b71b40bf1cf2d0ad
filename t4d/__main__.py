"""Command line: ``python -m t4d animate FILE "PROMPT" -o OUT``."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from tqdm import tqdm

from t4d.config import Config, preset_names, variant_names
from t4d.errors import Cancelled, InputError

app = typer.Typer(
    help="Turn a static 3D model and one sentence into a moving 4D Gaussian asset.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Preset = Annotated[str, typer.Option(help=f"{', '.join(preset_names())}, or a YAML file.")]
Variant = Annotated[str, typer.Option(help=f"Named patch of the configuration: {', '.join(variant_names())}.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", "-s", help="section.key=value; may be repeated.")]


@app.command()
def animate(
    file: Annotated[Path, typer.Argument(help="Object file: .glb, .gltf, .obj or .ply.")],
    prompt: Annotated[str, typer.Argument(help='One sentence, e.g. "a fox is running".')],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    preset: Preset = "mini",
    variant: Variant = "full",
    overrides: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the preset's where not given.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of stage outputs shared by several runs.")] = None,
) -> None:
    """Animate an object: four-view video, orbit video, offline player, per-frame PLY, asset and run.json."""
    config = Config.load(preset, [*(overrides or []), *([] if seed is None else [f"seed={seed}"])], variant)
    # Before torch and numba are imported: both read these once.
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    os.environ.setdefault("NUMBA_NUM_THREADS", str(config.threads))
    from t4d.pipeline import AnimateRequest
    from t4d.pipeline import animate as run

    result = None
    with tqdm(total=100, unit="%", bar_format="{desc} |{bar}| {n:.0f}% [{elapsed}<{postfix}]") as bar:
        for progress in run(AnimateRequest(file, prompt, out, config, cache)):
            bar.set_description_str(f"{progress.stage}: {progress.message}", refresh=False)
            bar.set_postfix_str("?" if progress.eta_s is None else f"{progress.eta_s:.0f} s", refresh=False)
            bar.n = 100 * progress.fraction
            bar.refresh()
            result = progress.result or result
    assert result is not None
    for path in (result.clip, result.orbit, result.player, result.asset, result.plys, result.manifest):
        print(path)


@app.command()
def config(preset: Preset = "mini", variant: Variant = "full", overrides: Overrides = None) -> None:
    """Print the resolved configuration and the bounds of every setting."""
    resolved = Config.load(preset, overrides, variant)
    print(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False))
    for name, field in Config.model_fields.items():
        section = getattr(resolved, name)
        fields = type(section).model_fields.items() if hasattr(section, "model_dump") else [(None, field)]
        for key, item in fields:
            bounds = ", ".join(str(part) for part in item.metadata)
            print(f"# {name if key is None else f'{name}.{key}'}: {item.description} {bounds}".rstrip())


def main() -> None:
    """Entry point: bad input ends with its sentence and exit code 2, a cancelled job with 130."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (Cancelled, KeyboardInterrupt):
        print("cancelled; finished stages are kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
