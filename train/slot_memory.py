"""How much of a GPU's memory steps of the present kind take, apart from what evaluation and other clips took."""

import torch


class PeakMemory:
    """The most memory that torch held, since the present kind of step began and over all.

    Args:
        device: Where to train; a CPU is not counted.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self._before = device, 0

    def begin(self) -> None:
        """What follows is another kind of step, or comes after something that is none."""
        if self.device.type == "cuda":
            self._before = self.overall
            torch.cuda.reset_peak_memory_stats(self.device)

    @property
    def overall(self) -> int:
        """Bytes, since the process began; 0 on a CPU."""
        return max(self._before, self._present)

    def room(self, share: float) -> bool:
        """Whether twice of what the present steps take is less than this share of the GPU's memory."""
        if self.device.type != "cuda":
            return True
        return 2 * self._present < share * torch.cuda.get_device_properties(self.device).total_memory

    @property
    def _present(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
