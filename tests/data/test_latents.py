"""Stored latents: the right ones or a refusal."""

import json

import pytest
import torch
from sample_items import Items, make_item, same

from t4d.data.cache import CachedClips, save_item
from t4d.data.latents import (
    LatentStore,
    WithLatents,
    autoencoder_digest,
    check_packed,
    encode_clips,
    pictures_digest,
)
from t4d.data.shard_writer import write_shards
from t4d.data.shards import ShardClips
from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return SDAutoencoder(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4).eval()


def test_digest_is_of_what_the_autoencoder_computes(autoencoder, tmp_path):
    digest = autoencoder_digest(autoencoder)
    assert autoencoder_digest(autoencoder) == digest and len(digest) == 64
    save_module(autoencoder, tmp_path, torch.float32)
    copy = load_module(SDAutoencoder, tmp_path)
    assert autoencoder_digest(copy) == digest  # wherever it came from
    half = load_module(SDAutoencoder, tmp_path, torch.float16)
    assert autoencoder_digest(half) == autoencoder_digest(half.float()) != digest
    with torch.no_grad():
        next(copy.parameters()).view(-1)[3] += 1e-6
    assert autoencoder_digest(copy) != digest  # a single weight
    scaled = SDAutoencoder(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, scaling_factor=0.2)
    scaled.load_state_dict(autoencoder.state_dict())
    assert autoencoder_digest(scaled) != digest  # a setting that changes the latents
    assert autoencoder_digest(ReferenceAutoencoder(widths=(8, 8, 8))) != digest


def test_pictures_digest_sees_pictures_as_stored():
    rgba = make_item(0)["rgba"]
    assert pictures_digest(rgba) == pictures_digest(rgba + 0.4 / 255 * (rgba < 0.9))
    one_level = rgba.clone()
    one_level[1, 2, 3, 4, 5] += (1 if rgba[1, 2, 3, 4, 5] < 0.5 else -1) / 255
    assert pictures_digest(one_level) != pictures_digest(rgba) != pictures_digest(rgba.transpose(0, 1))
    assert pictures_digest(rgba.flatten(3).view(*rgba.shape[:3], 36, 20)) != pictures_digest(rgba)


def test_store_and_join(autoencoder, tmp_path):
    """One folder serves the cache and the shards of the same clips, in any order; items differ by `latents` alone."""
    digest, data = autoencoder_digest(autoencoder), Items(4)
    store = LatentStore(tmp_path / "latents", digest, create=True)
    encode = torch.no_grad()(lambda item: autoencoder.encode(item["rgba"][None])[0])
    assert encode_clips(data, store, encode, count=3) == (3, 0)
    assert encode_clips(data, store, encode) == (1, 3)
    (tmp_path / "cache").mkdir()
    for i in range(4):
        save_item(make_item(3 - i), tmp_path / "cache" / f"{i:06d}.npz")
    write_shards(data, tmp_path / "shards", made={})
    for plain in (data, CachedClips(tmp_path / "cache"), ShardClips(tmp_path / "shards")):
        joined = WithLatents(plain, tmp_path / "latents", digest)
        assert len(joined) == 4
        for i in range(4):
            item = joined[i]
            found = item.pop("latents")
            assert same(item, plain[i])
            truth = encode(plain[i])
            assert found.dtype == torch.float16 and found.shape == (2, 3, 4, 10, 18)
            assert (found - truth).abs().max() <= 2**-11 * truth.abs().max()
    # and they can travel inside shards, with the digest beside them
    write_shards(WithLatents(data, tmp_path / "latents", digest), tmp_path / "full", made={"latents": digest})
    full = ShardClips(tmp_path / "full")
    assert torch.equal(full[2]["latents"], store.load(pictures_digest(full[2]["rgba"]), "x"))
    check_packed(full, autoencoder)
    check_packed(ShardClips(tmp_path / "shards"), autoencoder)  # has none: nothing to refuse
    other = ReferenceAutoencoder(widths=(8, 8, 8))
    with pytest.raises(InputError, match=f"full are of autoencoder {digest[:12]}"):
        check_packed(full, other)
    (tmp_path / "full" / "index.json").unlink()
    with pytest.raises(InputError, match="full are of autoencoder unknown"):
        check_packed(ShardClips(tmp_path / "full"), autoencoder)


def test_wrong_latents_are_refused(tmp_path):
    item = make_item(0)
    key = pictures_digest(item["rgba"])
    with pytest.raises(InputError, match="holds no latents"):
        LatentStore(tmp_path, "a" * 64)
    store = LatentStore(tmp_path, "a" * 64, create=True)
    with pytest.raises(InputError, match="of autoencoder aaaaaaaaaaaa, the model's is bbbbbbbbbbbb"):
        WithLatents(Items(1), tmp_path, "b" * 64)
    with pytest.raises(InputError, match="of autoencoder aaaaaaaaaaaa"):
        LatentStore(tmp_path, "b" * 64, create=True)  # making more of another autoencoder, too
    with pytest.raises(InputError, match="no latents of clip n0 as it looks now"):
        WithLatents(Items(1), tmp_path, "a" * 64)[0]
    with pytest.raises(InputError, match="float16 cannot hold"):
        store.save(key, torch.full((2, 3, 4, 2, 2), 1e5))
    assert not store.path(key).exists()
    store.save(key, torch.zeros(2, 3, 4, 2, 2))
    store.path(key).write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="cannot be read"):
        WithLatents(Items(1), tmp_path, "a" * 64)[0]
    for bad in ("{", "[]", json.dumps({"version": 9, "autoencoder": "a" * 64})):
        (tmp_path / "index.json").write_text(bad)
        with pytest.raises(InputError, match=r"index of latents|version 9"):
            LatentStore(tmp_path, "a" * 64)
