"""The public checkpoints' file formats, made small: names, order, census, refusals."""

from typing import Any

import pytest
import torch
from diffusers import MotionAdapter
from safetensors.torch import save_file

from t4d.diffusion.checkpoints import (
    DELTA,
    MVDREAM,
    find_file,
    ip_adapter_names,
    is_delta,
    load_checkpoints,
    merge,
    read_state,
    start_from_public,
)
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.errors import InputError

SMALL = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 6,
    "num_attention_heads": 2,
    "motion_num_attention_heads": 2,
    "motion_max_seq_length": 32,
    "image_embed_dim": 5,
    "first_up_motion_groups": None,
}


@pytest.fixture(scope="module")
def network():
    return MultiViewMotionUNet(**SMALL)


@pytest.fixture
def files(network, tmp_path):
    """Four files as they are on the Hub, filled with distinct random values."""
    generator = torch.Generator().manual_seed(0)

    def fresh(value):
        return torch.randn(value.shape, generator=generator)

    own = network.state_dict()
    inner = {ours: theirs for theirs, ours in ip_adapter_names(network).items()}
    base = {name: fresh(value) for name, value in own.items() if not is_delta(name) and name not in inner}
    save_file(base, tmp_path / "diffusion_pytorch_model.safetensors")

    adapter = MotionAdapter(
        block_out_channels=(8, 8, 8, 8),
        motion_norm_num_groups=4,
        motion_num_attention_heads=2,
        motion_max_seq_length=32,
    )
    motion = {name: fresh(value) for name, value in adapter.state_dict().items()}
    torch.save(motion, tmp_path / "motion.bin")

    nested: dict = {"image_proj": {}, "ip_adapter": {}}
    for ours, theirs in inner.items():
        head, rest = theirs.split(".", 1)
        nested[head][rest] = fresh(own[ours])
    torch.save(nested, tmp_path / "ip-adapter_sd15.bin")

    delta = {name: fresh(value) for name, value in own.items() if is_delta(name)}
    wrapped = {"state_dict": {"module." + name: value for name, value in delta.items()}, "epoch": 3, "global_step": 7}
    torch.save(wrapped, tmp_path / "animate3d_motion_modules.ckpt")
    return tmp_path


def states(folder):
    names = (
        "diffusion_pytorch_model.safetensors",
        "motion.bin",
        "ip-adapter_sd15.bin",
        "animate3d_motion_modules.ckpt",
    )
    return [read_state(folder / name) for name in names]


def test_entry_counts_of_the_files(files):
    base, motion, ip, delta = states(files)
    assert (len(ip), len(delta), len(motion)) == (36, 888, 567)
    assert len(base) == 690 - 4  # two down levels of equal width need no channel shortcut, of two entries each


def test_all_four_fill_every_entry_and_the_delta_wins(network, files):
    base, motion, ip, delta = states(files)
    _, census = merge(network, base, motion, ip, delta)
    assert census.missing == () and census.unexpected == ()
    loaded = load_checkpoints(MultiViewMotionUNet(**SMALL), base, motion, ip, delta).state_dict()
    for source in (base, delta):
        assert all(torch.equal(loaded[name], value) for name, value in source.items())
    query = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.weight"
    assert not torch.equal(motion[query], delta[query])
    place = "up_blocks.1.attentions.2.transformer_blocks.0.attn2.processor.to_v_ip.0.weight"
    assert torch.equal(loaded[place], ip["ip_adapter.17.to_v_ip.weight"])
    place = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_ip.0.weight"
    assert torch.equal(loaded[place], ip["ip_adapter.31.to_k_ip.weight"])


def test_delta_alone_leaves_exactly_the_726_base_entries():
    with torch.device("meta"):
        full = MultiViewMotionUNet()
    delta = {name: value for name, value in full.state_dict().items() if is_delta(name)}
    _, census = merge(full, delta=delta)
    assert len(census.missing) == 726 and census.unexpected == ()
    assert not any(is_delta(name) for name in census.missing)
    names = set(ip_adapter_names(full).values())
    assert len(names) == 36 and len(set(census.missing) - names) == 690


def test_without_the_delta_training_starts_from_copies(files):
    base, motion, ip, _ = states(files)
    torch.manual_seed(5)
    network: Any = start_from_public(MultiViewMotionUNet(**SMALL), base, motion, ip)
    block = network.up_blocks[2].attentions[1].transformer_blocks[0].attn1
    assert torch.equal(block.processor.to_q_i2v.weight, block.to_q.weight)
    assert float(block.processor.to_out_i2v.weight.detach().abs().sum()) == 0
    temporal = network.mid_block.motion_modules[0].transformer_blocks[0].attn2
    assert torch.equal(
        temporal.to_v.weight, motion["mid_block.motion_modules.0.transformer_blocks.0.attn2.to_v.weight"]
    )
    assert float(temporal.processor.alpha_blender.mix_factor) == 0
    assert float(temporal.processor.to_q_sp.weight.detach().abs().sum()) > 0


def test_a_missing_and_a_stray_entry_are_named(network, files):
    base, motion, ip, delta = states(files)
    broken = {name: value for name, value in base.items() if name != "camera_embedding.linear_1.weight"}
    with pytest.raises(InputError, match=r"lack 1 tensors \(camera_embedding.linear_1.weight\)"):
        load_checkpoints(network, broken, motion, ip, delta)
    with pytest.raises(InputError, match=r"also hold 1 tensors \(ip_adapter.33.to_k_ip.weight\)"):
        load_checkpoints(network, base, motion, {**ip, "ip_adapter.33.to_k_ip.weight": torch.zeros(1)}, delta)


def test_sources_are_files_folders_or_hub_ids(files, tmp_path, monkeypatch):
    assert find_file(MVDREAM, files).name == "diffusion_pytorch_model.safetensors"
    assert find_file(DELTA, files / "animate3d_motion_modules.ckpt").suffix == ".ckpt"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Animate3D delta"):
        find_file(DELTA, tmp_path / "empty")
    with pytest.raises(InputError, match="neither a file, a folder nor a Hub id"):
        find_file(DELTA, "no/such/place.ckpt")

    asked = []

    def offline(repo, name):
        asked.append((repo, name))
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"Animate3D delta .*yanqinJiang/animate3d, file animate3d_motion"):
        find_file(DELTA)
    with pytest.raises(InputError, match="hf download someone/fork"):
        find_file(DELTA, "someone/fork")
    assert [repo for repo, _ in asked] == ["yanqinJiang/animate3d", "someone/fork"]


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_state(tmp_path / "evil.ckpt")
    (tmp_path / "text.bin").write_text("<html>")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_state(tmp_path / "text.bin")
    torch.save({"epoch": 1}, tmp_path / "empty.ckpt")
    with pytest.raises(InputError, match="holds no tensors"):
        read_state(tmp_path / "empty.ckpt")


def test_ip_adapter_ids_of_the_public_table(shared_data):
    with torch.device("meta"):
        full = MultiViewMotionUNet()
    names, state = ip_adapter_names(full), full.state_dict()
    table = (shared_data / "fixtures" / "animate3d_unet_keys.txt").read_text().split("## ")[1]
    rows = [line.split() for line in table.splitlines()[1:] if "attn2.processor" in line]
    assert len(rows) == 16
    for number, path, width in rows:
        ours = names[f"ip_adapter.{number}.to_k_ip.weight"]
        assert ours == f"{path}.to_k_ip.0.weight"
        assert state[ours].shape == (int(width.removeprefix("C=")), 768)


def test_first_up_norm_keeps_32_groups_unless_told():
    def groups(**changes) -> list[int]:
        with torch.device("meta"):
            network: Any = MultiViewMotionUNet(**{**SMALL, "block_out_channels": (32, 32, 32, 32), **changes})
        return [module.norm.num_groups for block in network.up_blocks for module in block.motion_modules]

    assert groups(first_up_motion_groups=32) == [32] * 3 + [4] * 9
    assert groups() == [4] * 12
