"""The networks that Stage One trains."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.image.mini import MiniImageEncoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.schedule import PAPER_SCHEDULE
from t4d.diffusion.text.mini import MiniTextEncoder
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_module, load_strictly
from t4d.errors import InputError
from train.config import StageOneTrainConfig

#: Of a motion mean, that are its own; the others are those of its network.
SIZES = ("width", "layers", "heads", "frames")


def build(config: StageOneTrainConfig) -> VideoModel:
    """The networks to train: loaded, or new ones over a trained autoencoder.

    Raises:
        InputError: Neither weights nor an autoencoder is named, the weights predict something else, or settings of new
            networks stand beside weights, which have their own.
    """
    scheduler = {**PAPER_SCHEDULE, **config.scheduler, "prediction_type": config.prediction}
    if config.model.get("motion_mean") is not None and config.prediction != "sample":
        raise InputError(f"model.motion_mean needs prediction=sample, found {config.prediction}; set one of them.")
    if config.weights:
        if ignored := [name for name in ("autoencoder", "model", "text", "image") if getattr(config, name)]:
            raise InputError(
                f"{' and '.join(ignored)} are of new networks, and weights={config.weights} brings its own; remove "
                "them, or weights."
            )
        model = VideoModel.load(config.weights)
        if model.prediction_type != config.prediction:
            raise InputError(
                f"{config.weights} predicts {model.prediction_type}; set prediction={model.prediction_type}."
            )
        model.scheduler_config, model.label = {**model.scheduler_config, **config.scheduler}, config.label
        model.meta["guidance"] = config.guidance
        if config.text_encoder is not None:
            model.text_encoder = _taught(config.text_encoder)
        if config.motion_mean is not None:
            give_motion_mean(model, load_module(MotionMean, config.motion_mean))
        return model
    if config.autoencoder is None:
        raise InputError("Neither weights nor autoencoder is set; train one with train/autoencoder.py and name it.")
    autoencoder = load_module(ReferenceAutoencoder, config.autoencoder)
    try:
        return _new(config, autoencoder, scheduler)
    except (TypeError, ValueError, AssertionError) as error:  # of a constructor, which knows its arguments best
        raise InputError(f"No network can be made of model, text and image in the configuration: {error}") from error


def _new(config: StageOneTrainConfig, autoencoder: ReferenceAutoencoder, scheduler: dict[str, Any]) -> VideoModel:
    text = MiniTextEncoder(**config.text) if config.text_encoder is None else _taught(config.text_encoder)
    image = MiniImageEncoder(**config.image)
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
    model = VideoModel(unet, autoencoder, text, image, scheduler, config.label, {**meta, "drop_image": False})
    if config.motion_mean is not None:
        give_motion_mean(model, load_module(MotionMean, config.motion_mean))
    return model


def give_motion_mean(model: VideoModel, mean: Mapping[str, int] | MotionMean) -> None:
    """Puts a motion mean into a model whose network has none.

    What the network knows stays, but its last layer starts again from zero: until it is trained on, the model says the
    motion mean whatever the noise.

    Args:
        model: Changed in place.
        mean: ``motion_mean`` of `MultiViewMotionUNet` for a new one, or a trained one.

    Raises:
        InputError: The network has one, does not predict clean latents, or the sizes do not go together.
    """
    old = cast(MultiViewMotionUNet, model.unet)
    config = {k: v for k, v in dict(old.config).items() if not k.startswith("_")}
    if config.get("motion_mean") is not None:
        raise InputError("The network already has a motion mean; train it further without naming sizes for a new one.")
    if model.prediction_type != "sample":
        raise InputError(f"The network predicts {model.prediction_type}; a motion mean is added to clean latents only.")
    sizes = {name: mean.config[name] for name in SIZES} if isinstance(mean, MotionMean) else dict(mean)
    try:
        new = MultiViewMotionUNet(**{**config, "motion_mean": sizes, "zero_init_output": True})
    except TypeError as error:
        raise InputError(f"No motion mean can be made of {sizes}: {error}") from error
    state = {name: value for name, value in old.state_dict().items() if not name.startswith("conv_out.")}
    fresh = new.state_dict()
    state |= {name: value for name, value in fresh.items() if name.startswith(("expected_", "conv_out."))}
    if isinstance(mean, MotionMean):
        state |= {f"expected_motion.{name}": value for name, value in mean.state_dict().items()}
    weight = state["conv_in.weight"]
    state["conv_in.weight"] = torch.zeros_like(fresh["conv_in.weight"])
    state["conv_in.weight"][:, : weight.shape[1]] = weight
    load_strictly(new, state, "the network with a motion mean")
    model.unet = new


def _taught(folder: Path) -> MiniTextEncoder:
    encoder = load_module(MiniTextEncoder, folder)
    encoder.load_files(folder)
    return encoder


def freeze(module: nn.Module, trainable: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Leaves gradients only to parameters whose name holds one of the parts (none given: to all).

    Returns:
        The trained parameters by name.

    Raises:
        InputError: No parameter is left.
    """
    found = {}
    for name, parameter in module.named_parameters():
        trains = not trainable or any(part in name for part in trainable)
        parameter.requires_grad_(trains)
        if trains:
            found[name] = parameter
    if not found:
        raise InputError(f"No parameter's name holds {' or '.join(trainable)}; name other parts in trainable.")
    return found
