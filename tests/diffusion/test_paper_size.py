"""The paper-size training step without numbers: what trains, shapes of the taps, memory with and without
checkpointing; and that the shipped configuration is the supplement's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eval.bench.live_bytes import LiveBytes
from eval.bench.stage1_paper import RESULTS, count_bytes, count_operations, one_clip, paper_config, paper_model, trained
from t4d.diffusion.checkpoints import is_delta
from t4d.diffusion.features import resolve_layer
from t4d.paths import REPO
from train.objective import Objective


@pytest.fixture(scope="module")
def committed() -> dict:
    return json.loads((RESULTS / "bench_stage1_paper.json").read_text())


def test_the_configuration_is_the_supplements():
    config = paper_config("optim.steps=null", "optim.epochs=20")
    o, t, d = config.optim, config.tracking, config.data
    assert (o.lr, o.weight_decay, o.schedule, o.epochs, o.batch * o.accumulate * 16) == (
        1e-6,
        0.01,
        "constant_with_warmup",
        20,
        16,
    )
    assert (t.lambda_diff, t.lambda_corr, t.lambda_pos, t.points, t.layer) == (
        1.0,
        0.1,
        10.0,
        8,
        "up_blocks.1.motion_modules.-1",
    )
    assert (d.side, d.views, d.frames, d.grid) == (256, 4, 16, 15)
    assert config.weights == "public" and config.first_frame_noise and config.prediction == "epsilon"
    assert t.masked and t.corruption.share == 0 and o.gradient_checkpointing


def test_what_trains_is_the_delta():
    config = paper_config()
    objective = Objective(paper_model("meta"), config)
    assert trained(objective) == {"tensors": 846, "millions": 642.7}
    assert all(name.startswith("unet.") and is_delta(name) for name in objective.trained)
    frozen = [name for name, p in objective.named_parameters() if not p.requires_grad]
    attention = [name for name in frozen if ".attn1.to_" in name and "motion_modules" not in name]
    assert len(attention) == 16 * 5  # multi-view attention: q, k, v, and out with its bias
    assert resolve_layer(objective.unet, config.tracking.layer) == "up_blocks.1.motion_modules.2"
    drawn = one_clip(config)
    assert drawn.points is not None and drawn.points.xy.shape == (1, 4, 16, 8, 2) and bool(drawn.points.chosen.all())


def test_the_committed_counts_add_up(committed):
    """Against what can be worked out by hand."""
    plain, checkpointed = committed["plain"], committed["checkpointed"]
    for row in (plain, checkpointed):
        assert row["trained"] == {"tensors": 846, "millions": 642.7}
        assert row["gradients_gib"] == pytest.approx(642.7e6 * 4 / 2**30, rel=1e-3)
        assert row["optimiser_gib"] == pytest.approx(2 * 642.7e6 * 4 / 2**30, rel=1e-3)
        networks = row["networks_gib"]
        assert sum(networks[f"denoiser, {kind}"] for kind in ("frozen", "trained")) == pytest.approx(
            1526.2e6 * 4 / 2**30, rel=1e-3
        )
        assert row["shapes"]["up_blocks.1.motion_modules.2"] == [64, 1280, 8, 8]
        assert row["shapes"]["up_blocks.1"] == [64, 1280, 16, 16]
        assert row["shapes"]["down_blocks.0.motion_modules.1"] == [64, 320, 32, 32]
        assert row["shapes"]["mid_block"] == [64, 1280, 4, 4] and row["shapes"]["conv_out"] == [64, 4, 32, 32]
    assert checkpointed["activations_gib"] < 0.1 * plain["activations_gib"]
    # a second forward pass of nearly everything, and no more
    again = checkpointed["tflop"]["backward"] - plain["tflop"]["backward"]
    assert 0.7 * plain["tflop"]["forward"] < again < plain["tflop"]["forward"]


@pytest.mark.slow
def test_counting_again_gives_the_committed_counts(committed):
    config = paper_config("optim.gradient_checkpointing=true")
    found, wanted = count_bytes(config), committed["checkpointed"]
    assert found["shapes"] == wanted["shapes"] and found["trained"] == wanted["trained"]
    for name in ("activations_gib", "gradients_gib", "optimiser_gib", "peak_gib", "later_peak_gib"):
        assert found[name] == pytest.approx(wanted[name], rel=0.02), name
    operations = count_operations(config)
    assert operations == pytest.approx(wanted["tflop"], rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_step_of_the_papers_size(tmp_path):
    command = [sys.executable, "-m", "eval.bench.stage1_paper", "--device", "cuda", "--steps", "1"]
    subprocess.run([*command, "--out", str(tmp_path / "out.json")], check=True, cwd=REPO)
    row = json.loads((tmp_path / "out.json").read_text())["checkpointed"]
    assert row["trained"]["tensors"] == 846


def test_a_real_step_without_a_gpu_is_refused_in_a_sentence(monkeypatch, tmp_path):
    from eval.bench import stage1_paper

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["stage1_paper", "--device", "cuda", "--out", str(tmp_path / "no.json")])
    with pytest.raises(SystemExit, match="needs a CUDA device and none was found"):
        stage1_paper.main()
    assert not Path(tmp_path / "no.json").exists()


def test_live_bytes_of_a_sum_worked_out_by_hand():
    x = torch.zeros(1000, requires_grad=True)  # 4000 bytes
    with LiveBytes() as live:
        live.add([x, x.view(10, 100)])
        assert live.now == 4000
        y = x.exp()  # 4000, kept by its own backward pass
        z = y[:10]  # a view: nothing
        w = y * 2
        assert live.now == 12000 and z is not None
        del w
        assert live.now == 8000 and live.peak == 12000
        live.restart()
        y.sum().backward()
        assert x.grad is not None
        del y, z
    assert live.now == 8000  # x and its gradient
    assert live.peak >= 12000
