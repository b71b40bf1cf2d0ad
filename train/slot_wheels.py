"""Collects wheels for a machine without network: ``python -m train.slot_wheels --out data/wheels [--python 3.12]``.

Downloads what `train/slot.py` needs beyond a usual PyTorch installation (`THERE`), in the versions that
requirements.txt pins, with what those need in turn. Nothing is installed here.
"""

import argparse
import subprocess
import sys
import zipfile
from collections.abc import Container
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from t4d.paths import REPO

NEEDED = ("diffusers", "pydantic", "gsplat")
#: What a PyTorch installation for deep learning has; names as on PyPI.
THERE = (
    "torch numpy scipy numba pillow accelerate transformers tokenizers safetensors huggingface-hub filelock regex "
    "requests packaging psutil pyyaml tqdm rich ninja jaxtyping opencv-python-headless pytest"
).split()
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pins(requirements: Path) -> dict[str, str]:
    """Versions that a requirements file pins with ==, by canonical name."""
    found = {}
    for line in requirements.read_text().splitlines():
        name, equal, version = line.partition("#")[0].strip().partition("==")
        if equal:
            found[canonicalize_name(name)] = version
    return found


def needs(wheel: Path, python: str) -> list[Requirement]:
    """What a wheel requires on Linux with a version of Python, without extras."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    environment |= {"platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux"}
    found = [Requirement(line) for line in lines]
    return [r for r in found if r.marker is None or r.marker.evaluate(environment)]


def download(requirement: str, out: Path, python: str) -> Path:
    """One wheel, without what it needs; returns its path."""
    before = set(out.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(out)]
    command += ["--python-version", python, "--implementation", "cp"]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    done = subprocess.run([*command, requirement], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {requirement} cannot be downloaded: {done.stderr.strip()[-300:]}")
    return (set(out.glob("*.whl")) - before).pop()


def collect(names: list[str], out: Path, python: str, there: Container[str]) -> list[Path]:
    """All wheels that `names` and their needs come to, without those that are there."""
    pinned, waiting, done = pins(REPO / "requirements.txt"), [Requirement(name) for name in names], set()
    wheels = []
    while waiting:
        wanted = waiting.pop(0)
        name = canonicalize_name(wanted.name)
        if name in done or name in there:
            continue
        done.add(name)
        version = f"=={pinned[name]}" if name in pinned else str(wanted.specifier)
        wheel = download(f"{name}{version}", out, python)
        wheels.append(wheel)
        waiting += needs(wheel, python)
    return wheels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of wheels; older ones are removed")
    parser.add_argument("--python", default="3.12", help="version of Python there")
    parser.add_argument("--more", nargs="*", default=[], help="further packages to bring")
    parser.add_argument("--there", nargs="*", default=[], help="further packages that the machine has")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.glob("*.whl"):
        old.unlink()
    there = {canonicalize_name(name) for name in [*THERE, *args.there]}
    wheels = collect([*NEEDED, *args.more], args.out, args.python, there)
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 1e6:7.2f} MB  {wheel.name}")
    print(f"{sum(w.stat().st_size for w in wheels) / 1e6:.1f} MB in {args.out}")


if __name__ == "__main__":
    main()
