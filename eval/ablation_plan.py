"""What a run of the Stage Two ablation does, from its command line; the same in every process."""

import argparse
import subprocess
from pathlib import Path

from eval.ablation_cases import BOUNDS, GENERATED_CASES, GENERATED_ROWS, TRUTH_CASES, TRUTH_ROWS
from eval.ablation_store import Store, digest, source_digest
from t4d.config import Config
from t4d.diffusion.model import VideoModel
from t4d.metrics.motion import share_of_gap
from t4d.paths import REPO, shared_dir

#: Against the preset, so that 300 fits take an hour on two cores; stated in the result.
PROTOCOL = ("splat.count=4000", "stage2.iterations=150", "stage2.refine_iterations=3")


class Plan:
    """What is to be done.

    Args:
        arguments: of `arguments_of`.

    Raises:
        InputError: an unknown row or setting.

    Attributes:
        mode: "truth" or "generated".
        cases, rows, seeds: of the table.
        bounds: rows that are not fits.
        configs: configuration of each row that is a fit.
        base: configuration of "full".
        commit: see `commit`; like the code's digests (`source`) as it was when the plan was made, for files that are
            edited while fits run are not what runs.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.mode: str = arguments.mode
        self.work: Path = arguments.work or REPO / "runs" / "stage2_ablation" / self.mode
        self.threads: int = arguments.threads
        self.data: Path = arguments.data or (shared_dir() or Path()) / "data"
        every = TRUTH_CASES if self.mode == "truth" else GENERATED_CASES
        wanted = arguments.cases.split(",") if arguments.cases else [""]
        self.cases = [case for case in every if any(name in case.name for name in wanted)]
        fits = TRUTH_ROWS if self.mode == "truth" else GENERATED_ROWS
        self.bounds = BOUNDS[self.mode]
        self.rows = arguments.rows.split(",") if arguments.rows else [*fits, *self.bounds]
        self.seeds = [int(seed) for seed in arguments.seeds.split(",")]
        self.overrides = [*PROTOCOL, *arguments.set]
        fitted = [row for row in self.rows if row not in self.bounds]
        self.configs = {row: Config.load(arguments.preset, self.overrides, variant=row) for row in fitted}
        self.base = Config.load(arguments.preset, self.overrides)
        self.model_sha256 = VideoModel.load(self.base.stage1.weights).sha256
        self.commit = commit()
        self._sources = source_digest(("splat",)), source_digest(("motion", "splat"))

    def key(self, row: str, case: str, seed: int) -> str:
        """Name of one fit: what, on what, and a digest of how."""
        config = self.configs.get(row, self.base)
        how = config.model_dump(mode="json", include={"geometry", "splat", "stage1", "stage2"})
        if row in self.bounds:
            how.pop("stage2")
        else:
            how["model"] = self.model_sha256
        return f"{self.mode}/{row}/{case}/{seed}/{digest(how)}"

    def source(self, row: str) -> str:
        """Digest of the code a row's figures come from."""
        return self._sources[row not in self.bounds]

    def asset(self, row: str, case: str, seed: int) -> Path:
        """Where the moving object of a fit is kept."""
        return self.work / "assets" / f"{row}-{case}-{seed}-{digest(self.key(row, case, seed))}.safetensors"

    def records(self, store: Store) -> dict[tuple[str, str, int], dict[str, float]]:
        """Finished figures by (row, case, seed), with the share of the gap where static and oracle are known."""
        lines = store.read()
        found = {}
        for row in dict.fromkeys([*self.rows, *self.bounds]):
            for case in self.cases:
                for seed in self.seeds:
                    if (line := lines.get(self.key(row, case.name, seed))) is not None:
                        found[row, case.name, seed] = dict(line["figures"])
        for (_, case, seed), figures in found.items():
            ends = [found.get((end, case, seed)) for end in ("static", "oracle")]
            if self.mode == "truth" and all(end is not None for end in ends):
                figures["share"] = share_of_gap(ends[0]["mse"], figures["mse"], ends[1]["mse"])  # pyright: ignore
        return found

    def keys(self) -> set[str]:
        """Names of all fits of the plan."""
        return {self.key(row, case.name, seed) for row in self.rows for case in self.cases for seed in self.seeds}


def commit() -> str:
    """Short hash of the code, "-dirty" where it is not committed; "" outside a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"], cwd=REPO, capture_output=True, text=True
    )
    return found.stdout.strip()


def arguments_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Adds what names a plan and reads the command line."""
    parser.add_argument("mode", nargs="?", choices=("truth", "generated"), default="truth")
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="", help="comma-separated; all if empty")
    parser.add_argument("--cases", default="", help="parts of case names, comma-separated; all if empty")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top of the protocol")
    parser.add_argument("--work", type=Path, help="work folder (default runs/stage2_ablation/MODE)")
    parser.add_argument("--data", type=Path, help="folder with rigs_cc0 and real3d")
    parser.add_argument("--out", type=Path, help="what is written (default eval/results/stage2_ablation*.json)")
    return parser.parse_args()
