"""Which clip comes when: epochs are whole, the split over processes does not matter, and any step can be started at."""

import pytest

from t4d.errors import InputError
from train.config import OptimConfig, StageOneTrainConfig
from train.order import Order, first_place, micro_batches, positions, stage_at, with_steps

STAGES = [{"until": 0.5, "views": 2, "frames": 3, "batch": 4}]


def config(accumulate=1, stages=STAGES, **optim) -> StageOneTrainConfig:
    optim = {"steps": 6, "batch": 1, "lr": 1e-3, "accumulate": accumulate, **optim}
    return StageOneTrainConfig(optim=OptimConfig(**optim), curriculum=stages)


def taken(c: StageOneTrainConfig, order: Order, processes: int, start: int = 0) -> list[list[int]]:
    """Clips of every step, in the order of their places, over all processes and micro-steps."""
    each = [list(micro_batches(start, c, order, rank, processes)) for rank in range(processes)]
    a, steps = c.optim.accumulate, len(each[0]) // c.optim.accumulate
    return [[clip for m in range(a) for rank in each for clip in rank[s * a + m]] for s in range(steps)]


def test_the_curriculum_uses_every_clip_of_endless_data_once():
    c = config()
    assert [stage_at(s, c).batch for s in range(6)] == [4, 4, 4, 1, 1, 1]
    assert [i for step in taken(c, Order(0), 1) for i in step] == list(range(15))
    assert [i for step in taken(c, Order(0), 2) for i in step] == list(range(30))
    assert [first_place(s, c, 2) for s in (0, 3, 6)] == [0, 24, 30]


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_split_of_the_global_batch_does_not_matter(shuffle):
    order = Order(3, 7, shuffle)
    split = [(1, 1, 12), (2, 1, 6), (3, 2, 2), (1, 4, 3), (6, 2, 1)]
    found = [taken(config(a, [], batch=b), order, processes) for processes, a, b in split]
    assert all(steps == found[0] for steps in found) and len(found[0]) == 6
    places = [p for rank in range(3) for m in range(2) for p in positions(m, 2, rank, 3)]
    assert sorted(places) == list(range(12))


def test_epochs_are_whole_and_in_new_orders():
    order = Order(5, 11)
    epochs = [[order.clip(11 * e + i) for i in range(11)] for e in range(4)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [Order(6, 11).clip(i) for i in range(11)] != epochs[0]
    assert [Order(5, 11, shuffle=False).clip(i) for i in range(13)] == [*range(11), 0, 1]
    assert [Order(5).clip(i) for i in (0, 10**6)] == [0, 10**6]


def test_started_in_the_middle_of_an_epoch_the_rest_is_the_same():
    c, order = config(2), Order(1, 5)
    whole = taken(c, order, 2)
    assert all(taken(c, order, 2, start) == whole[start:] for start in range(7))


def test_epochs_become_steps():
    def steps(epochs, processes, accumulate, batch, stages=()):
        c = config(accumulate, list(stages), steps=None, epochs=epochs, batch=batch)
        return with_steps(c, 24, processes).optim.steps

    assert steps(1, 1, 1, 4) == 6 and steps(20, 2, 3, 1) == 80
    assert steps(1, 1, 1, 5) == 5  # the last step goes on into the next epoch
    assert steps(0.01, 1, 1, 1) == 1
    assert steps(1, 1, 1, 1, STAGES) == 10  # half the steps take 4 clips, half 1: 2.5 on average
    with pytest.raises(InputError, match=r"data\.clips for an epoch"):
        with_steps(config(steps=None, epochs=1), None, 1)
    assert with_steps(config(), None, 1).optim.steps == 6
