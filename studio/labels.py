"""What each preset's weights really are, in words; read from the files, never assumed."""

import json

from t4d.paths import ASSETS


def preset_note(preset: str) -> str:
    """One or two sentences about a preset's weights and the machine it needs."""
    if preset == "mini":
        index = ASSETS / "weights" / "mini" / "model_index.json"
        if not index.is_file():
            return "**mini** · the weights are absent from `assets/weights/mini`; a job ends by saying so."
        label = json.loads(index.read_text()).get("label", "")
        return f"**mini** · {label.rstrip('.') or 'small network'}. Runs on two CPU cores, without a download."
    if preset == "paper":
        return (
            "**paper** · Stable Diffusion 1.5 widths with Animate3D's public weights, trained *without* the "
            "tracking losses. Needs a GPU; several GB are downloaded from the Hub on first use."
        )
    return f"**{preset}** · a preset of your own."
