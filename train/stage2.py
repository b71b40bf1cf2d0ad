"""Stage Two over a folder: fits every object of it through the same generator as the command line.

    accelerate launch train/stage2.py FOLDER --out RUNS [--preset mini] [--variant full] [section.key=value ...]

An object FOLDER/NAME.glb (.gltf, .obj, .ply) is fitted to the clip beside it, NAME/ or NAME.safetensors, where there is
one (`t4d.clip_folder`), else to a generated one. Its sentence is that of prompts.json, {"NAME": "..."}, else --prompt,
else the clip's or "it is moving". Each goes to RUNS/NAME with log.jsonl of its fit; RUNS/.stages is shared. Another
call takes what is finished from there and goes on inside what is not. The objects are split over the processes.
"""

import argparse
import gc
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # launched as a file, the program's own folder stands there

from train.launch import start_processes

if __name__ == "__main__":
    start_processes()

import torch
from accelerate import PartialState

from t4d.config import Config
from t4d.errors import InputError
from t4d.splat._gsplat import unbuilt
from train.object_folder import objects, read_prompts

if TYPE_CHECKING:
    from t4d.pipeline import AnimateRequest


def run(job: "AnimateRequest") -> str:
    """Runs one job and returns how it ended; log.jsonl gets a line at every twentieth of it."""
    from t4d.pipeline import animate

    job.out.mkdir(parents=True, exist_ok=True)
    began, shown = time.time(), ("", -1)
    with (job.out / "log.jsonl").open("a") as log:
        try:
            for progress in animate(job):
                if (now := (progress.stage, int(progress.fraction * 20))) != shown:
                    shown = now
                    row = {"seconds": round(time.time() - began, 1), "stage": now[0], "message": progress.message}
                    print(json.dumps(row), file=log, flush=True)
        except InputError as error:
            return f"refused: {error}"
        except torch.OutOfMemoryError as error:  # of one object: a launcher would end the others' fits with it
            refused = f"refused: the GPU's memory was not enough ({str(error).split('. ')[0]}); lower splat.count"
        else:
            return "done"
    gc.collect()  # what the failed fit held
    torch.cuda.empty_cache()
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--variant", default="full")
    parser.add_argument("--prompt", default="", help="for objects that prompts.json does not name")
    parser.add_argument("overrides", nargs="*", help="section.key=value, for example stage2.iterations=100")
    args = parser.parse_intermixed_args()
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=30))
    gpu = [f"device={state.device}"] if torch.cuda.is_available() else []
    try:
        if args.out.resolve() == args.folder.resolve():
            raise InputError(f"--out {args.out} is the folder of objects; give the runs a folder of their own.")
        config = Config.load(args.preset, [*gpu, *args.overrides], args.variant)
        found, prompts = objects(args.folder), read_prompts(args.folder)
    except InputError as error:
        sys.exit(f"error: {error}")
    os.environ.setdefault("NUMBA_NUM_THREADS", str(config.threads))  # before it is imported
    from t4d.pipeline import AnimateRequest

    if torch.cuda.is_available():
        with state.local_main_process_first():  # gsplat compiles when first asked, and two at once delete each other's
            unbuilt()
    refused = 0
    with state.split_between_processes([path.name for path in found]) as mine:
        for path in (args.folder / str(name) for name in mine):
            clip = next((c for c in (path.with_suffix(""), path.with_suffix(".safetensors")) if c.exists()), None)
            prompt = prompts.get(path.stem, args.prompt) or ("it is moving" if clip is None else "")
            ended = run(AnimateRequest(path, prompt, args.out / path.stem, config, args.out / ".stages", clip))
            refused += ended != "done"
            print(f"{path.name}: {ended} (process {state.process_index} of {state.num_processes})", flush=True)
    state.wait_for_everyone()  # a launcher ends all processes when one ends with an error
    sys.exit(int(refused > 0))


if __name__ == "__main__":
    main()
