"""The last stage: everything that is written for the user."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from t4d.config import Config
from t4d.export.animated_glb import write_animated_glb
from t4d.export.player import write_player
from t4d.export.ply import write_ply_sequence
from t4d.export.spz import write_spz_sequence
from t4d.export.tracks import write_tracks
from t4d.export.video import write_orbit
from t4d.geometry.camera import Camera
from t4d.motion.asset import MotionAsset
from t4d.splat.binding import MeshBinding
from t4d.steps import BINDING, Step, device_of

GLB, SPZ, TRACKS = "animated.glb", "spz", "tracks"
NO_GLB = "The object has no triangles, so no animated.glb was written; its frames are in the PLY files."


def export(
    out: Path, source: Path, prepared: Path, cameras: Sequence[Camera], fps: float, title: str, config: Config
) -> Iterator[Step]:
    """``asset.safetensors`` in ``out`` -> the files beside it.

    Writes: player.html, orbit.mp4, frames/NNNN.ply, and where asked for animated.glb (objects with triangles), tracks/
    and spz/NNNN.spz. Such files of an earlier run that are not written again are removed.

    Args:
        out: the run folder.
        source: the object file.
        prepared: folder written by `t4d.steps.prepare`.
        cameras: the clip's, in which tracks are given in pixels too.
        fps: frames per second of everything written.
        title: of the player's page.
        config: resolved.
    """
    asset = MotionAsset.load(out / "asset.safetensors").to(device_of(config))
    frames, settings, bound = asset.frames, config.export, prepared / BINDING
    binding = MeshBinding.load(bound) if bound.is_file() else None
    for stale in (out / GLB, *(out / TRACKS).glob("*"), *(out / SPZ).glob("*")):
        stale.unlink(missing_ok=True)
    yield Step(0.0, "Writing the player")
    write_player(out / "player.html", asset.at, frames, fps, title=title)
    yield Step(0.2, "Rendering the orbit")
    write_orbit(
        out / "orbit.mp4",
        asset.at,
        frames,
        fps,
        length=settings.orbit_frames,
        size=settings.orbit_size,
        elevation=config.geometry.elevation,
        distance=config.geometry.distance,
        vfov=config.geometry.vfov,
        backend=config.splat.backend,
    )
    yield Step(0.6, "Writing the PLY frames")
    write_ply_sequence(out / "frames", asset.at, frames, fps)
    if settings.glb and binding is None:
        yield Step(0.7, NO_GLB, warnings=(NO_GLB,))
    elif settings.glb and binding is not None:
        yield Step(0.7, "Moving the mesh")
        up = None if config.geometry.up == "auto" else config.geometry.up
        made = write_animated_glb(
            out / GLB, source, binding, asset.at, frames, fps, radius=config.geometry.radius, up=up
        )
        apart = {"vertices": made.vertices, "bound_mean": made.bound_mean, "bound_max": made.bound_max}
        facts = {"glb": {**apart, "normals": made.normals}}
        yield Step(0.8, "Mesh written", facts, warnings=tuple(made.notes))
    if settings.spz:
        yield Step(0.85, "Writing the SPZ frames")
        write_spz_sequence(out / SPZ, asset.at, frames, fps)
    if settings.tracks:
        yield Step(0.9, "Writing the tracks")
        write_tracks(
            out / TRACKS,
            asset.at,
            frames,
            fps,
            cameras,
            points=settings.tracks,
            binding=binding,
            seed=config.seed,
            backend=config.splat.backend,
        )
    yield Step(1.0, "Files written")
