"""Puts a trained mini together: ``python -m train.ship STAGE1_RUN AUTOENCODER_RUN [--out assets/weights/mini]``.

Writes the averaged networks, the logs of both runs and the configuration they were made with.
"""

import argparse
import json
import shutil
from pathlib import Path

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.weights import load_module
from t4d.paths import ASSETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage1", type=Path)
    parser.add_argument("autoencoder", type=Path)
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / "mini")
    parser.add_argument("--guidance", type=float)
    args = parser.parse_args()
    model = VideoModel.load(args.stage1 / "model")
    # the denoiser never saw the decoder (its latents are exact flow), so a later one may take its place
    model.autoencoder = load_module(ReferenceAutoencoder, args.autoencoder / "autoencoder")
    if args.guidance is not None:
        model.meta["guidance"] = args.guidance
    model.save(args.out)
    logs = args.out / "training"
    logs.mkdir(exist_ok=True)
    for name, run in (("stage1", args.stage1), ("autoencoder", args.autoencoder)):
        lines = (run / "log.jsonl").read_text().splitlines()
        # where the runs lay on the training machine is nobody's business
        rows = [json.loads(line) for line in lines]
        for row in rows:
            if "config" in row:
                row["config"]["data"].update(rigs="rigs_cc0", cache=None, shards=None)
                for name in ("autoencoder", "out", "latents"):
                    row["config"].pop(name, None)
        (logs / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for config in ("mini.yaml", "mini_autoencoder.yaml"):
        shutil.copyfile(Path(__file__).parent / "configs" / config, logs / config)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{model.label}: {args.out}, {size / 1e6:.1f} MB, {model.meta}")


if __name__ == "__main__":
    main()
