"""Laws of the network: parity, census, independence, free sizes, strict files, training."""

import json
import re
from typing import Any

import pytest
import torch
from diffusion_dummies import small_unet, unet_inputs
from safetensors.torch import load_file, save_file

from eval.parity import compare
from t4d.diffusion.checkpoints import is_delta
from t4d.diffusion.features import FeatureTap
from t4d.diffusion.losses import diffusion_loss
from t4d.diffusion.schedule import linear_alphas_cumprod, noisy_clip
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.errors import InputError


@pytest.fixture(scope="module")
def paper_unet():
    with torch.device("meta"):
        return MultiViewMotionUNet()


@pytest.mark.data
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parity_with_the_original(shared_data, dtype):
    errors = compare(str(shared_data / "fixtures" / "animate3d_unet_tiny"), dtype)
    assert len(errors) == 13
    assert max(errors.values()) <= 1e-4, errors


def test_census_of_the_paper_size(paper_unet):
    state = paper_unet.state_dict()
    sizes = {name: value.numel() for name, value in paper_unet.named_parameters()}
    assert len(state) == 1614 and len(sizes) == 1572
    assert round(sum(sizes.values()) / 1e6, 1) == 1526.2
    delta = [name for name in state if is_delta(name)]
    assert len(delta) == 888 and len(state) - len(delta) == 726
    assert sum("i2v" in name for name in delta) == 48 and sum("motion_modules" in name for name in delta) == 840
    assert sum(name.endswith(".pe") for name in delta) == 42
    assert round(sum(n for name, n in sizes.items() if is_delta(name)) / 1e6, 1) == 642.7
    assert round(sum(n for name, n in sizes.items() if "i2v" in name) / 1e6, 1) == 24.8
    new = sum(n for name, n in sizes.items() if "_sp." in name or "mix_factor" in name)
    assert round(new / 1e6, 1) == 164.7


@pytest.mark.data
def test_names_and_shapes_of_the_public_key_list(shared_data, paper_unet):
    state = {name: list(value.shape) for name, value in paper_unet.state_dict().items()}
    lines = (shared_data / "fixtures" / "animate3d_unet_keys.txt").read_text().splitlines()
    listed = set()
    for line in lines:
        if not (match := re.match(r"\s+(\S+\.\S+)\s+\[([\d, ]*)\]\s+idx=(\S+)", line)):
            continue
        pattern, shape, index = match[1], json.loads(f"[{match[2]}]"), match[3]
        for number in index.split(","):
            parts = iter(number.split("."))
            name = re.sub(r"\*", lambda _: next(parts, number), pattern)  # noqa: B023
            if name in state:
                assert state[name] == shape, name
                listed.add(name)
    assert {name for name in state if "i2v" in name} <= listed
    assert len(listed) > 800


def test_any_views_frames_and_sides_and_independent_objects():
    unet = small_unet().eval()
    with torch.no_grad():
        for size in ({"V": 1, "T": 2, "h": 8, "w": 8}, {"V": 4, "T": 3, "h": 5, "w": 9}, {"V": 2, "T": 7}):
            inputs = unet_inputs(**size)
            assert unet(**inputs).shape == inputs["sample"].shape
        both = unet_inputs(B=2)
        out = unet(**both)
        for b in range(2):
            alone = unet(**{name: value[b : b + 1] for name, value in both.items()})
            torch.testing.assert_close(out[b], alone[0], rtol=0, atol=2e-5)


@torch.no_grad()
def test_views_and_frames_talk_but_only_through_the_given_layout():
    unet = small_unet().eval()
    torch.nn.init.normal_(unet.conv_out.weight)
    inputs = unet_inputs()
    base = unet(**inputs)
    changed = {**inputs, "sample": inputs["sample"].clone()}
    changed["sample"][0, 2, 3] += 1
    difference = (unet(**changed) - base).abs().amax(dim=(0, 3, 4, 5))
    assert bool((difference > 1e-6).all())
    order = torch.tensor([2, 0, 1])  # no view is special: permuting views permutes the answer
    moved = {
        n: v[:, order] if n in ("sample", "image_embeds", "cameras", "cond_concat") else v for n, v in inputs.items()
    }
    torch.testing.assert_close(unet(**moved), base[:, order], rtol=0, atol=2e-5)


@torch.no_grad()
def test_adapter_starts_as_the_identity_and_reads_frame_0():
    unet: Any = small_unet().eval()
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    assert torch.equal(attention.processor.to_q_i2v.weight, attention.to_q.weight)
    base = unet(**unet_inputs())
    attention.processor.to_q_i2v.weight.normal_()
    torch.testing.assert_close(unet(**unet_inputs()), base)
    attention.processor.to_out_i2v.weight.normal_()
    assert (unet(**unet_inputs()) - base).abs().max() > 1e-4


@torch.no_grad()
def test_time_zero_option_changes_only_how_frame_0_is_embedded():
    unet = small_unet().eval()
    inputs = unet_inputs()
    plain = unet(**inputs)
    unet.register_to_config(i2v_cond_time_zero=True)
    assert (unet(**inputs) - plain).abs().max() > 1e-5
    zero = {**inputs, "timestep": torch.tensor([0])}
    with_option = unet(**zero)
    unet.register_to_config(i2v_cond_time_zero=False)
    torch.testing.assert_close(unet(**zero), with_option)


def test_per_row_times_and_text_equal_their_shared_form():
    unet = small_unet().eval()
    inputs = unet_inputs(B=2)
    with torch.no_grad():
        rows = {**inputs, "timestep": inputs["timestep"][:, None].expand(2, 3)}
        rows["text"] = inputs["text"][:, None].expand(2, 3, 7, 12)
        rows["cond_concat"] = inputs["cond_concat"][:, :, None].expand(2, 3, 5, 3, 6, 8)
        torch.testing.assert_close(unet(**rows), unet(**inputs), rtol=0, atol=1e-5)


def test_checkpointing_gives_the_same_gradients():
    unet, inputs = small_unet(), unet_inputs(B=2)
    inputs["cond_concat"].requires_grad_()

    def gradients():
        unet.zero_grad()
        unet(**inputs).square().mean().backward()
        return {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}

    plain = gradients()
    unet.enable_gradient_checkpointing()
    again = gradients()
    assert plain.keys() == again.keys() and len(plain) == len(list(unet.parameters()))
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-7, msg=name)


def test_feature_tap_reads_any_module():
    unet, inputs = small_unet().eval(), unet_inputs(B=2, h=8)
    with torch.no_grad(), FeatureTap(unet, ["up_blocks.1.motion_modules.1", "up_blocks.1"]) as tap:
        unet(**inputs)
        maps = tap.maps()
    assert maps["up_blocks.1.motion_modules.1"].shape == (2, 3, 5, 16, 8, 8)
    assert maps["up_blocks.1"].shape == (2, 3, 5, 16, 8, 8)
    with pytest.raises(InputError, match=r"no module 'up_blocks\.9'"):
        FeatureTap(unet, ["up_blocks.9"])


def test_files_are_strict(tmp_path):
    unet = small_unet().eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    unet.save_pretrained(tmp_path, dtype=torch.float32, max_shard_bytes=100_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    back = MultiViewMotionUNet.from_pretrained(tmp_path)
    assert dict(back.config)["strides"] == [1, 1, 2] and "down_block_types" not in back.config
    with torch.no_grad():
        assert torch.equal(back(**unet_inputs()), unet(**unet_inputs()))

    unet.save_pretrained(tmp_path)  # float16, one file
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    dropped = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_i2v.weight"
    save_file({name: value for name, value in state.items() if name != dropped}, file)
    with pytest.raises(InputError, match=r"lack 1 tensors .*to_q_i2v"):
        MultiViewMotionUNet.from_pretrained(tmp_path)
    save_file({**state, "stray": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="also hold 1 tensors"):
        MultiViewMotionUNet.from_pretrained(tmp_path)
    save_file({**state, dropped: torch.zeros(2, 2)}, file)
    with pytest.raises(InputError, match="other shapes"):
        MultiViewMotionUNet.from_pretrained(tmp_path)
    file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a readable"):
        MultiViewMotionUNet.from_pretrained(tmp_path)
    file.unlink()
    with pytest.raises(InputError, match="missing"):
        MultiViewMotionUNet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name, shape", [("cameras", (1, 3, 9)), ("cond_concat", (1, 3, 2, 6, 8)), ("sample", (1, 3, 5, 9, 6, 8))]
)
def test_wrong_inputs_are_named(name, shape):
    with pytest.raises(InputError, match=name):
        small_unet()(**{**unet_inputs(), name: torch.zeros(shape)})


def test_too_long_clips_and_wrong_levels_are_refused():
    with pytest.raises(InputError, match="limit is 4"):
        small_unet(motion_max_seq_length=4)(**unet_inputs())
    with pytest.raises(InputError, match="multiple of its level's heads"):
        small_unet(num_attention_heads=3)
    with pytest.raises(InputError, match="3 strides"):
        small_unet(strides=(2, 2))


def test_zero_initialised_output_and_a_clip_is_learned():
    torch.manual_seed(0)
    unet = small_unet(
        block_out_channels=(24, 24),
        strides=(2,),
        kv_pool=(1, 1),
        num_attention_heads=2,
        motion_num_attention_heads=2,
        cond_concat_channels=4,
        zero_init_output=True,
    )
    inputs = unet_inputs(B=2, V=2, T=3, h=4, w=6)
    first = torch.randn(1, 2, 1, 4, 4, 6).expand(2, -1, -1, -1, -1, -1)
    clean = torch.cat([first, -first, first.flip(-1)], dim=2)
    inputs["cond_concat"] = first[:, :, 0]
    with torch.no_grad():
        assert float(unet(**inputs).abs().max()) == 0
    optimiser = torch.optim.AdamW(unet.parameters(), lr=5e-3)
    alphas, losses = linear_alphas_cumprod(), []
    generator = torch.Generator().manual_seed(1)
    for _ in range(90):
        t = torch.randint(0, 500, (2,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        inputs |= {"sample": noisy_clip(clean, noise, t, alphas), "timestep": t}
        loss = diffusion_loss(unet(**inputs), clean, noise, t, alphas, "sample")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < losses[0] / 10, losses[::10]
