"""Model folders, and the paper's encoders with tiny random weights."""

import json

import numpy as np
import pytest
import torch
from diffusion_dummies import small_unet, unet_inputs
from PIL import Image
from transformers import CLIPImageProcessor

from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.image.clip import CLIPPictureEncoder
from t4d.diffusion.interfaces import ClipAutoencoder, ImageEncoder, TextEncoder
from t4d.diffusion.model import REGISTRY, VideoModel, _class_of, weights_folder
from t4d.diffusion.sampler import sample_clip
from t4d.diffusion.text.clip import CLIPSentenceEncoder
from t4d.errors import InputError
from t4d.geometry.camera import rig

VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 6,
}
TEXT = {
    "vocab_size": 600,
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
}


@pytest.fixture
def text_encoder(tmp_path):
    """CLIP's tokenizer with its 256 bytes, twice (inside and at the end of a word), and no merges."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    encoder = CLIPSentenceEncoder(TEXT).eval()
    encoder.load_files(folder)
    return encoder


@pytest.fixture
def model(text_encoder):
    torch.manual_seed(0)
    unet = small_unet(text_pooled_dim=None, cond_concat_channels=0, strides=(1, 2, 1)).eval()
    vae = SDAutoencoder((8, 8, 8, 8), 1, 4, 4).eval()
    meta = {"guidance": 2.0, "views": 3, "frames": 5, "size": 32}
    return VideoModel(unet, vae, text_encoder, CLIPPictureEncoder(VISION).eval(), label="tiny", meta=meta)


def pictures(V=3, H=32, W=48, seed=0):
    return torch.rand(V, 4, H, W, generator=torch.Generator().manual_seed(seed))


def sample(model, seed=0):
    cameras = rig((0.0, 120.0, 240.0), width=48, height=32)
    return list(sample_clip(model, pictures(), cameras, "a fox", frames=5, steps=2, seed=seed))[-1]


def test_parts_satisfy_their_interfaces(model):
    assert isinstance(model.autoencoder, ClipAutoencoder)
    assert isinstance(model.text_encoder, TextEncoder)
    assert isinstance(model.image_encoder, ImageEncoder)
    assert not model.has_alpha and model.prediction_type == "epsilon" and model.guidance == 2.0


def test_a_saved_model_samples_the_same_clip(model, tmp_path):
    for part in model.parts.values():  # what float16 files can hold, so that the two must agree
        for parameter in part.parameters():
            parameter.data = parameter.data.half().float()
    model.save(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["classes"]["unet"] == "MultiViewMotionUNet" and index["frames"] == 5
    assert all(file.stat().st_size < 9e6 for file in (tmp_path / "model").rglob("*"))
    back = VideoModel.load(tmp_path / "model")
    assert back.label == "tiny" and back.meta == model.meta and len(back.sha256) == 64
    assert back.scheduler_config == model.scheduler_config
    ours, theirs = sample(model), sample(back)
    assert ours.clip_rgba is not None and theirs.clip_rgba is not None
    assert ours.clip_rgba.shape == (3, 5, 4, 32, 48)
    torch.testing.assert_close(theirs.clip_rgba, ours.clip_rgba, rtol=0, atol=1e-4)
    digest = back.sha256
    part = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    assert VideoModel.load(tmp_path / "model").sha256 != digest


def test_a_folder_cannot_name_other_classes(model, tmp_path):
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model_index.json"
    index = json.loads(file.read_text())
    file.write_text(json.dumps({**index, "classes": {**index["classes"], "unet": "Popen"}}))
    with pytest.raises(InputError, match="class 'Popen'"):
        VideoModel.load(tmp_path / "model")
    file.write_text(json.dumps({**index, "classes": {"unet": "MultiViewMotionUNet"}}))
    with pytest.raises(InputError, match="names the parts"):
        VideoModel.load(tmp_path / "model")
    file.write_text("[")
    with pytest.raises(InputError, match="not a model index"):
        VideoModel.load(tmp_path / "model")
    with pytest.raises(InputError, match="No video model was found"):
        weights_folder(tmp_path / "nowhere")
    assert weights_folder("public") is None


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_registered_class_can_be_imported(name):
    cls = _class_of(name)
    assert cls.__name__ == name and issubclass(cls, torch.nn.Module)


def test_text_is_padded_cut_and_empty_text_is_a_sentence(text_encoder, tmp_path):
    tokens, pooled = text_encoder.encode(["", "a fox", "a very long sentence about a fox"])
    assert tokens.shape == (3, 9, 12) and pooled is None
    assert not torch.allclose(tokens[0], tokens[1])
    alone, _ = text_encoder.encode(["a fox"])
    torch.testing.assert_close(alone[0], tokens[1])
    with pytest.raises(InputError, match="no vocabulary"):
        CLIPSentenceEncoder(TEXT).encode(["a fox"])
    with pytest.raises(InputError, match="missing"):
        CLIPSentenceEncoder(TEXT).load_files(tmp_path)


def test_pictures_are_prepared_like_clips_own_processor_on_uint8():
    encoder = CLIPPictureEncoder(VISION)
    picture = (torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    smooth = np.asarray(Image.fromarray(picture.numpy()).resize((12, 9)).resize((56, 40), Image.Resampling.BICUBIC))
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    wanted = processor(Image.fromarray(smooth), return_tensors="pt")["pixel_values"]
    rgb = torch.from_numpy(smooth.copy()).permute(2, 0, 1)[None].float() / 255
    assert (encoder.prepare(rgb) - wanted).abs().max() < 0.05
    assert abs(float(encoder.prepare(torch.full((1, 3, 30, 30), 0.5)).mean()) - 0.16) < 0.1  # not divided by 255 twice
    out = encoder.encode(pictures()[None])
    assert out.shape == (1, 3, 6) and not torch.allclose(out[0, 0], out[0, 1])


def test_sd_autoencoder_scales_and_keeps_frames_apart():
    torch.manual_seed(0)
    vae = SDAutoencoder((8, 8, 8), 1, 4, 4, chunk=4).eval()
    clip = torch.rand(1, 2, 3, 4, 16, 24)
    z = vae.encode(clip)
    assert z.shape == (1, 2, 3, 4, 4, 6) and vae.factor == 4
    with torch.no_grad():
        direct = vae.vae.encode(2 * clip[0, 1, 2:3, :3] - 1).latent_dist.mean * 0.18215
    torch.testing.assert_close(z[0, 1, 2:3], direct)
    out = vae.decode(z, clip[:, :, 0])
    assert out.shape == clip.shape and bool((out[..., 3, :, :] == 1).all())
    assert vae.condition(clip[:, :, 0]) is None
    assert torch.equal(vae.train().encode(clip), z)  # a sample is asked for, whatever the mode
    rough = clip.requires_grad_()
    a, b = (vae.encode_sample(rough, torch.Generator().manual_seed(seed)) for seed in (5, 6))
    assert not torch.allclose(a, z, atol=1e-3) and not torch.allclose(a, b, atol=1e-3)
    again = vae.encode_sample(rough.detach(), torch.Generator().manual_seed(5))
    torch.testing.assert_close(again, a)
    (held,) = torch.autograd.grad(a.sum(), rough)  # chunks are encoded again, with the same noise
    vae.chunk = 100
    (whole,) = torch.autograd.grad(vae.encode_sample(rough, torch.Generator().manual_seed(5)).sum(), rough)
    torch.testing.assert_close(held, whole)


def test_absent_public_weights_are_told_in_one_sentence(monkeypatch):
    def offline(repo, name):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"MVDream U-Net weights are not on this machine .*hf download") as caught:
        VideoModel.load("public")
    assert "\n" not in str(caught.value)


def test_image_embedding_reaches_the_network():
    unet, inputs = small_unet().eval(), unet_inputs()
    with torch.no_grad():
        changed = unet(**{**inputs, "image_embeds": torch.zeros_like(inputs["image_embeds"])})
        assert (changed - unet(**inputs)).abs().max() > 1e-6
