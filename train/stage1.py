"""Stage One: trains the multi-view video denoiser with L_diff (Eq. 1-3).

    accelerate launch train/stage1.py --config train/configs/mini.yaml --out FOLDER [key=value ...]

Writes log.jsonl, checkpoints, contact sheets and, under FOLDER/model, the averaged weights as a `VideoModel`. Calling
it again with the same folder continues an unfinished run; data and noise depend on (seed, step) only, so that the
result is the one of an uninterrupted run.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # launched as a file, the program's own folder stands there

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from t4d.data.dataset import ClipDataset
from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.image.mini import MiniImageEncoder
from t4d.diffusion.interfaces import ClipAutoencoder, ImageEncoder, TextEncoder
from t4d.diffusion.losses import diffusion_loss
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.diffusion.schedule import PAPER_SCHEDULE, FirstFrameNoise, PredictionType, noisy_clip
from t4d.diffusion.text.mini import MiniTextEncoder
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_module
from t4d.errors import InputError
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import rig
from train.config import Curriculum, StageOneTrainConfig, arguments, load_config
from train.runs import Ema, Every, RunLog, batches, generator, load_checkpoint, save_checkpoint


def build(config: StageOneTrainConfig) -> VideoModel:
    """The networks to train: loaded, or new ones over a trained autoencoder."""
    scheduler = {**PAPER_SCHEDULE, **config.scheduler, "prediction_type": config.prediction}
    if config.weights:
        model = VideoModel.load(config.weights)
        if model.prediction_type != config.prediction:
            raise InputError(
                f"{config.weights} predicts {model.prediction_type}; set prediction={model.prediction_type}."
            )
        model.scheduler_config, model.label = {**model.scheduler_config, **config.scheduler}, config.label
        model.meta["guidance"] = config.guidance
        return model
    if config.autoencoder is None:
        raise InputError("Neither weights nor autoencoder is set; train one with train/autoencoder.py and name it.")
    autoencoder = load_module(ReferenceAutoencoder, config.autoencoder)
    text, image = MiniTextEncoder(**config.text), MiniImageEncoder(**config.image)
    unet = MultiViewMotionUNet(
        in_channels=autoencoder.latent_channels,
        out_channels=autoencoder.latent_channels,
        cond_concat_channels=autoencoder.condition_channels,
        cross_attention_dim=text.config["width"],
        text_pooled_dim=text.config["pooled"],
        image_embed_dim=image.config["width"],
        zero_init_output=True,
        **config.model,
    )
    meta = {"guidance": config.guidance, "views": config.data.views, "frames": config.data.frames, "size": 128}
    return VideoModel(unet, autoencoder, text, image, scheduler, config.label, {**meta, "drop_image": False})


class Objective(nn.Module):
    """Denoiser and the encoders that train with it, with L_diff."""

    def __init__(self, model: VideoModel, config: StageOneTrainConfig):
        super().__init__()
        self.unet = model.unet
        self.text_encoder = cast(nn.Module, model.text_encoder)
        self.image_encoder = cast(nn.Module, model.image_encoder)
        self.kind: PredictionType = model.prediction_type
        self.noise_first = FirstFrameNoise() if config.first_frame_noise else None
        self.register_buffer("alphas_cumprod", model.alphas_cumprod, persistent=False)
        self.alphas_cumprod: Tensor
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not config.trainable or any(part in name for part in config.trainable))

    def forward(
        self,
        z: Tensor,
        reference: Tensor,
        appearance: Tensor | None,
        cameras: Tensor,
        captions: list[str],
        noise: Tensor,
        t: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """L_diff (Eq. 3) at times t.

        Args:
            z: Clean latents [B, V, T, C, h, w].
            reference: Frame 0 of every view [B, V, 4, H, W].
            appearance: Of frame 0, [B, V, Cc, h, w], or None.
            cameras: [B, V, 16].
            captions: B sentences.
            noise: Like z.
            t: [B].
            generator: For Eq. 2's random scale.
        """
        z_t = noisy_clip(z, noise, t, self.alphas_cumprod, self.noise_first, generator)
        text, pooled = cast(TextEncoder, self.text_encoder).encode(captions)
        image = cast(ImageEncoder, self.image_encoder).encode(reference)
        # on CPUs the fused attention's backward pass takes twice as long as the plain one's
        fused = sdpa_kernel(SDPBackend.MATH) if z.device.type == "cpu" else nullcontext()
        with fused:
            found = self.unet(
                z_t, t, text=text, image_embeds=image, cameras=cameras, cond_concat=appearance, pooled_text=pooled
            )
        return diffusion_loss(found, z, noise, t, self.alphas_cumprod, self.kind)


def stage_at(step: int, config: StageOneTrainConfig) -> Curriculum:
    """Clip size of a step."""
    for stage in config.curriculum:
        if step < stage.until * config.optim.steps:
            return stage
    return Curriculum(until=1, views=config.data.views, frames=config.data.frames, batch=config.optim.batch)


def step_indices(start: int, config: StageOneTrainConfig, rank: int, world: int) -> Iterator[list[int]]:
    """Clips of every step from `start`; no clip comes twice unless the data is finite."""
    first = 0
    for step in range(config.optim.steps):
        batch = stage_at(step, config).batch
        if step >= start:
            yield list(range(first + rank * batch, first + (rank + 1) * batch))
        first += batch * world


def draw(clip: dict[str, Any], stage: Curriculum, config: StageOneTrainConfig, g: torch.Generator) -> dict[str, Any]:
    """Views and frames of this stage, a turned object now and then, and dropped captions.

    Fewer frames are a run at the clip's own rate that starts at frame 0, so that motion looks alike at all stages.
    A quarter turn of the object moves each picture to the next camera: exact but for the light, which is fixed.
    """
    rgba, flow, cameras = clip["rgba"], clip["flow"], clip["cameras"]
    views = rgba.shape[1]
    if float(torch.rand((), generator=g)) < config.turn_views:
        turn = int(torch.randint(1, max(views, 2), (), generator=g))
        rgba, flow = rgba.roll(turn, 1), flow.roll(turn, 1)
    chosen = torch.randperm(views, generator=g)[: stage.views].sort().values
    dropped = torch.rand(len(rgba), generator=g) < config.text_dropout
    return {
        "rgba": rgba[:, chosen, : stage.frames],
        "flow": flow[:, chosen, : stage.frames],
        "cameras": cameras[:, chosen],
        "captions": ["" if drop else text for text, drop in zip(clip["caption"], dropped)],
    }


def latents(autoencoder: ClipAutoencoder, rgba: Tensor, flow: Tensor) -> Tensor:
    """Clean latents [B, V, T, C, h, w]: exact ones where the autoencoder's are flow, which rendered clips carry."""
    if not isinstance(autoencoder, ReferenceAutoencoder):
        return autoencoder.encode(rgba)
    coverage = F.avg_pool2d(rgba[:, :, :, 3:].flatten(0, 2), rgba.shape[-1] // flow.shape[-1])
    z = autoencoder.latents_of_flow(flow.flatten(0, 2), coverage).unflatten(0, rgba.shape[:3])
    return torch.cat([torch.zeros_like(z[:, :, :1]), z[:, :, 1:]], 2)


@torch.no_grad()
def show(model: VideoModel, config: StageOneTrainConfig, path: Path) -> None:
    """Contact sheet: clips of indices that training never reaches, each truth above a sample in two views."""
    data = config.data
    source = ClipDataset(data.rigs, procedural_fraction=0.3 if data.rigs else 1.0, side=data.side, seed=config.seed)
    cameras, rows = rig(width=data.side, height=data.side), []
    for i in range(config.sheet_clips):
        clip = source[900_000 + i]
        for state in sample_clip(model, clip["rgba"][:, 0], cameras, clip["caption"], steps=12, seed=i):
            if state.clip_rgba is not None:
                rows += [clip["rgba"][0, ::2, :3], state.clip_rgba[0, ::2, :3], state.clip_rgba[1, ::2, :3]]
    if rows:
        write_contact_sheet(path, torch.stack(rows))


def main() -> None:
    args = arguments(__doc__)
    config = load_config(StageOneTrainConfig, args.config, args.overrides)
    accelerator, o = Accelerator(), config.optim
    set_seed(config.seed)
    model = build(config)
    objective = Objective(model, config)
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=o.lr, weight_decay=o.weight_decay)
    ema = Ema(objective, o.ema)
    start = load_checkpoint(args.out, objective, ema, optimiser)
    wrapped, optimiser = accelerator.prepare(objective, optimiser)
    cast(nn.Module, model.autoencoder).to(accelerator.device).requires_grad_(False)
    rank, world, main_process = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    facts = {"program": "stage1", "parameters": sum(p.numel() for p in trained), "processes": world}
    log = RunLog(args.out / "log.jsonl", {**facts, "config": config.model_dump(mode="json")}) if main_process else None
    save_now, sheet_now, began = Every(config.save_minutes), Every(config.sheet_minutes), time.time()

    def ship(step: int, sheet: bool) -> None:
        save_checkpoint(args.out, step, objective, ema, optimiser)
        now = {n: t.clone() for n, t in objective.state_dict().items()}
        objective.load_state_dict(ema.state(objective))
        model.meta.update(steps=step, seed=config.seed, shared_noise=config.shared_noise)
        model.save(args.out / "model")
        if sheet:
            objective.eval()
            show(model, config, args.out / f"sheet_{step:06d}.png")
            objective.train()
        objective.load_state_dict(now)

    step = start - 1
    for step, clip in enumerate(batches(config.data, config.seed, step_indices(start, config, rank, world)), start):
        g, stage = generator(config.seed, step, rank), stage_at(step, config)
        chosen = draw(clip, stage, config, g)
        rgba, cameras = (chosen[n].to(accelerator.device) for n in ("rgba", "cameras"))
        with torch.no_grad(), accelerator.autocast():
            z = latents(model.autoencoder, rgba, chosen["flow"].to(accelerator.device)).float()
            appearance = model.autoencoder.condition(rgba[:, :, 0])
        noise = torch.randn(z.shape, generator=g)
        common = torch.randn(z[:, :, :1].shape, generator=g)
        noise = (config.shared_noise**0.5 * common + (1 - config.shared_noise) ** 0.5 * noise).to(z)
        steps = len(objective.alphas_cumprod)
        t = torch.rand(len(z), generator=g)
        t = torch.where(torch.rand(len(z), generator=g) < config.high_noise, 1 - t / 6, t)
        t = (t * steps).long().clamp(max=steps - 1).to(z.device)
        for group in optimiser.param_groups:
            group["lr"] = o.lr_at(step)
        loss = wrapped(z, rgba[:, :, 0], appearance, cameras, chosen["captions"], noise, t, g)
        if not torch.isfinite(loss):
            raise RuntimeError(f"The loss of step {step} is not finite; lower optim.lr and start from the checkpoint.")
        accelerator.backward(loss)
        norm = cast(Tensor, accelerator.clip_grad_norm_(trained, o.clip_norm))
        optimiser.step()
        optimiser.zero_grad()
        ema.update(objective, step)
        if log is not None:
            copy = float(z[:, :, 1:].square().mean())  # the loss of predicting no motion, for a network of x0
            log.add({"loss": float(loss.detach()), "copy": copy, "grad_norm": float(norm)}, len(z) * world)
            if (step + 1) % config.log_steps == 0:
                print(log.flush(step + 1, lr=o.lr_at(step)), flush=True)
            sheet = sheet_now()
            if sheet or save_now():
                ship(step + 1, sheet)
        if (time.time() - began) / 60 > args.max_minutes:
            break
    if main_process:
        ship(step + 1, True)


if __name__ == "__main__":
    main()
