"""A small rig pack folder for the tests of the mini gates."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from t4d.data.procedural import generate
from t4d.data.rigpack import FPS, PackedClip, PackedRig, save_pack

CLIPS = {"run": "Gallop", "walk": "Walk", "idle": "Idle"}


def make_rigs(folder: Path) -> Path:
    """Two procedural dogs that run, walk and stand still, as packs: "wolf" is near, "dog" far. Returns the folder."""
    folder.mkdir(parents=True)
    index = {"split": {"train": [], "near": ["a/wolf.glb"], "far": ["a/dog.glb"]}, "rigs": []}
    for seed, name in ((3, "dog"), (4, "wolf")):
        rng = np.random.default_rng(seed)
        body = generate(rng, "quadruped", "dog", detail=0.6)
        clips = []
        for verb in CLIPS:
            matrices = body.matrices(body.verbs[verb](rng), np.arange(12) / 12)
            clips.append(PackedClip(CLIPS[verb], 11 / FPS, matrices.astype(np.float16)))
        rest = np.repeat(np.eye(3, 4, dtype=np.float32)[None], clips[0].matrices.shape[1], 0)
        smoothing = np.arange(len(body.rig.vertices), dtype=np.int32)
        rig = dataclasses.replace(body.rig, noun=name, smoothing=smoothing, rest=rest)
        save_pack(PackedRig(rig, clips, f"a/{name}.glb", name, []), folder / f"{name}.npz")
        file = {"file": f"{name}.npz", "source": f"a/{name}.glb", "joint_set": name, "clips": list(CLIPS.values())}
        index["rigs"].append(file)
    (folder / "index.json").write_text(json.dumps(index))
    return folder
