"""Settings of `train/slot.py` beyond those of Stage One."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.config import StageOneTrainConfig

# what the other programs read and this one does not, and what to do instead
UNUSED = {
    "optim.gradient_checkpointing": "the batch grows as far as memory goes; use a smaller slot.most",
    "trackers": "curves are in log.jsonl",
    "out": "give --out",
    "save_minutes": "set slot.sheet_seconds",
    "sheet_minutes": "set slot.sheet_seconds",
    "save_steps": "set slot.sheet_seconds",
    "checkpoints_kept": "one is kept",
    "log_steps": "set slot.log_seconds",
    "sheet_clips": "set slot.sampled",
    "data.workers": "set slot.workers",
}


class Slot(BaseModel):
    """How an hour on a lent machine is used."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    chunk: int = Field(default=8, ge=1, le=256, description="Clips that a worker process hands over at once.")
    workers: int = Field(default=12, ge=0, le=128, description="Processes that draw scenes; 0: the program itself.")
    batch: int = Field(default=16, ge=1, description="Clips of the first steps; a multiple of chunk.")
    most: int = Field(default=256, ge=1, description="Clips that a batch never exceeds.")
    grow_while: float = Field(
        default=1.15, ge=1, description="A batch twice as large must give this many times the clips a second to stay."
    )
    trial_steps: int = Field(default=6, ge=1, description="Steps after which a size of batch is judged.")
    warm_steps: int = Field(default=3, ge=0, description="Steps of a new size that are not timed.")
    memory: float = Field(default=0.6, gt=0, le=1, description="Share of the GPU's memory that growing may use.")
    log_seconds: float = Field(default=20, gt=0, description="Seconds between lines of log.jsonl.")
    sheet_seconds: float = Field(default=120, gt=0, description="Seconds between sheets, figures and saved weights.")
    held_out: int = Field(default=16, ge=1, description="Clips of unseen rigs (split far) whose loss is measured.")
    sampled: int = Field(default=4, ge=1, description="Of them, clips that are sampled for a sheet.")
    sample_steps: int = Field(default=12, ge=1, description="Denoising steps of those samples.")


class SlotConfig(StageOneTrainConfig):
    """Stage One's settings, where optim.steps divides the time instead of counting steps, and the slot's own.

    `optim.lr`, `warmup` and the curriculum's shares go by time: training that has used half of its minutes is at half
    of `optim.steps`. The curriculum's and optim.batch's numbers of clips are not used.
    """

    slot: Slot = Slot()

    @model_validator(mode="after")
    def _possible(self) -> "SlotConfig":
        if self.optim.steps is None:
            raise ValueError("set optim.steps (into how many parts the time is divided for lr and warmup)")
        if self.slot.batch % self.slot.chunk or self.slot.most % self.slot.chunk:
            raise ValueError("slot.batch and slot.most must be multiples of slot.chunk")
        if self.tracking.enabled or self.fork or self.latents is not None or self.data.cache or self.data.shards:
            raise ValueError(
                "the slot trains a base on rendered clips with L_diff alone; set tracking.lambda_corr and lambda_pos "
                "to 0 and no fork, latents, cache or shards (forks: train/stage1.py with data.renderer=device)"
            )
        if self.optim.accumulate != 1 or self.trainable:
            raise ValueError("the slot trains all of the network in one micro-step; leave accumulate and trainable")
        for name, instead in UNUSED.items():
            *section, key = name.split(".")
            settings = getattr(self, section[0]) if section else self
            found, default = getattr(settings, key), type(settings).model_fields[key].default
            if found != default:
                raise ValueError(f"the slot does not use {name} (found {found}): leave it out; {instead}")
        return self
