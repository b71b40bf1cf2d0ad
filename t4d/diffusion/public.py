"""The paper's model from public weights."""

from pathlib import Path

from accelerate import init_empty_weights
from torch import Tensor, nn

from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.checkpoints import (
    DELTA,
    IP_ADAPTER,
    MOTION,
    MVDREAM,
    Source,
    find_file,
    load_checkpoints,
    read_state,
)
from t4d.diffusion.image.clip import CLIPPictureEncoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE
from t4d.diffusion.text.clip import CLIPSentenceEncoder
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_strictly

LABEL = "Animate3D's public weights, trained without tracking losses"


def _weights(folder: str, stem: str) -> tuple[str, ...]:
    return f"{folder}{stem}.safetensors", f"{folder}{stem}.bin", f"{folder}pytorch_{stem}.bin"


VAE = Source("SD1.5 VAE", MVDREAM.repo, _weights("vae/", "diffusion_pytorch_model"))
TEXT = Source("CLIP text encoder", MVDREAM.repo, _weights("text_encoder/", "model"))
VOCABULARY = Source("CLIP vocabulary", MVDREAM.repo, ("tokenizer/vocab.json", "vocab.json"))
MERGES = Source("CLIP merges", MVDREAM.repo, ("tokenizer/merges.txt", "merges.txt"))
PICTURE = Source("CLIP image encoder", IP_ADAPTER.repo, _weights("models/image_encoder/", "model"))


def load_public(
    unet: str | Path | None = None,
    motion: str | Path | None = None,
    ip_adapter: str | Path | None = None,
    delta: str | Path | None = None,
) -> VideoModel:
    """The paper-sized model with the four public checkpoints and stock SD1.5 and CLIP parts.

    Args:
        unet: MVDream's repository, as a Hub id, folder or U-Net file. A folder also gives VAE, text encoder and
            tokenizer, in its subfolders.
        motion: Motion adapter: Hub id, folder or file.
        ip_adapter: IP-Adapter: Hub id, folder or file. A folder also gives the image encoder.
        delta: Animate3D's delta: Hub id, folder or file.

    Returns:
        The model on the CPU, in float32.

    Raises:
        InputError: If any weights are absent, saying which and how to get them, or do not fit.
    """
    # all files are found before anything is built, so that an absent one is told at once
    files = [find_file(*pair) for pair in ((MVDREAM, unet), (MOTION, motion), (IP_ADAPTER, ip_adapter), (DELTA, delta))]
    stock, prompt = _folder_or_hub(unet), _folder_or_hub(ip_adapter)
    vae, text, vocabulary, merges = (find_file(source, stock) for source in (VAE, TEXT, VOCABULARY, MERGES))
    picture = find_file(PICTURE, prompt)

    # parameters are made without memory and take the files' tensors over: 2.4 billion numbers are held once
    with init_empty_weights(include_buffers=False):
        network, autoencoder = MultiViewMotionUNet(), SDAutoencoder()
        text_encoder, image_encoder = CLIPSentenceEncoder(), CLIPPictureEncoder()
    load_checkpoints(network, *(read_state(file) for file in files)).eval()
    _fill(autoencoder, "vae", _modern_vae(read_state(vae)), vae)
    _fill(text_encoder, "tower", _without_ids(read_state(text)), text)
    text_encoder.read_tokenizer(vocabulary, merges)
    _fill(image_encoder, "tower", _without_ids(read_state(picture)), picture)
    meta = {"guidance": 7.5, "views": 4, "frames": 16, "size": 256, "drop_image": True}
    return VideoModel(network, autoencoder, text_encoder, image_encoder, dict(PAPER_SCHEDULE), LABEL, meta)


def _folder_or_hub(place: str | Path | None) -> str | Path | None:
    """Where the stock parts beside a checkpoint are: its folder or repository, or the default for a lone file."""
    return None if place is not None and Path(place).is_file() else place


def _fill(part: nn.Module, attribute: str, state: dict[str, Tensor], source: Path) -> None:
    inner: nn.Module = getattr(part, attribute)
    wanted = inner.state_dict()
    prefixed = {name if name in wanted else name.split(".", 1)[-1]: value for name, value in state.items()}
    load_strictly(inner, prefixed, str(source), assign=True)
    part.eval()


def _without_ids(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the position ids that old transformers stored; they are computed now."""
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}


def _modern_vae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Attention entries of SD1.5's VAE file under diffusers' present names."""
    renamed = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    out = {}
    for name, value in state.items():
        parts = name.split(".")
        if "attentions" in parts and parts[-2] in renamed:
            parts[-2] = renamed[parts[-2]]
        out[".".join(parts)] = value
    return out
