"""What a fit of the Stage Two ablation sees: static Gaussians, a clip, the network's features of it."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.ablation_cases import GeneratedCase, TruthCase
from eval.ablation_store import PACKAGE, Store, digest
from eval.truth_clip import FRAMES, BoundTruth, TruthClip, held_out_cameras
from t4d.config import Config, FeatureConfig
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.geometry.camera import Camera
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import shade_vertices
from t4d.motion.feature_maps import features_of
from t4d.motion.feature_table import FeatureTable
from t4d.motion.projection import Projector
from t4d.motion.visibility import visible_from_depth, visible_from_mesh
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import render_gaussians
from t4d.steps import cameras_of, split_clip


@dataclass(frozen=True)
class Scene:
    """One object, one clip, one seed.

    Attributes:
        name: of the case and seed, for cache files.
        prompt: sentence.
        seed: of the Gaussians' sampling (and of the fit).
        gaussians: the static object.
        cameras: V views of the clip.
        rgb: [V, T, 3, H, W] over grey, as a generated clip has it.
        mask: [V, T, 1, H, W] hard: coverage above one half.
        reference: [V, 4, H, W] condition views, rendered from the Gaussians.
        visible: [V, N] which views see which Gaussians at rest, by rays.
        content: digest of what the clip's pictures came from.
    """

    name: str
    prompt: str
    seed: int
    gaussians: Gaussians
    cameras: list[Camera]
    rgb: Tensor
    mask: Tensor
    reference: Tensor
    visible: Tensor
    content: str


@dataclass(frozen=True)
class TruthScene:
    """A scene whose motion is known.

    Attributes:
        scene: what the fit sees.
        bound: true motion and colour of its Gaussians.
        judges: held-out cameras.
        pictures: [T, J, 4, H, W] truth there.
        seen: [T, N] which Gaussians some held-out camera sees when they are posed by the truth.
        diagonal: of the static object's bounds, world units.
    """

    scene: Scene
    bound: BoundTruth
    judges: list[Camera]
    pictures: Tensor
    seen: Tensor
    diagonal: float


def truth_scene(store: Store, case: TruthCase, data: Path, config: Config, seed: int) -> TruthScene:
    """A re-lit truth clip and Gaussians bound to it; pictures are cached per case, whatever the seed."""
    clip = TruthClip(data / case.file, case.clip, frames=config.stage1.frames)
    cameras = cameras_of(config.geometry, config.stage1.size, config.stage1.size)
    judges = held_out_cameras(config.stage1.size)
    key = {
        "file": digest((data / case.file).read_bytes().hex()),
        "clip": case.clip,
        "frames": config.stage1.frames,
        "cameras": [camera.world_to_camera.tolist() + camera.K.tolist() for camera in (*cameras, *judges)],
        "code": _code("geometry/visibility.py", "geometry/shading.py", "geometry/normalise.py"),
    }
    tensors = store.tensors(f"{case.name}-truth", key, lambda: {"pictures": clip.pictures([*cameras, *judges])})
    seen, pictures = tensors["pictures"].split([len(cameras), len(judges)], dim=1)
    bound = clip.bind(config.splat.count, seed)
    rgba = seen.transpose(0, 1)
    scene = _scene(
        case.name,
        case.prompt,
        seed,
        bound.gaussians,
        (clip.vertices[0], clip.mesh.faces),
        cameras,
        (rgba[:, :, :3].clamp(0, 1), (rgba[:, :, 3:] > 0.5).float()),
        digest(key),
    )
    seen_there = visible_from_depth(bound.oracle, judges).any(1)
    return TruthScene(scene, bound, judges, pictures, seen_there, clip.diagonal)


def generated_scene(
    store: Store, model: VideoModel, case: GeneratedCase, data: Path, config: Config, seed: int
) -> Scene:
    """A clip the network made of an object at rest, cached; the clip's own seed is 0 whatever the fit's seed."""
    loaded = load_object(data / case.file)
    normaliser = Normaliser.fit_static(loaded, radius=config.geometry.radius)
    vertices = normaliser.apply(loaded.rest_vertices())
    light = shade_vertices(loaded.mesh, vertices)
    cameras, settings = cameras_of(config.geometry, config.stage1.size, config.stage1.size), config.stage1

    def sampled() -> dict[str, Tensor]:
        # Condition views as the product makes them, at its own number of Gaussians.
        gaussians, _ = bind_gaussians(loaded.mesh, vertices, Config().splat.count, light, 0)
        with torch.no_grad():
            reference = render_gaussians(gaussians, cameras)
        states = sample_clip(
            model,
            reference,
            cameras,
            case.prompt,
            frames=settings.frames,
            steps=settings.steps,
            guidance=settings.guidance,
            seed=0,
            scheduler=settings.scheduler,
            first_frame=settings.first_frame,
            free_init=settings.free_init,
        )
        state = deque(states, maxlen=1).pop()
        assert state.clip_rgba is not None
        rgb, mask = split_clip(state.clip_rgba, reference, has_alpha=model.has_alpha)
        return {"rgb": rgb, "mask": mask}

    key = {
        "file": digest((data / case.file).read_bytes().hex()),
        "prompt": case.prompt,
        "stage1": settings.model_dump(mode="json"),
        "geometry": config.geometry.model_dump(mode="json"),
        "model": model.sha256,
        "code": _code("diffusion/sampler.py", "diffusion/denoise.py"),
    }
    clip = store.tensors(f"{case.name}-clip", key, sampled)
    gaussians, _ = bind_gaussians(loaded.mesh, vertices, config.splat.count, light, seed)
    mesh = (vertices, loaded.mesh.faces)
    return _scene(case.name, case.prompt, seed, gaussians, mesh, cameras, (clip["rgb"], clip["mask"]), digest(key))


def _scene(
    name: str,
    prompt: str,
    seed: int,
    gaussians: Gaussians,
    mesh: tuple[np.ndarray, np.ndarray],
    cameras: list[Camera],
    clip: tuple[Tensor, Tensor],
    content: str,
) -> Scene:
    with torch.no_grad():
        reference = render_gaussians(gaussians, cameras)
    visible = visible_from_mesh(mesh[0], mesh[1], gaussians.means, cameras)
    rgb, mask = (tensor.contiguous() for tensor in clip)
    return Scene(
        f"{name}-{seed}", prompt, seed, gaussians.detach(), cameras, rgb, mask, reference.clamp(0, 1), visible, content
    )


def scene_maps(model: VideoModel, scene: Scene, features: FeatureConfig) -> Tensor:
    """Feature maps of the scene's clip, with the noise of the scene's seed; see ``features_of``."""
    return features_of(
        features.source,
        model,
        scene.rgb,
        scene.mask,
        scene.reference,
        scene.cameras,
        scene.prompt,
        layer=features.layer,
        t=features.t,
        seed=scene.seed,
    )


def feature_table(store: Store, model: VideoModel, scene: Scene, features: FeatureConfig) -> FeatureTable:
    """The network's features of the scene's clip at its Gaussians (Eq. 6), cached with the noise of the scene's seed.

    The controls "untrained" and "random" go the same way: same visibility, same components, same flag.
    """
    key = {
        "clip": scene.content,
        "seed": scene.seed,
        "count": len(scene.gaussians),
        "features": features.model_dump(mode="json"),
        "model": model.sha256,
        "code": _code("motion/feature_maps.py", "motion/projection.py", "splat/binding.py"),
    }

    def made() -> dict[str, Tensor]:
        maps = scene_maps(model, scene, features)
        return (
            Projector(maps, scene.cameras, features.width, features.neighbours)
            .table(scene.gaussians.means, scene.visible)
            .state_dict()
        )

    return FeatureTable.from_state_dict(store.tensors(f"{scene.name}-{features.source}", key, made))


def _code(*files: str) -> str:
    """Digest of source files of the package, so that an edit of them is never answered from an old cache."""
    return digest([(PACKAGE / file).read_text() for file in files])


assert FRAMES == Config().stage1.frames  # truth clips and generated ones are of one length
