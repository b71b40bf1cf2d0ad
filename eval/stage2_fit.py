"""One fit of the Stage Two ablation: a scene and a configuration give a moving asset."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from eval.ablation_store import Store
from eval.stage2_scene import Scene, feature_table, scene_maps
from t4d.config import Config
from t4d.diffusion.model import VideoModel
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_table import FeatureTable
from t4d.motion.fit import fit_motion
from t4d.motion.projection import Projector
from t4d.motion.sds import VideoGuidance
from t4d.splat.gaussians import stack_gaussians
from t4d.steps import fit_options


@dataclass(frozen=True)
class Fitted:
    """A finished fit.

    Attributes:
        asset: the moving object.
        terms: unweighted losses of the last iteration.
        cpu_seconds, wall_seconds: of the fit itself, without pictures and features.
    """

    asset: MotionAsset
    terms: dict[str, float]
    cpu_seconds: float
    wall_seconds: float


def fit_scene(store: Store, model: VideoModel, scene: Scene, config: Config) -> Fitted:
    """Fits the motion of a scene as the product does, with the scene's seed."""
    settings = config.stage2
    table, reproject = None, None
    if settings.features.enabled:
        table = feature_table(store, model, scene, settings.features)
        if settings.features.reproject_every:
            reproject = _reprojection(model, scene, config)
    guidance = None
    if settings.guidance.lambda_sds and settings.refine_iterations:
        options = settings.guidance.model_dump(exclude={"lambda_sds"})
        guidance = VideoGuidance(model, scene.prompt, backend=config.splat.backend, **options)
    cpu, wall = time.process_time(), time.perf_counter()
    states = fit_motion(
        scene.gaussians,
        scene.cameras,
        scene.rgb,
        scene.mask,
        table=table,
        reproject=reproject,
        guidance=guidance,
        seed=scene.seed,
        backend=config.splat.backend,
        **fit_options(settings),
    )
    state = deque(states, maxlen=1).pop()
    return Fitted(state.asset, state.terms, time.process_time() - cpu, time.perf_counter() - wall)


def _reprojection(model: VideoModel, scene: Scene, config: Config) -> Any:
    """Projects features again at moved centres; its components are those of the rest pose."""
    features = config.stage2.features
    maps = scene_maps(model, scene, features)
    projector = Projector(maps, scene.cameras, features.width, features.neighbours)
    projector.table(scene.gaussians.means, scene.visible)

    def reproject(asset: MotionAsset) -> FeatureTable:
        moved = stack_gaussians([asset.at(frame).detach() for frame in range(asset.frames)])
        return projector.reproject(moved, config.splat.backend)

    return reproject
