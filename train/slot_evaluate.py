"""What a network in a slot's training can do with clips of objects it does not train on: L_diff, and sampled clips."""

import torch
from torch import Tensor

from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.errors import InputError
from t4d.geometry.camera import rig
from t4d.metrics.motion_maps import (
    ever_inside,
    gain_over_still,
    magnitude,
    map_correlation,
    second_difference,
    temporal_variance,
)
from train.objective import Objective
from train.slot_clips import Shown
from train.slot_config import SlotConfig
from train.slot_draw import noised, still_loss

SEED = 1_000_003  # added to the run's: whose clips training never draws, also of procedural objects
TIMES = (999, 750, 500, 250, 51)


class HeldOut:
    """A few clips of rigs of split far, rendered by the CPU renderer; of procedural objects where there are none.

    Args:
        config: Data, seed and slot.

    Attributes:
        kind: What the clips are of.
        clips: Items of `ClipDataset`, on the CPU.
    """

    def __init__(self, config: SlotConfig) -> None:
        self.config = config
        data, options = config.data, {"rest_fraction": 0.5, "rig_fraction": 1.0, "grid": 0}
        size = {"side": data.side, "views": data.views, "frames": data.frames, "seed": config.seed + SEED}
        try:
            if data.rigs is None:
                raise InputError("no rigs")
            source = ClipDataset(data.rigs, split="far", procedural_fraction=0.0, verbs=data.verbs, **size, **options)
            self.kind = "rigs of split far"
        except InputError as error:
            source = ClipDataset(None, procedural_fraction=1.0, verbs=data.verbs, **size, **options)
            self.kind = f"procedural objects ({error})"
        self.clips = [source[i] for i in range(config.slot.held_out)]

    @torch.no_grad()
    def losses(self, model: VideoModel, objective: Objective) -> dict[str, float]:
        """L_diff of all clips at some times, as shares of the loss of predicting no motion where clean latents are
        predicted; else as it is."""
        device = objective.alphas_cumprod.device
        rgba, flow, cameras = (
            torch.stack([clip[name] for clip in self.clips]).to(device) for name in ("rgba", "flow", "cameras")
        )
        shown = Shown(rgba, flow, cameras, [clip["caption"] for clip in self.clips])
        config = self.config.model_copy(update={"text_dropout": 0.0})
        found = {}
        for t in TIMES:
            time = torch.full((len(rgba),), t)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                batch = noised(shown, model.autoencoder, objective.alphas_cumprod, config, t, time)
                loss = float(objective(batch)["diff"]) / len(rgba)
            scale = float(still_loss(batch.z, config.balance)) if config.prediction == "sample" else 1.0
            found[f"far_loss_{t}"] = round(loss / max(scale, 1e-9), 4)
        return found

    @torch.no_grad()
    def samples(self, model: VideoModel, count: int, steps: int) -> tuple[dict[str, float], list[Tensor]]:
        """Figures of sampled clips against the real ones, means over clips, and rows of a contact sheet.

        Figures: `gain` dB of frames 1.. in the mask above copying frame 0; `map` correlation of the temporal-variance
        maps; `amount` and `flicker`: motion and second difference in time as multiples of the real clip's.
        """
        rows, sums, counted = [], {"gain": 0.0, "map": 0.0, "amount": 0.0, "flicker": 0.0}, 0
        data = self.config.data
        cameras = rig(azimuths=[k * 360 / data.views for k in range(data.views)], width=data.side, height=data.side)
        for i, clip in enumerate(self.clips[:count]):
            made = None
            for state in sample_clip(
                model, clip["rgba"][:, 0], cameras, clip["caption"], frames=data.frames, steps=steps, seed=i
            ):
                made = state.clip_rgba
            assert made is not None
            made, real = made.float().cpu(), clip["rgba"]
            rows += [real[0, :, :3], made[0, :, :3], made[data.views // 2, :, :3]]
            where = ever_inside(real, made)
            amount, flicker = magnitude(real, where), second_difference(real, where)
            if amount < 1e-3 or flicker < 1e-4:
                continue  # stands still: nothing to agree with
            counted += 1
            sums["gain"] += gain_over_still(made, real)
            sums["map"] += map_correlation(temporal_variance(made), temporal_variance(real), where)
            sums["amount"] += magnitude(made, where) / amount
            sums["flicker"] += second_difference(made, where) / flicker
        figures = {f"sample_{name}": round(value / max(counted, 1), 3) for name, value in sums.items()}
        return {**figures, "sample_clips": counted}, rows
