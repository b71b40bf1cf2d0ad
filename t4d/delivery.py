"""The last stage: everything that is written for the user."""

from collections.abc import Iterator
from pathlib import Path

from t4d.config import Config
from t4d.export.player import write_player
from t4d.export.ply import write_ply_sequence
from t4d.export.video import write_orbit
from t4d.motion.asset import MotionAsset
from t4d.steps import Step, device_of


def export(out: Path, title: str, fps: float, config: Config) -> Iterator[Step]:
    """``asset.safetensors`` in ``out`` -> player.html, orbit.mp4 and frames/NNNN.ply beside it."""
    asset = MotionAsset.load(out / "asset.safetensors").to(device_of(config))
    frames = asset.frames
    yield Step(0.0, "Writing the player")
    write_player(out / "player.html", asset.at, frames, fps, title=title)
    yield Step(0.3, "Rendering the orbit")
    write_orbit(
        out / "orbit.mp4",
        asset.at,
        frames,
        fps,
        length=config.export.orbit_frames,
        size=config.export.orbit_size,
        elevation=config.geometry.elevation,
        distance=config.geometry.distance,
        vfov=config.geometry.vfov,
        backend=config.splat.backend,
    )
    yield Step(0.8, "Writing the PLY frames")
    write_ply_sequence(out / "frames", asset.at, frames, fps)
    yield Step(1.0, "Files written")
