"""The configuration schema: presets, variants, overrides, and the sentences of its errors."""

import subprocess
import sys

import pytest

from t4d.config import Config, preset_names, variant_descriptions, variant_names
from t4d.errors import InputError


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("variant", variant_names())
def test_every_preset_and_variant_validates_and_round_trips(preset, variant):
    config = Config.load(preset, variant=variant)
    assert (config.preset, config.variant) == (preset, variant)
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_override_changes_one_value_only():
    base, changed = Config.load("mini"), Config.load("mini", ["stage1.steps=7"])
    assert changed.stage1.steps == 7
    assert changed.model_copy(update={"stage1": base.stage1}) == base


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["stage1.steps=0"], "stage1.steps"),
        (["stage1.stepz=3"], "stage1.stepz"),
        (["stage2.lr_heads=.nan"], "stage2.lr_heads"),
        (["seed"], "no '='"),
        (["geometry.azimuths=[0, 90"], r"azimuths=\[0, 90' is not valid YAML"),
    ],
)
def test_bad_override_is_named(overrides, names):
    with pytest.raises(InputError, match=names):
        Config.load("mini", overrides)


def test_a_broken_preset_file_is_named_in_one_sentence(tmp_path):
    (tmp_path / "mine.yaml").write_text("stage1: [3")
    with pytest.raises(InputError, match=r"mine\.yaml is not valid YAML") as caught:
        Config.load(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps"])
def test_a_device_that_is_not_there_is_refused(device):
    from t4d.steps import device_of

    assert device_of(Config.load("mini", ["device=cpu"])).type == "cpu"
    with pytest.raises(InputError, match=f"'{device}' was asked for and this machine has"):
        device_of(Config.load("mini", [f"device={device}"]))


def test_unknown_preset_and_variant_list_what_exists():
    with pytest.raises(InputError, match="mini"):
        Config.load("maxi")
    with pytest.raises(InputError, match="full"):
        Config.load("mini", variant="fast")


def test_schema_is_importable_without_torch():
    code = "import sys, t4d.config, t4d.stages; assert 'torch' not in sys.modules and 'gradio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_setting_is_described():
    for section in Config.model_fields.values():
        fields = getattr(section.annotation, "model_fields", {"": section})
        assert all(field.description for field in fields.values())


def test_nested_overrides_and_bounds():
    changed = Config.load("mini", ["stage2.guidance.scale=3", "stage2.field.planes=[{space: 20, time: 4}]"])
    assert changed.stage2.guidance.scale == 3 and changed.stage2.field.planes[0].time == 4
    with pytest.raises(InputError, match=r"stage2\.features\.width"):
        Config.load("mini", ["stage2.features.width=0"])
    assert set(variant_descriptions()) == set(variant_names()) and all(variant_descriptions().values())
