"""One call of the denoiser with guidance: shared by the sampler, 4D-SDS and the feature probe."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from t4d.diffusion.features import FeatureTap
from t4d.diffusion.schedule import PredictionType, from_x0, to_x0


@dataclass(frozen=True)
class Conditioning:
    """Everything the denoiser is told besides latents and time.

    Attributes:
        text: Text tokens [B, L, D].
        pooled_text: [B, P] or None.
        image_embeds: [B, V, Di] or None where the network has no image prompt.
        cameras: [B, V, 16].
        cond_concat: Appearance of frame 0 [B, V, Cc, h, w] or None.
    """

    text: Tensor
    pooled_text: Tensor | None
    image_embeds: Tensor | None
    cameras: Tensor
    cond_concat: Tensor | None

    def unconditional(self, text: Tensor, pooled_text: Tensor | None, drop_image: bool = True) -> "Conditioning":
        """The same without the sentence and the picture; camera and frame-0 appearance stay.

        Args:
            text: Tokens of the empty sentence, shape of ``self.text``.
            pooled_text: Its pooled vector.
            drop_image: Zero the picture embedding, before the network's projection.
        """
        image = self.image_embeds
        if image is not None and drop_image:
            image = torch.zeros_like(image)
        return replace(self, text=text, pooled_text=pooled_text, image_embeds=image)

    def followed_by(self, other: "Conditioning") -> "Conditioning":
        """Both in one batch, this first."""

        def join(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else torch.cat([a, b])

        return Conditioning(
            torch.cat([self.text, other.text]),
            join(self.pooled_text, other.pooled_text),
            join(self.image_embeds, other.image_embeds),
            torch.cat([self.cameras, other.cameras]),
            join(self.cond_concat, other.cond_concat),
        )


@dataclass(frozen=True)
class Denoised:
    """Result of one call.

    Attributes:
        prediction: Guided prediction in the network's own type, [B, V, T, C, h, w].
        x0: Clean latents it implies.
        x0_conditional: Those of the conditional half alone.
        features: Maps of the conditional half by module name, [B, V, T, C', h', w'].
    """

    prediction: Tensor
    x0: Tensor
    x0_conditional: Tensor
    features: dict[str, Tensor]


def denoise_once(
    network: nn.Module,
    z_t: Tensor,
    t: Tensor | float,
    condition: Conditioning,
    unconditional: Conditioning | None,
    alphas_cumprod: Tensor,
    kind: PredictionType,
    *,
    guidance: float = 1.0,
    rescale: float = 0.0,
    features: tuple[str, ...] = (),
) -> Denoised:
    """Predict once, with classifier-free guidance u + g (c - u).

    Args:
        network: ``MultiViewMotionUNet`` or anything called like it.
        z_t: Noisy latents with a clean frame 0, [B, V, T, C, h, w], signal power alpha-bar(t).
        t: Time, one for all or [B].
        condition: With the sentence.
        unconditional: Without; may be None where guidance is 1.
        alphas_cumprod: [steps].
        kind: What the network predicts.
        guidance: Scale g; 1 asks the network once only.
        rescale: Share of the guided x0 whose standard deviation over frames 1.. is set to the conditional one's.
        features: Module names to read.

    Returns:
        Prediction, x0 and features.
    """
    guided = guidance != 1.0 and unconditional is not None
    both = unconditional.followed_by(condition) if guided and unconditional is not None else condition
    batch = len(z_t)
    time = torch.as_tensor(t, device=z_t.device).expand(batch)

    def ask() -> Tensor:
        copies = 2 if guided else 1
        with half_precision(z_t.device):  # guidance is applied in full precision, it amplifies rounding
            prediction = network(
                torch.cat([z_t] * copies) if guided else z_t,
                torch.cat([time] * copies),
                text=both.text,
                image_embeds=both.image_embeds,
                cameras=both.cameras,
                cond_concat=both.cond_concat,
                pooled_text=both.pooled_text,
            )
        return prediction.to(z_t.dtype)

    maps: dict[str, Tensor] = {}
    if features:
        with FeatureTap(network, features) as tap:
            prediction = ask()
            maps = {name: value[-batch:] for name, value in tap.maps().items()}
    else:
        prediction = ask()

    conditional = prediction[-batch:]
    x0_conditional = to_x0(conditional, z_t, t, alphas_cumprod, kind)
    if not guided:
        return Denoised(conditional, x0_conditional, x0_conditional, maps)
    mixed = prediction[:batch] + guidance * (conditional - prediction[:batch])
    x0 = to_x0(mixed, z_t, t, alphas_cumprod, kind)
    if rescale > 0:
        axes = (1, 2, 3, 4, 5)
        wanted = x0_conditional[:, :, 1:].std(dim=axes, keepdim=True) + 1e-8
        factor = wanted / (x0[:, :, 1:].std(dim=axes, keepdim=True) + 1e-8)
        x0 = x0 * (rescale * factor + (1 - rescale))
        mixed = from_x0(x0, z_t, t, alphas_cumprod, kind)
    return Denoised(mixed, x0, x0_conditional, maps)


def half_precision(device: torch.device) -> torch.autocast:
    """bf16 for what networks compute on GPUs that have it (Ampere on), where the paper's size needs it; else float32.

    Older GPUs emulate bf16, more slowly than float32, and lack its convolutions.
    """
    has = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=has)
