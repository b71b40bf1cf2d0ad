"""Compares our glTF posing with reference vertices.

    python -m eval.golden GOLDEN_JSON FOLDER

Prints one line a file and last the largest error over the diagonal of the reference's own bounds.
"""

import json
import sys
from pathlib import Path

import numpy as np

from t4d.geometry.object3d import load_object


def compare(vertices: np.ndarray, record: dict) -> float:
    """Largest deviation of one pose over its diagonal.

    Args:
        vertices: [Nv, 3] ours, file space.
        record: n, min, max, mean of the reference vertices, and xyz [k][3] of the vertices idx [k].

    Returns:
        The error; infinite where the vertex count differs.
    """
    if len(vertices) != record["n"]:
        return float("inf")
    v = vertices.astype(np.float64)
    low, high = np.asarray(record["min"]), np.asarray(record["max"])
    differences = [
        np.abs(v.min(0) - low).max(),
        np.abs(v.max(0) - high).max(),
        np.abs(v.mean(0) - np.asarray(record["mean"])).max(),
        np.linalg.norm(v[record["idx"]] - np.asarray(record["xyz"]), axis=1).max(),
    ]
    return float(max(differences) / np.linalg.norm(high - low))


def clip_number(key: str) -> int:
    """Index of a golden clip, whose key is "index:name"."""
    return int(key.split(":", 1)[0])


def file_error(path: Path, clips: dict[str, list[dict]]) -> tuple[float, str, int]:
    """Largest error of one file, the pose it occurs in, and the number of poses compared."""
    obj = load_object(path)
    worst, where, count = 0.0, "-", 0
    for key, records in clips.items():
        for record in records:
            error = compare(obj.pose(clip_number(key), record["t"]), record)
            count += 1
            if error >= worst:
                worst, where = error, f"{key} t={record['t']}"
    return worst, where, count


def main(golden: str, folder: str) -> float:
    """Prints the table and returns the largest error."""
    clips = json.loads(Path(golden).read_text())["clips"]
    worst = 0.0
    for name, records in clips.items():
        error, where, count = file_error(Path(folder) / name, records)
        print(f"{name:50s} {count:3d} poses  worst {error:.2e}  {where}")
        worst = max(worst, error)
    print(f"{worst:.3e}")
    return worst


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(0 if main(sys.argv[1], sys.argv[2]) <= 1e-4 else 1)
