"""Parts of the slot's program: growing batches, batched draws, what comes back, wheels."""

import json
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from t4d.data.cache import save_item
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import add_noise
from t4d.errors import InputError
from t4d.paths import ASSETS, REPO
from train import slot_bench
from train.config import Curriculum, DataConfig, StageOneTrainConfig, load_config
from train.draws import Drawn, clean_latents
from train.networks import build
from train.runs import batches
from train.slot_back import MOST_BYTES, pack_model, send
from train.slot_batch import GrowingBatch
from train.slot_bench import run
from train.slot_call import Results
from train.slot_clips import Shown, SlotClips, views_of
from train.slot_config import SlotConfig
from train.slot_draw import noised, times
from train.slot_log import cut_back, read_until
from train.slot_memory import PeakMemory
from train.slot_wheels import needs, pins
from train.sources import clips as clips_of_config
from train.sources import rendered_or_stored

SLOT = REPO / "train" / "configs" / "slot.yaml"


def grown(rate, room=lambda size: True, **options) -> GrowingBatch:
    """A batch on a machine that makes `rate(size)` clips a second."""
    batch = GrowingBatch(8, 256, trial=2, warm=1, **options)
    for _ in range(200):
        batch.stepped(batch.size / rate(batch.size), room(batch.size))
    assert batch.settled
    return batch


def test_a_batch_grows_while_it_pays():
    # a step costs 0.1 s and 1 ms a clip: 16/0.116 to 32/0.132 is a gain of 1.76, 512 would be of 1.14 but is too many
    assert grown(lambda n: n / (0.1 + 0.001 * n)).size == 256
    # of 1.5 and more: 8 to 16 gains 1.86, ..., 64 to 128 gains 1.44: 64 is kept
    found = grown(lambda n: n / (0.1 + 0.001 * n), factor=1.5)
    assert found.size == 64 and list(found.rates) == [8, 16, 32, 64, 128]
    assert found.rates[64] == pytest.approx(64 / 0.164)
    assert grown(lambda n: 100.0).size == 8
    assert grown(lambda n: n, room=lambda size: size < 32).size == 32


def test_warm_steps_do_not_count_and_full_memory_halves():
    batch = GrowingBatch(4, 64, trial=2, warm=1)
    for seconds in (60.0, 1.0, 1.0):
        batch.stepped(seconds, True)
    assert batch.rates == {4: 4.0} and batch.size == 8
    assert batch.too_large(4) and batch.size == 4 and batch.settled
    assert not batch.too_large(4)


def test_views_are_chosen_and_turned_as_training_does():
    g = torch.Generator().manual_seed(0)
    cameras, pictures = views_of(2, 4, 4000, 0.25, g)
    assert cameras.shape == (4000, 2) and bool((cameras[:, 0] < cameras[:, 1]).all())
    counts = torch.bincount(cameras.flatten(), minlength=4) / 4000
    torch.testing.assert_close(counts, torch.full((4,), 0.5), atol=0.05, rtol=0)
    turn = (cameras - pictures) % 4
    assert bool((turn[:, 0] == turn[:, 1]).all())  # all pictures of an object move together
    share = torch.bincount(turn[:, 0], minlength=4) / 4000
    torch.testing.assert_close(share, torch.tensor([0.75, 1 / 12, 1 / 12, 1 / 12]), atol=0.03, rtol=0)
    assert torch.equal(*views_of(4, 4, 3, 0.0, g))


def test_times_are_even_but_for_the_noisiest_sixth():
    g = torch.Generator().manual_seed(1)
    even, more = times(20000, 0.0, 1000, g), times(20000, 0.5, 1000, g)
    assert even.min() < 5 and even.max() == 999
    assert float((even >= 834).float().mean()) == pytest.approx(1 / 6, abs=0.01)
    assert float((more >= 834).float().mean()) == pytest.approx(0.5 + 0.5 / 6, abs=0.01)


@pytest.fixture(scope="module")
def config() -> SlotConfig:
    overrides = ["data.views=3", "data.frames=4", "slot.chunk=2", "slot.batch=2", "slot.most=4", "slot.workers=0"]
    return load_config(SlotConfig, SLOT, [*overrides, "shared_noise=0.7", "text_dropout=0.4"])


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return VideoModel.load("mini")


def test_both_renderers_give_the_same_batches(config):
    stage = Curriculum(until=1, views=2, frames=3, batch=1)
    cpu = config.model_copy(update={"data": config.data.model_copy(update={"renderer": "cpu"})})
    ours, theirs = (SlotClips(c, torch.device("cpu"), 2, 0, place=6).take(4, stage) for c in (config, cpu))
    assert ours.rgba.shape == (4, 2, 3, 4, 64, 64) and ours.captions == theirs.captions
    assert ((ours.rgba - theirs.rgba).abs() > 2e-3).float().mean() < 1e-4
    assert ((ours.flow - theirs.flow).abs() > 1e-4).float().mean() < 1e-4
    assert torch.equal(ours.cameras, theirs.cameras)


def test_stage_one_takes_the_same_clips_from_either_renderer():
    data = DataConfig(side=32, views=2, frames=3, grid=5)
    found = {}
    for renderer in ("cpu", "device"):
        clips, count = rendered_or_stored(data.model_copy(update={"renderer": renderer}), 3)
        assert count is None
        found[renderer] = next(batches(clips, iter([[4, 2]]), 0))
    ours, theirs = found["device"], found["cpu"]
    assert ours.keys() == theirs.keys() and ours["caption"] == theirs["caption"]
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert ours[name].dtype == value.dtype
            assert ((ours[name].float() - value.float()).abs() > 2e-3).float().mean() < 2e-3, name


def test_a_renderer_that_has_nothing_to_render_is_told(tmp_path: Path, model):
    with pytest.raises(InputError, match=r"data\.cache or data\.shards has them"):
        save_item(ClipDataset(None, procedural_fraction=1.0, side=16, views=1, frames=2)[0], tmp_path / "000000.npz")
        rendered_or_stored(DataConfig(side=16, views=1, frames=2, cache=tmp_path, renderer="device"), 0)
    smoke = load_config(StageOneTrainConfig, REPO / "train" / "configs" / "smoke.yaml", ["data.renderer=device"])
    with pytest.raises(InputError, match="renderer=cpu"):
        clips_of_config(smoke.model_copy(update={"latents": tmp_path}), model.autoencoder)


def test_noise_and_latents_of_a_batch_are_those_of_training(config, model):
    g = torch.Generator().manual_seed(2)
    rgba, flow = torch.rand(64, 1, 3, 4, 64, 64, generator=g), 0.1 * torch.randn(64, 1, 3, 2, 32, 32, generator=g)
    shown = Shown(rgba, flow, torch.zeros(64, 1, 16), [str(i) for i in range(64)])
    batch = noised(shown, model.autoencoder, model.alphas_cumprod, config, 11)
    drawn = Drawn(rgba, flow, None, shown.cameras, shown.captions, batch.t, None, [(0, 11, i) for i in range(64)])
    torch.testing.assert_close(batch.z, clean_latents(model.autoencoder, drawn, rgba))
    wanted = add_noise(batch.z[:, :, 1:], batch.noise[:, :, 1:], batch.t, model.alphas_cumprod)
    torch.testing.assert_close(batch.z_t[:, :, 1:], wanted)
    assert torch.equal(batch.z_t[:, :, 0], batch.z[:, :, 0])  # frame 0 stays clean
    a, b = (batch.noise[:, :, k].flatten() for k in (1, 2))
    assert float((a * b).mean()) == pytest.approx(0.7, abs=0.02) and float(a.square().mean()) == pytest.approx(
        1, abs=0.02
    )
    dropped = sum(caption == "" for caption in batch.captions)
    assert 12 < dropped < 40 and all(c in ("", str(i)) for i, c in enumerate(batch.captions))
    again, other = (noised(shown, model.autoencoder, model.alphas_cumprod, config, p) for p in (11, 75))
    assert torch.equal(again.z_t, batch.z_t) and again.captions == batch.captions
    assert not torch.equal(other.noise, batch.noise)


def test_settings_that_a_slot_cannot_use_are_told():
    for override, words in (
        ("tracking.lambda_corr=0.1", "L_diff alone"),
        ("fork=mini", "L_diff alone"),
        ("slot.batch=3", "multiples of slot.chunk"),
        ("optim.accumulate=2", "one micro-step"),
        ("slot.nonsense=1", "slot.nonsense"),
        ("slot.compile=true", "slot.compile"),  # took more minutes than a call has
        ("optim.gradient_checkpointing=true", "does not use optim.gradient_checkpointing .found True"),
        ("trackers=[tensorboard]", "does not use trackers"),
        ("save_steps=10", "does not use save_steps .found 10.: leave it out; set slot.sheet_seconds"),
        ("data.workers=4", "does not use data.workers .* set slot.workers"),
    ):
        with pytest.raises(InputError, match=words):
            load_config(SlotConfig, SLOT, [override])
    same = ["optim.gradient_checkpointing=false", "trackers=[]", "data.workers=1"]
    assert load_config(SlotConfig, SLOT, same) == load_config(SlotConfig, SLOT, [])
    mini = load_config(StageOneTrainConfig, REPO / "train" / "configs" / "mini.yaml", [])
    assert mini.data.renderer == "cpu"


def test_what_comes_back_is_few_whole_files(tmp_path: Path):
    model, back = tmp_path / "run" / "model", tmp_path / "back"
    for i in range(5):
        (model / "unet").mkdir(parents=True, exist_ok=True)
        save_file({"w": torch.randn(2_100_000)}, model / "unet" / f"part-{i}.safetensors")  # 8.4 MB each
    (model / "model_index.json").write_text("{}")
    for name in ("results.json", "log.jsonl", "config.yaml"):
        (tmp_path / "run" / name).write_text("{}")
    found = send(tmp_path / "run", back)
    assert len(found) == 7 and all(p.stat().st_size < 16 * 2**20 for p in found)
    send(tmp_path / "run", back)  # again: replaced, not added to
    assert len(list(back.iterdir())) == 7
    for part in back.glob("model-*.tar"):
        with tarfile.open(part) as archive:
            archive.extractall(tmp_path / "there", filter="data")
    names = sorted(p.relative_to(model) for p in model.rglob("*") if p.is_file())
    assert (tmp_path / "there" / "config.yaml").read_text() == "{}"  # a run folder needs it and nothing else brings it
    there = tmp_path / "there" / "model"
    assert names == sorted(p.relative_to(there) for p in there.rglob("*") if p.is_file())
    assert all((model / n).read_bytes() == (there / n).read_bytes() for n in names)
    with (model / "big.bin").open("wb") as stream:
        stream.truncate(MOST_BYTES)
    with pytest.raises(InputError, match=r"big.bin has 15\.5 MB"):
        pack_model(model, back)
    for i in range(3):
        (back / f"bench_{i}.json").write_text("{}")
    (model / "big.bin").unlink()
    with pytest.raises(InputError, match=r"10 files lie in .* at most 8 come back \(bench_0\.json, bench_1\.json"):
        send(tmp_path / "run", back)


def test_the_slots_own_network_and_its_measurements_come_back(tmp_path: Path, monkeypatch):
    out, back = tmp_path / "run", tmp_path / "back"
    build(load_config(SlotConfig, SLOT, [])).save(out / "model")
    results, own = Results(out), slot_bench.commands(out / "bench")
    for name in ("log.jsonl", "sheet.png", "config.yaml"):
        (out / name).write_text("{}")
    written = [command[command.index("--out") + 1] for command in own.values() if "--out" in command]
    assert written == [str(out / "bench" / f"{name}.json") for name in ("render", "paper_step", "paper_sampling")]

    def writes(file: str) -> list[str]:
        return [sys.executable, "-c", f"open({file!r}, 'w').write('{{\"seconds\": 3}}')"]

    (out / "bench").mkdir()
    (out / "bench" / "gsplat.json").write_text("{}")  # of an earlier call
    programs = {name: writes(file) for name, file in zip(own, written)} | {"gsplat": [sys.executable, "-c", "1/0"]}
    monkeypatch.setattr(slot_bench, "commands", lambda folder: programs)
    found = slot_bench.measure(torch.device("cuda"), out / "bench", time.monotonic() + 500)
    assert found.keys() == own.keys() and found["paper_step"]["report"] == {"seconds": 3}
    assert found["gsplat"]["status"] == 1 and "report" not in found["gsplat"]
    results.add(bench=found)
    names = [path.name for path in send(out, back)]
    assert len(names) <= 8 and len([name for name in names if name.startswith("model-")]) >= 3
    assert {"results.json", "log.jsonl", "sheet.png"} <= set(names)
    told = json.loads((back / "results.json").read_text())["calls"][0]["bench"]
    assert [part.get("report") for part in told.values()] == [{"seconds": 3}] * 3 + [None]


def test_the_shipped_mini_comes_back_as_it_is(tmp_path: Path):
    pack_model(ASSETS / "weights" / "mini", tmp_path)
    for part in tmp_path.glob("*.tar"):
        with tarfile.open(part) as archive:
            archive.extractall(tmp_path, filter="data")
    assert VideoModel.load(tmp_path / "mini").sha256 == VideoModel.load("mini").sha256


def test_measurements_end_in_time_and_keep_their_words():
    slow = run([sys.executable, "-u", "-c", "import time; print('began', flush=True); time.sleep(60)"], 2)
    assert slow["status"] is None and "began" in slow["output"]
    assert run([sys.executable, "-c", "raise SystemExit('no: 3')"], 30) == {"status": 1, "output": "no: 3\n"}


def test_wheels_follow_pins_and_needs(tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("# words\ntorch==2.1\nA_b.c==1.0 # why\nloose>=3\n")
    assert pins(tmp_path / "requirements.txt") == {"torch": "2.1", "a-b-c": "1.0"}
    assert {"diffusers", "pydantic", "gsplat"} <= pins(REPO / "requirements.txt").keys()
    wheel = tmp_path / "x-1-py3-none-any.whl"
    lines = ["Name: x", "Requires-Dist: a>=2", 'Requires-Dist: b; python_version < "3.12"']
    lines += ['Requires-Dist: c; extra == "dev"', 'Requires-Dist: d; sys_platform == "linux"']
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", "\n".join(lines) + "\n\n")
    assert [str(r.name) for r in needs(wheel, "3.12")] == ["a", "d"]
    assert [str(r.name) for r in needs(wheel, "3.11")] == ["a", "b", "d"]


def test_a_killed_calls_lines_are_cut_back(tmp_path: Path, capsys):
    log = tmp_path / "log.jsonl"
    rows = [{"event": "start", "step": 0}, {"step": 5}, {"evaluation": {"step": 5}}, {"step": 9}]
    rows += [{"evaluation": {"step": 9}}, {"failed": "evaluation", "step": 9}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    log.write_text(text + '{"step": 5, "se')
    assert read_until(log, 8) == rows[:3] and "half written" in capsys.readouterr().out
    cut_back(log, 8)
    assert [json.loads(line) for line in log.read_text().splitlines()] == rows[:3]
    log.write_text(text.rstrip("\n"))  # the last line is whole but for its end
    cut_back(log, 9)
    assert log.read_text() == text
    cut_back(tmp_path / "none.jsonl", 8)
    assert read_until(tmp_path / "none.jsonl", 8) == [] and not (tmp_path / "none.jsonl").exists()


def test_room_is_of_the_present_steps_and_the_peak_of_all(monkeypatch):
    peak = [0]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.__setitem__(0, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    memory = PeakMemory(torch.device("cuda"))
    peak[0] = 40  # evaluation
    assert not memory.room(0.6) and memory.overall == 40
    memory.begin()
    peak[0] = 20  # a step
    assert memory.room(0.6) and memory.overall == 40
    memory.begin()
    peak[0] = 50
    assert memory.overall == 50 and not memory.room(1.0)  # twice as much is all there is
    cpu = PeakMemory(torch.device("cpu"))
    cpu.begin()
    assert cpu.room(0.1) and cpu.overall == 0 and peak == [50]
