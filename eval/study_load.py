"""Is an answer that a rater was told is stored, stored: once, as given, through crashes of the server?

    python -m eval.study_load [--raters 100] [--objects 20] [--methods 3] [--kills 3] [--seed 0] [--out FILE]

A study of drawn videos is served as its own process (``python -m studio.study serve``). Simulated raters
(`eval.study_load_rater`) walk it at the same time over HTTP, each as a browser does: an answer has a key, is sent until
it is acknowledged, drafts are saved before the page is complete. They also click twice, go back and change, send old
answers again and go on in another browser with nothing but the resume code. Meanwhile the server is sent SIGKILL at
random moments while requests are on their way, and started again on the same port.

At the end the files are read without the study's own code (`eval.study_load_truth`): every acknowledged submission
stored once and as sent, nothing stored that nobody sent, every page's current answer the last one given, every page
shown as the stored plan says (so no order changed), every rater finished, the JSONL mirror the same, the database
sound. Prints the table, writes it to ``eval/results/study_load.json`` and exits with 1 where a line is broken.

Expected before the first run: nothing lost or doubled, since an acknowledgement follows SQLite's commit with
``synchronous=FULL``; some tens of requests cut off by each kill.
"""

import argparse
import asyncio
import json
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.study_load_rater import Habits, Ledger, SimulatedRater
from eval.study_load_server import Server
from eval.study_load_study import make_sources, prepare
from eval.study_load_truth import Found, compare
from t4d.paths import REPO

RESULT = REPO / "eval" / "results" / "study_load.json"
KILL_WITHIN = (0.08, 0.92)  # of all pages


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    Attributes:
        acknowledged: submissions acknowledged before it.
        open: requests on their way at that moment.
        down_s: seconds until the server answered again.
    """

    acknowledged: int
    open: int
    down_s: float


@dataclass(frozen=True)
class LoadRun:
    """A finished run: what was found in the files, the kills, what the raters know, seconds from first to last."""

    found: list[Found]
    kills: list[Kill]
    ledger: Ledger
    seconds: float
    pages: int

    @property
    def holds(self) -> bool:
        """Whether no promise was broken."""
        return not any(line.wrong for line in self.found)


def run_load(
    folder: Path, raters: int, kills: int, seed: int, habits: Habits, objects: int = 20, methods: int = 3
) -> LoadRun:
    """Makes a study, serves it, lets everybody walk it, kills the server meanwhile, and looks at what is stored.

    Args:
        folder: an empty folder; the study is left in ``folder/study``.
        raters: at the same time.
        kills: SIGKILLs at moments drawn by `seed`.
        seed: of everything random here; the server's keys and codes are its own.
        habits: of all raters.
        objects: items.
        methods: videos of each.
    """
    (folder / "source").mkdir(parents=True)
    study = folder / "study"
    pages = prepare(make_sources(folder / "source", objects, methods), study)
    ledger = Ledger()
    with Server(study, folder / "server.log") as server:
        began = time.monotonic()
        done = asyncio.run(_walk(server, ledger, raters, kills, pages, seed, habits))
        seconds = time.monotonic() - began
    ledger.wrong += _tracebacks(folder / "server.log")
    return LoadRun(compare(study, ledger), done, ledger, seconds, pages)


async def _walk(
    server: Server, ledger: Ledger, raters: int, kills: int, pages: int, seed: int, habits: Habits
) -> list[Kill]:
    """All raters at once, and beside them who kills the server; returns the kills."""
    rng = random.Random(seed)
    moments = sorted(rng.uniform(*KILL_WITHIN) for _ in range(kills))
    walking = asyncio.gather(
        *(SimulatedRater(server.url, seed * 10**6 + number, ledger, habits).run() for number in range(raters))
    )
    done = []
    for moment in moments:
        while len(ledger.answered) < moment * raters * pages and not walking.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(rng.uniform(0, 0.1))
        while not ledger.open and not walking.done():
            await asyncio.sleep(0.001)
        if walking.done():
            break
        acknowledged, on_the_way, began = ledger.acknowledged, ledger.open, time.monotonic()
        server.kill()
        server.start()
        try:
            await asyncio.to_thread(server.wait)
        except RuntimeError:
            ledger.ended = True
            raise
        done.append(Kill(acknowledged, on_the_way, round(time.monotonic() - began, 1)))
    await walking
    return done


def _tracebacks(log: Path) -> list[str]:
    text = log.read_text(errors="replace")
    return [f"the server printed a traceback: {text[text.index('Traceback') :][:500]}"] if "Traceback" in text else []


def lines(run: LoadRun, raters: int) -> list[str]:
    """The table that the program prints."""
    count = run.ledger.counts
    head = f"{raters} raters x {run.pages} pages, {len(run.ledger.sent)} submissions, {run.seconds:.0f} s"
    text = [head, ""]
    text += [
        f"SIGKILL after {k.acknowledged} acknowledged, {k.open} requests open, down {k.down_s} s" for k in run.kills
    ]
    text += ["", f"{'promise':<56} {'cases':>7} {'broken':>7}"]
    text += [f"{line.what:<56} {line.measured:>7} {line.wrong:>7}" for line in run.found]
    text += ["", ", ".join(f"{number} {what}" for what, number in sorted(count.items()))]
    for kind, (middle, high, most) in quantiles(run.ledger).items():
        text.append(f"{kind:<7} median {middle:.3f} s, 95 % {high:.3f} s, longest {most:.3f} s")
    return [*text, *run.ledger.wrong[:20]]


def quantiles(ledger: Ledger) -> dict[str, tuple[float, float, float]]:
    """Seconds of the tries that were answered, by kind: median, 95 % and the longest."""
    return {
        kind: (statistics.median(values), statistics.quantiles(values, n=20)[-1], max(values))
        for kind, values in ledger.seconds.items()
        if len(values) > 1
    }


def report(run: LoadRun, arguments: argparse.Namespace) -> dict:
    """What the JSON file holds."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
    return {
        "set_up": {key: getattr(arguments, key) for key in ("raters", "objects", "methods", "kills", "seed")},
        "pages": run.pages,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "seconds": round(run.seconds, 1),
        "submissions": len(run.ledger.sent),
        "kills": [asdict(kill) for kill in run.kills],
        "promises": [asdict(line) for line in run.found],
        "counts": dict(sorted(run.ledger.counts.items())),
        "seconds_median_p95_max": {k: [round(v, 4) for v in vs] for k, vs in quantiles(run.ledger).items()},
        "complaints": run.ledger.wrong,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=100)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--methods", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--keep", type=Path, help="folder for the study, kept; a temporary one otherwise")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="study-load-"))
    try:
        run = run_load(
            folder, arguments.raters, arguments.kills, arguments.seed, Habits(), arguments.objects, arguments.methods
        )
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines(run, arguments.raters)))
    arguments.out.write_text(json.dumps(report(run, arguments), indent=1) + "\n")
    sys.exit(0 if run.holds and len(run.kills) == arguments.kills else 1)


if __name__ == "__main__":
    main()
