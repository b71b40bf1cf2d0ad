"""The paper's model from files with the public checkpoints' names, formats and full shapes, but one number a tensor.

torch.save keeps an expanded tensor as its one number, so the files are small, and as nothing is copied on loading so is
the model. The number comes from file and name: a wrong name, order or place shows.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from torch import Tensor, nn
from transformers.convert_slow_tokenizer import bytes_to_unicode

from t4d.diffusion.model import VideoModel
from t4d.diffusion.public import load_public
from t4d.errors import InputError

WIDTHS = (320, 640, 1280, 1280)


def number(file: str, name: str) -> float:
    """What a tensor of a file is filled with."""
    return zlib.crc32(f"{file} {name}".encode()) / 2**32 * 0.02 - 0.01


def filled(file: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Expanded tensors; ids are whole numbers."""
    return {
        name: torch.arange(shape[-1]).expand(shape)
        if name.endswith("position_ids")
        else torch.full((1,), number(file, name)).expand(shape)
        for name, shape in shapes.items()
    }


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def mvdream() -> dict[str, tuple[int, ...]]:
    """SD1.5's U-Net with four entries for the camera."""
    with torch.device("meta"):
        shapes = shapes_of(UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8))
    for layer, inputs in (("linear_1", 16), ("linear_2", 1280)):
        shapes[f"camera_embedding.{layer}.weight"] = (1280, inputs)
        shapes[f"camera_embedding.{layer}.bias"] = (1280,)
    assert len(shapes) == 690
    return shapes


def adapter() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        shapes = shapes_of(MotionAdapter(block_out_channels=WIDTHS))
    assert len(shapes) == 567
    return shapes


def delta() -> dict[str, tuple[int, ...]]:
    """Animate3D's: the motion modules with their processors, and the MV2V adapter."""
    shapes = {name: shape for name, shape in adapter().items() if not name.endswith("pos_embed.pe")}
    for name, (c, _) in [item for item in shapes.items() if item[0].endswith(".to_q.weight")]:
        processor = name.removesuffix("to_q.weight") + "processor."
        shapes |= {f"{processor}to_{x}_sp.weight": (c, c) for x in ("q", "k", "v", "out")}
        shapes |= {processor + "to_out_sp.bias": (c,), processor + "alpha_blender.mix_factor": (1,)}
        shapes[processor + "time_pos_embed.pe"] = (1, 32, c)
    for path, c in cross_attentions():
        processor = f"{path}.attn1.processor."
        shapes |= {f"{processor}to_q_i2v.weight": (c, c), f"{processor}to_out_i2v.weight": (c, c)}
        shapes[f"{processor}to_out_i2v.bias"] = (c,)
    assert len(shapes) == 888
    return shapes


def cross_attentions() -> list[tuple[str, int]]:
    """Paths and widths of the 16 spatial transformers' blocks in the IP-Adapter's order: down, up, mid."""
    down = [(f"down_blocks.{i}.attentions.{j}", WIDTHS[i]) for i in range(3) for j in range(2)]
    up = [(f"up_blocks.{i}.attentions.{j}", WIDTHS[3 - i]) for i in range(1, 4) for j in range(3)]
    return [(f"{path}.transformer_blocks.0", c) for path, c in [*down, *up, ("mid_block.attentions.0", 1280)]]


def ip_adapter() -> dict[str, dict[str, tuple[int, ...]]]:
    kinds = [(2 * i + 1, c) for i, (_, c) in enumerate(cross_attentions())]
    layers = {f"{i}.{kind}.weight": (c, 768) for i, c in kinds for kind in ("to_k_ip", "to_v_ip")}
    head = {"proj.weight": (3072, 1024), "proj.bias": (3072,), "norm.weight": (768,), "norm.bias": (768,)}
    return {"image_proj": head, "ip_adapter": layers}


def old_vae() -> dict[str, tuple[int, ...]]:
    """SD1.5's VAE, whose attention entries still have the names of its time."""
    with torch.device("meta"):
        kinds: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (128, 256, 512, 512),
        }
        shapes = shapes_of(AutoencoderKL(**kinds, layers_per_block=2))
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new, former in old.items():
        shapes = {name.replace(new, former): shape for name, shape in shapes.items()}
    assert len(shapes) == 248 and "decoder.mid_block.attentions.0.proj_attn.bias" in shapes
    return shapes


def tower(prefix: str, layers: int, width: int, norms: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """CLIP's transformer."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    for i in range(layers):
        layer = f"{prefix}.encoder.layers.{i}"
        for which in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(f"{layer}.self_attn.{which}", width, width)
        linear(f"{layer}.mlp.fc1", 4 * width, width)
        linear(f"{layer}.mlp.fc2", width, 4 * width)
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
    for norm in norms:
        shapes[f"{prefix}.{norm}.weight"] = shapes[f"{prefix}.{norm}.bias"] = (width,)
    return shapes


def clip_text() -> dict[str, tuple[int, ...]]:
    shapes = tower("text_model", 12, 768, ("final_layer_norm",))
    place = "text_model.embeddings."
    shapes |= {place + "token_embedding.weight": (49408, 768), place + "position_embedding.weight": (77, 768)}
    return {**shapes, place + "position_ids": (1, 77)}


def clip_vision() -> dict[str, tuple[int, ...]]:
    shapes = tower("vision_model", 32, 1280, ("pre_layrnorm", "post_layernorm"))
    place = "vision_model.embeddings."
    shapes |= {place + "class_embedding": (1280,), place + "patch_embedding.weight": (1280, 3, 14, 14)}
    shapes |= {place + "position_embedding.weight": (257, 1280), place + "position_ids": (1, 257)}
    return {**shapes, "visual_projection.weight": (1024, 1280)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The four sources as folders with the Hub repositories' own file names."""
    root: Path = tmp_path_factory.mktemp("hub")
    flat = {
        "mvdream/unet/diffusion_pytorch_model.bin": mvdream(),
        "mvdream/vae/diffusion_pytorch_model.bin": old_vae(),
        "mvdream/text_encoder/pytorch_model.bin": clip_text(),
        "motion/diffusion_pytorch_model.bin": adapter(),
        "ip/models/image_encoder/pytorch_model.bin": clip_vision(),
        "animate3d/animate3d_motion_modules.ckpt": delta(),
    }
    states: dict[str, dict] = {file: filled(file, shapes) for file, shapes in flat.items()}
    file = "ip/models/ip-adapter_sd15.bin"
    states[file] = {part: filled(file, shapes) for part, shapes in ip_adapter().items()}
    states["animate3d/animate3d_motion_modules.ckpt"] = {
        "state_dict": states["animate3d/animate3d_motion_modules.ckpt"],
        "epoch": 1,
    }
    for name, state in states.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, root / name)
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (root / "mvdream" / "tokenizer").mkdir()
    (root / "mvdream" / "tokenizer" / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (root / "mvdream" / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 4e6
    return root


@pytest.fixture(scope="module")
def model(folders) -> VideoModel:
    return load_public(
        unet=folders / "mvdream",
        motion=folders / "motion",
        ip_adapter=folders / "ip",
        delta=folders / "animate3d" / "animate3d_motion_modules.ckpt",
    )


def check(state: dict[str, Tensor], name: str, file: str, theirs: str, shape: tuple[int, ...]) -> None:
    value = state[name]
    assert tuple(value.shape) == shape and value.dtype == torch.float32, name
    assert float(value.flatten()[0]) == pytest.approx(number(file, theirs), abs=1e-9), (name, file)


def test_every_entry_of_the_four_files_is_where_it_belongs(model):
    state, seen = model.unet.state_dict(), set()
    for file, shapes in (
        ("mvdream/unet/diffusion_pytorch_model.bin", mvdream()),
        ("animate3d/animate3d_motion_modules.ckpt", delta()),  # and not the motion adapter's, which it overwrites
    ):
        for name, shape in shapes.items():
            check(state, name, file, name, shape)
            seen.add(name)
    file, own = "ip/models/ip-adapter_sd15.bin", ip_adapter()
    for i, (path, _) in enumerate(cross_attentions()):
        for kind in ("to_k_ip", "to_v_ip"):
            theirs, ours = f"{2 * i + 1}.{kind}.weight", f"{path}.attn2.processor.{kind}.0.weight"
            check(state, ours, file, theirs, own["ip_adapter"][theirs])
            seen.add(ours)
    for theirs, shape in own["image_proj"].items():
        ours = "encoder_hid_proj.image_projection_layers.0." + theirs.replace("proj.", "image_embeds.")
        check(state, ours, file, theirs, shape)
        seen.add(ours)
    assert seen == set(state) and len(seen) == 1614


def test_every_entry_of_the_stock_parts_is_where_it_belongs(model):
    text, vision = model.text_encoder.tower, model.image_encoder.tower
    parts = (
        (model.autoencoder.vae, "mvdream/vae/diffusion_pytorch_model.bin", old_vae()),
        (text, "mvdream/text_encoder/pytorch_model.bin", clip_text()),
        (vision, "ip/models/image_encoder/pytorch_model.bin", clip_vision()),
    )
    old = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
    for module, file, shapes in parts:
        state = module.state_dict()
        seen = set()
        for theirs, shape in shapes.items():
            if theirs.endswith("position_ids"):
                continue
            name = theirs
            for former, new in old.items():
                name = name.replace(former, new)
            name = name if name in state else name.removeprefix("text_model.")
            check(state, name, file, theirs, shape)
            seen.add(name)
        assert seen == set(state)
    assert round(sum(p.numel() for p in vision.parameters()) / 1e6) == 632
    assert round(sum(p.numel() for p in text.parameters()) / 1e6) == 123


def test_nothing_was_copied_and_nothing_is_left_without_numbers(model):
    storages = {}
    for part in model.parts.values():
        for name, value in [*part.named_parameters(), *part.named_buffers()]:
            assert not value.is_meta, name
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    numbers = sum(p.numel() for part in model.parts.values() for p in part.parameters())
    assert numbers > 2.3e9 and sum(storages.values()) < 20e6
    assert model.label == "Animate3D's public weights, trained without tracking losses"
    assert model.prediction_type == "epsilon" and not any(part.training for part in model.parts.values())


def test_its_text_encoder_reads(model):
    tokens, pooled = model.text_encoder.encode(["a fox", ""])
    assert tokens.shape == (2, 77, 768) and pooled is None and bool(torch.isfinite(tokens).all())


@pytest.mark.slow
def test_its_denoiser_runs(model):
    inputs = {"sample": torch.randn(1, 1, 2, 4, 8, 8), "cameras": torch.randn(1, 1, 16)}
    with torch.no_grad():
        out = model.unet(
            **inputs, timestep=torch.tensor([5]), text=torch.randn(1, 77, 768), image_embeds=torch.randn(1, 1, 1024)
        )
    assert out.shape == (1, 1, 2, 4, 8, 8) and bool(torch.isfinite(out).all())


def test_a_shortened_file_is_named(folders, tmp_path):
    (tmp_path / "motion").mkdir()
    whole = (folders / "motion" / "diffusion_pytorch_model.bin").read_bytes()
    (tmp_path / "motion" / "diffusion_pytorch_model.bin").write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"motion.diffusion_pytorch_model\.bin is not a readable checkpoint"):
        load_public(folders / "mvdream", tmp_path / "motion", folders / "ip", folders / "animate3d")
