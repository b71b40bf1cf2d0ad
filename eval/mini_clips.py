"""Clips that the model makes of cases, kept on disk, and the figures of each."""

import hashlib
import inspect
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from eval.ablation_store import PACKAGE, Store, digest, source_digest
from eval.mini_cases import Case
from eval.mini_truth import FRAMES, Truth, World
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.metrics.motion_maps import (
    INSIDE,
    ever_inside,
    first_frame_psnr,
    gain_over_still,
    lab_shift,
    magnitude,
    map_correlation,
    second_difference,
    temporal_variance,
)
from t4d.metrics.motion_verbs import flow_descriptor
from t4d.steps import split_clip
from t4d.tracking.optical_flow import FlowTracker


@dataclass(frozen=True)
class Sampling:
    """How clips are sampled; None takes the model's own.

    Attributes:
        steps: Denoising steps.
        guidance: Scale of classifier-free guidance.
        shared_noise: Share of the starting noise's power that all frames have in common.
        scheduler: Of `t4d.diffusion.schedulers`.
        free_init: FreeInit rounds.
        truncation: How far a sample may be from the first guess, 0 to 1.
    """

    steps: int = 25
    guidance: float | None = None
    shared_noise: float | None = None
    scheduler: str = "ddim"
    free_init: int = 0
    truncation: float | None = None


class Studio:
    """Samples clips of one model and keeps them.

    Args:
        world: Of the cases.
        model: The networks.
        sampling: How.
        store: Of clips and figures; keys hold the digest of the weights, the settings and the code.
    """

    def __init__(self, world: World, model: VideoModel, sampling: Sampling, store: Store) -> None:
        self.world, self.model, self.sampling, self.store = world, model, sampling, store
        effective = {
            **asdict(sampling),
            "guidance": model.guidance if sampling.guidance is None else sampling.guidance,
            "shared_noise": float(model.meta.get("shared_noise", 0.0))
            if sampling.shared_noise is None
            else sampling.shared_noise,
            "truncation": model.truncation if sampling.truncation is None else sampling.truncation,
        }
        self.settings: dict[str, Any] = effective
        self._code = source_digest(("diffusion", "diffusion/autoencoders", "diffusion/text", "diffusion/image"))
        judging = [(PACKAGE / "metrics" / f"motion_{name}.py").read_text() for name in ("maps", "verbs")]
        self._judging = digest(
            judging
            + [inspect.getsource(judge), inspect.getsource(describe)]
            + [(PACKAGE / "tracking" / "optical_flow.py").read_text()]
        )
        self.seconds = 0.0

    def clip(self, case: Case, seed: int, truth: Truth | None = None) -> Tensor:
        """[V, T, 4, H, W] in 0..1, rounded to 8 bits; coverage is the product's mask where the model has no alpha."""
        truth = truth or self.world.truth(case)
        key = self.identity(case, seed, truth)
        stored = self.store.tensors(
            f"clip-{case.name.replace('/', '-')}-{seed}", key, lambda: self._sample(truth, seed)
        )
        return stored["clip"].float() / 255

    def figures(self, case: Case, seed: int) -> dict[str, Any]:
        """The row of one clip, made once: see `judge`; with case, seed and CPU seconds."""
        truth = self.world.truth(case)
        key = digest({**self.identity(case, seed, truth), "judging": self._judging})
        known = self.store.read().get(key)
        if known is not None:
            return known
        spent = time.process_time()
        clip = self.clip(case, seed, truth)
        row = {"key": key, "case": case.name, "object": case.object, "group": case.group, "verb": case.verb}
        row |= {"rest": case.rest, "seed": seed, "prompt": truth.prompt, **judge(clip, truth)}
        row["cpu_seconds"] = round(time.process_time() - spent, 1)
        self.store.append(row)
        return row

    def descriptor(self, case: Case, seed: int) -> Tensor:
        """`describe` of a generated clip."""
        truth = self.world.truth(case)
        key = {**self.identity(case, seed, truth), "judging": self._judging}
        name = f"verb-{case.name.replace('/', '-')}-{seed}"
        return self.store.tensors(name, key, lambda: {"v": describe(self.clip(case, seed, truth))})["v"]

    def real_descriptor(self, case: Case) -> Tensor:
        """`describe` of the real clip."""
        key = {"clip": self.world.key(case), "judging": self._judging}

        def made() -> dict[str, Tensor]:
            clip = self.world.truth(case).clip
            assert clip is not None
            return {"v": describe(clip)}

        return self.world.store.tensors(f"real-{case.name.replace('/', '-')}", key, made)["v"]

    def identity(self, case: Case, seed: int, truth: Truth) -> dict[str, Any]:
        """Everything a generated clip depends on."""
        return {
            "reference": picture_digest(truth.reference if truth.clip is None else truth.clip),
            "prompt": truth.prompt,
            "seed": seed,
            "weights": self.model.sha256,
            "sampling": self.settings,
            "code": self._code,
        }

    def _sample(self, truth: Truth, seed: int) -> dict[str, Tensor]:
        spent = time.process_time()
        states = sample_clip(
            self.model,
            truth.reference,
            self.world.cameras,
            truth.prompt,
            frames=FRAMES,
            steps=self.sampling.steps,
            guidance=self.sampling.guidance,
            seed=seed,
            scheduler=self.sampling.scheduler,
            shared_noise=self.sampling.shared_noise,
            free_init=self.sampling.free_init,
            truncation=self.sampling.truncation,
        )
        made = deque(states, maxlen=1).pop().clip_rgba
        assert made is not None
        if not self.model.has_alpha:
            rgb, mask = split_clip(made, truth.reference, has_alpha=False)
            made = torch.cat([rgb, mask], 2)
        self.seconds += time.process_time() - spent
        return {"clip": (made.clamp(0, 1) * 255).round().byte()}


def judge(clip: Tensor, truth: Truth) -> dict[str, float | None]:
    """Figures of one generated clip; those that need a real clip are None without one.

    - frame0: PSNR of frame 0 in the mask against the condition views, dB; lab: shift of the mean colour;
    - area_least, area_most: silhouette area of frames 1..15 over that of frame 0, over all views;
    - moved: temporal standard deviation of the colours where the object ever is; bend: RMS second difference there;
    - gain: dB over copying frame 0; correlation: of the temporal-variance maps where either clip's object ever is;
      magnitude, flicker: moved and bend over those of the real clip, all three over that same region.
    """
    found: dict[str, float | None] = {"frame0": first_frame_psnr(clip, truth.reference), "lab": lab_shift(clip)}
    own = ever_inside(clip)
    found |= {"moved": magnitude(clip, own), "bend": second_difference(clip, own)}
    area = (clip[:, :, 3] > INSIDE).flatten(2).sum(-1)
    ratio = area[:, 1:] / area[:, :1].clamp(min=1)
    found |= {"area_least": float(ratio.min()), "area_most": float(ratio.max())}
    if truth.clip is None:
        return found | {"gain": None, "correlation": None, "magnitude": None, "flicker": None, "lab_real": None}
    where = ever_inside(clip, truth.clip)
    maps = [temporal_variance(x) for x in (clip, truth.clip)]
    return found | {
        "gain": gain_over_still(clip, truth.clip),
        "correlation": map_correlation(maps[0], maps[1], where),
        "magnitude": magnitude(clip, where) / magnitude(truth.clip, where),
        "flicker": second_difference(clip, where) / second_difference(truth.clip, where),
        "lab_real": lab_shift(truth.clip),
    }


def describe(clip: Tensor) -> Tensor:
    """`flow_descriptor` of a clip [V, T, 4, H, W] from OpenCV's DIS optical flow."""
    tracker = FlowTracker()
    flow = torch.stack([tracker.flows(view)[0] for view in clip[:, :, :3]])
    return flow_descriptor(flow, clip[:, :, 3] > 0.5)


def pixel_distance(a: Tensor, b: Tensor) -> float:
    """Mean absolute colour difference of two clips where either shows the object."""
    either = (a[:, :, 3] > 0.5) | (b[:, :, 3] > 0.5)
    return float((a[:, :, :3] - b[:, :, :3]).abs().mean(2)[either].mean())


def picture_digest(pictures: Tensor) -> str:
    """Digest of pictures in 0..1, rounded to 8 bits."""
    return hashlib.sha256((pictures * 255).round().byte().numpy().tobytes()).hexdigest()[:16]
