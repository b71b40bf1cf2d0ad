"""Form fields made from the configuration schema, so that bounds and descriptions exist once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import annotated_types
import gradio as gr

from t4d.config import Config, variant_descriptions
from t4d.errors import InputError


@dataclass(frozen=True)
class Setting:
    """A field of `Config` shown in the settings.

    Attributes:
        key: ``section.field``.
        label: short name on the page.
    """

    key: str
    label: str


SHOWN = (
    Setting("stage1.steps", "Denoising steps"),
    Setting("stage1.guidance", "Text guidance"),
    Setting("splat.count", "Gaussians"),
    Setting("stage2.iterations", "Fit iterations"),
)


def bounds(key: str) -> dict[str, Any]:
    """``minimum``, ``maximum``, ``integer`` and ``description`` of a ``section.field``."""
    section, name = key.split(".")
    field = type(Config.model_fields[section].default).model_fields[name]
    found: dict[str, Any] = {"minimum": None, "maximum": None}
    for part in field.metadata:
        if isinstance(part, annotated_types.Ge):
            found["minimum"] = part.ge
        elif isinstance(part, annotated_types.Gt):
            found["minimum"] = part.gt
        elif isinstance(part, annotated_types.Le):
            found["maximum"] = part.le
    return {**found, "integer": field.annotation is int, "description": field.description}


def values(preset: str) -> list[float]:
    """The shown settings' values in a preset."""
    config = Config.load(preset, [])
    return [getattr(getattr(config, section), name) for section, name in (s.key.split(".") for s in SHOWN)]


def fields(preset: str) -> list[gr.Number]:
    """One number field per shown setting, at the preset's value."""
    made = []
    for setting, value in zip(SHOWN, values(preset)):
        b = bounds(setting.key)
        # No minimum/maximum on the component: its own refusal does not name the field. `overrides` does.
        info = f"{b['description']} {_number(b['minimum'])} to {_number(b['maximum'])}."
        made.append(
            gr.Number(value, label=setting.label, info=info, precision=0 if b["integer"] else None, min_width=130)
        )
    return made


def variant_field() -> gr.Dropdown:
    """Which parts of the method are used: a named patch of ``t4d/variants.yaml``."""
    found = variant_descriptions()
    choices = [(f"{name}: {' '.join(text.split())}", name) for name, text in found.items()]
    return gr.Dropdown(
        choices, value="full", label="Variant", elem_id="variant", info="Parts of the method to leave out."
    )


def overrides(given: Sequence[float | None]) -> list[str]:
    """``key=value`` strings for `Config.load`, which judges the bounds.

    Raises:
        InputError: a field is empty.
    """
    made = []
    for setting, value in zip(SHOWN, given):
        if value is None:
            raise InputError(f"'{setting.label}' is empty; enter a number or choose the preset again.")
        made.append(f"{setting.key}={int(value) if bounds(setting.key)['integer'] else value}")
    return made


def _number(value: float | None) -> str:
    return "any" if value is None else f"{value:,g}" if value < 1e5 else f"{value:,.0f}"
