"""A small packed rig for tests."""

import dataclasses

import numpy as np
import pytest

from t4d.data.procedural import generate
from t4d.data.rigpack import FPS, PackedClip, PackedRig


@pytest.fixture(scope="session")
def dog_pack() -> PackedRig:
    """A procedural dog with one running clip of 12 frames."""
    rng = np.random.default_rng(3)
    body = generate(rng, "quadruped", "dog", detail=0.6)
    matrices = body.matrices(body.verbs["run"](rng), np.arange(12) / 12)
    count = len(body.rig.vertices)
    rig = dataclasses.replace(
        body.rig,
        smoothing=np.arange(count, dtype=np.int32),
        rest=np.repeat(np.eye(3, 4, dtype=np.float32)[None], matrices.shape[1], 0),
    )
    return PackedRig(rig, [PackedClip("Gallop", 11 / FPS, matrices.astype(np.float16))], "a/dog.glb", "s1", ["a note"])
