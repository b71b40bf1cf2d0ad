"""Compare the network with an outside reference: ``python -m eval.parity PREFIX``.

``PREFIX.json`` declares a network (config, every parameter's name and shape, the rule that makes each tensor from its
name); ``PREFIX_io.safetensors`` holds what the original implementation returned for it. Every name and shape is
checked, then output, output with i2v_cond_time_zero and every captured inner tensor. The last line is the largest
absolute error; the exit status is 1 above 1e-4.

Our side is computed in float64 on the very float32 weights and inputs, so that what is left is the reference's own
float32 rounding; ``--float32`` computes as the product does.
"""

import argparse
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from t4d.diffusion.features import FeatureTap
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_strictly
from t4d.errors import InputError

TOLERANCE = 1e-4
TRANSLATED = {"num_frames", "num_views"}  # counts of the fixture's clip, which our network takes from its input


def seeded_value(key: str, shape: list[int], seed: int) -> Tensor:
    """The tensor that the fixture's rule gives to a name."""
    generator = np.random.default_rng([seed, zlib.crc32(key.encode())])
    value = generator.standard_normal(shape).astype(np.float32)
    if key.startswith("in.") or key.endswith("mix_factor"):
        return torch.from_numpy(value)
    if len(shape) >= 2:
        value = value / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        value = 1 + 0.1 * value
    else:
        value = 0.1 * value
    return torch.from_numpy(value.astype(np.float32))


def build(spec: dict) -> MultiViewMotionUNet:
    """The declared network with the rule's weights; fails if any name or shape differs."""
    config = {name: value for name, value in spec["config"].items() if name not in TRANSLATED}
    channels = spec["inputs"]["in.sample"][1]
    levels = len(config["block_out_channels"])
    config = {
        "in_channels": channels,
        "out_channels": spec["shapes"]["conv_out.bias"][0],
        "strides": [2] * (levels - 1),
        "kv_pool": [1] * levels,
        "first_up_motion_groups": 32,  # of the original implementation, whatever norm_num_groups is
        **config,
    }
    known = set(MultiViewMotionUNet._get_signature_keys(MultiViewMotionUNet)[1])
    if unknown := sorted(config.keys() - known):
        raise InputError(f"The fixture's config has fields {unknown} that the network does not declare.")
    network = MultiViewMotionUNet(**config).eval()
    state = {name: seeded_value(name, shape, spec["seed"]) for name, shape in spec["shapes"].items()}
    computed = {name: value for name, value in network.state_dict().items() if name.endswith(".pe")}
    load_strictly(network, {**computed, **state}, "the fixture")
    return network


@torch.no_grad()
def compare(prefix: str, dtype: torch.dtype = torch.float64) -> dict[str, float]:
    """Largest absolute error of the output, the cond-time-zero output and every capture.

    Args:
        prefix: Path without ``.json`` and ``_io.safetensors``.
        dtype: Type our side computes in.

    Returns:
        Error by name; infinite where shapes differ or a value is not finite.
    """
    spec = json.loads(Path(prefix + ".json").read_text())
    expected = load_file(prefix + "_io.safetensors")
    network = build(spec)
    torch.nn.Module.to(network, dtype)  # ModelMixin's own warns about layers it wants in float32
    frames, views = spec["inputs"]["in.sample"][2], spec["config"]["num_views"]
    inputs = {name: seeded_value(name, shape, spec["seed"]).to(dtype) for name, shape in spec["inputs"].items()}
    grouped = {name: value.unflatten(0, (-1, views)) for name, value in inputs.items()}
    assert grouped["in.sample"].shape[3] == frames
    names = [name.removeprefix("captures.") for name in expected if name.startswith("captures.")]

    def run() -> Tensor:
        prediction = network(
            grouped["in.sample"].transpose(2, 3),
            torch.as_tensor(spec["timestep"]).expand(len(inputs["in.sample"])).unflatten(0, (-1, views)),
            text=grouped["in.text"],
            image_embeds=grouped.get("in.image"),
            cameras=grouped["in.camera"],
        )
        return prediction.transpose(2, 3).flatten(0, 1)

    with FeatureTap(network, names) as tap:
        errors = {"output": error(run(), expected["output"])}
        captures = dict(tap.raw)
    for name in names:
        found = captures[name]
        if "motion_modules" in name and found.ndim == 3:  # ours "(b v) (t l) c", the original's "(b v l) t c"
            found = found.unflatten(1, (frames, -1)).transpose(1, 2).flatten(0, 1)
        errors["captures." + name] = error(found, expected["captures." + name])
    if "output_i2v_cond_time_zero" in expected:
        network.register_to_config(i2v_cond_time_zero=True)
        errors["output_i2v_cond_time_zero"] = error(run(), expected["output_i2v_cond_time_zero"])
    if unread := sorted(expected.keys() - errors.keys()):
        raise InputError(f"The fixture holds tensors {unread} that are neither output nor captures.")
    return errors


def error(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference, infinite where it cannot be taken."""
    if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    return float((found - wanted).abs().max())


def main() -> int:
    """Print one line per tensor and the largest error last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prefix", help="fixture path without .json and _io.safetensors")
    parser.add_argument("--float32", action="store_true", help="compute our side in float32")
    arguments = parser.parse_args()
    errors = compare(arguments.prefix, torch.float32 if arguments.float32 else torch.float64)
    for name, value in errors.items():
        print(f"{name:45s} {value:.3e}")
    largest = max(errors.values())
    print(f"{largest:.3e}")
    return int(not largest <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
