"""Stored clips as the configuration asks for them, or a sentence."""

import pytest
import torch

from t4d.data.cache import save_item
from t4d.data.dataset import ClipDataset
from t4d.data.latents import LatentStore, autoencoder_digest, encode_clips
from t4d.data.shard_writer import write_shards
from t4d.data.shards import ShardClips
from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.errors import InputError
from train.config import DataConfig, StageOneTrainConfig
from train.sources import clips, rendered_or_stored


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Three clips of 2 views and 3 frames, cached and in shards."""
    root = tmp_path_factory.mktemp("stored")
    data = ClipDataset(None, procedural_fraction=1.0, side=32, views=2, frames=3, grid=4)
    (root / "cache").mkdir()
    for i in range(3):
        save_item(data[i], root / "cache" / f"{i:06d}.npz")
    write_shards(data, root / "shards", made={}, count=3)
    return root


@pytest.mark.parametrize("kind", ["cache", "shards"])
def test_stored_clips_are_finite_and_large_enough(stored, kind):
    small = {"views": 2, "frames": 3}
    data, count = rendered_or_stored(DataConfig.model_validate({kind: stored / kind, **small}), 0)
    assert count == 3 and data[2]["rgba"].shape == (2, 3, 4, 32, 32)
    assert rendered_or_stored(DataConfig.model_validate({kind: stored / kind, "clips": 2, **small}), 0)[1] == 2
    assert rendered_or_stored(DataConfig.model_validate({kind: stored / kind, "clips": 9, **small}), 0)[1] == 3
    for more in ({"views": 3, "frames": 3}, {"views": 2, "frames": 4}):
        with pytest.raises(InputError, match="have 2 views of 3 frames"):
            rendered_or_stored(DataConfig.model_validate({kind: stored / kind, **more}), 0)


def test_one_source_only(stored):
    with pytest.raises(InputError, match="both set"):
        rendered_or_stored(DataConfig(cache=stored / "cache", shards=stored / "shards"), 0)


def test_latents_beside_and_inside_shards(stored, tmp_path):
    torch.manual_seed(0)
    mine, other = (ReferenceAutoencoder(widths=(8, 8, 8), working_side=32, image_side=32) for _ in range(2))
    digest, shards = autoencoder_digest(mine), ShardClips(stored / "shards")
    encode_clips(shards, LatentStore(tmp_path / "l", digest, create=True), lambda item: torch.ones(2, 3, 8, 4, 4))

    def config(folder, **more):
        data = {"shards": folder, "views": 2, "frames": 3}
        return StageOneTrainConfig.model_validate({"optim": {"steps": 1, "batch": 1, "lr": 1e-3}, "data": data, **more})

    assert "latents" not in clips(config(stored / "shards"), mine)[0][0]
    joined = clips(config(stored / "shards", latents=tmp_path / "l"), mine)[0]
    assert (joined[1]["latents"] == 1).all()
    with pytest.raises(InputError, match="of autoencoder"):
        clips(config(stored / "shards", latents=tmp_path / "l"), other)
    write_shards(joined, tmp_path / "packed", made={"latents": digest})
    assert (clips(config(tmp_path / "packed"), mine)[0][1]["latents"] == 1).all()
    with pytest.raises(InputError, match="packed are of autoencoder"):
        clips(config(tmp_path / "packed"), other)
