"""Clocks and peak memory of the parts of a program, on the CPU or a CUDA device."""

import ctypes
import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass
class Meter:
    """Seconds and peak memory of named parts, by the clocks of a device."""

    device: torch.device
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        """Processor seconds on the CPU, wall seconds after all work on a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Notes what the block takes."""
        held, start = self._restart(), self.now()
        yield
        self.seconds[name].append(self.now() - start)
        if held is not None:
            self.memory[name] = max(self.memory.get(name, 0.0), self._peak() - held)

    def medians(self) -> dict[str, dict[str, float]]:
        """Seconds (median), runs and peak MB of every part."""
        return {
            name: {
                "seconds": round(statistics.median(values), 4),
                "runs": len(values),
                **({"peak_mb": round(self.memory[name])} if name in self.memory else {}),
            }
            for name, values in self.seconds.items()
        }

    def _restart(self) -> float | None:
        """Forgets the old peak; MB held now, None where the system has no such count."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device) / 1e6
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that is kept would hide what the part needs
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return None
        return _status("VmRSS")

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(name))
