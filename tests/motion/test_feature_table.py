"""Feature table: time interpolation, flag, storage."""

import pytest
import torch
from safetensors.torch import load, save

from t4d.errors import InputError
from t4d.motion.feature_table import FeatureTable

N, T, D = 7, 5, 3


@pytest.fixture
def table():
    g = torch.Generator().manual_seed(0)
    return FeatureTable(torch.randn(N, T, D, generator=g), torch.rand(N, T, generator=g) > 0.3)


def readable_row(table, gaussian, frame):
    """One row by hand: blend of two frames, flag last."""
    low = min(int(frame), T - 1)
    high = min(low + 1, T - 1)
    share = frame - low
    row = []
    for channel in range(D):
        a, b = float(table.values[gaussian, low, channel]), float(table.values[gaussian, high, channel])
        row.append((1 - share) * a + share * b)
    a, b = float(table.visible[gaussian, low]), float(table.visible[gaussian, high])
    return [*row, (1 - share) * a + share * b]


@pytest.mark.parametrize("frames", [[0.0, 4.0, 2.0], [0.25, 3.9], [4.0], [1.0, 1.5]])
def test_rows_are_linear_in_time_with_the_flag_last(table, frames):
    found = table.at(torch.tensor(frames))
    wanted = torch.tensor([[readable_row(table, n, frame) for n in range(N)] for frame in frames])
    assert found.shape == (len(frames), N, D + 1)
    torch.testing.assert_close(found, wanted)


def test_whole_frames_are_exact_also_beside_others(table):
    alone = table.at(torch.tensor([3.0]))[0]
    beside = table.at(torch.tensor([0.5, 3.0]))[1]
    assert torch.equal(alone[:, :D], table.values[:, 3])
    assert torch.equal(alone, beside)


def test_the_flag_says_who_is_seen(table):
    rows = table.at(torch.arange(T).float()).transpose(0, 1)
    assert torch.equal(rows[..., -1], table.visible.float())
    assert 0 < table.visible.float().mean() < 1


def test_a_stored_table_reads_back_the_same(table):
    again = FeatureTable.from_state_dict(load(save(table.state_dict())))
    assert table.state_dict()["values"].dtype == torch.float16
    assert torch.equal(again.values, table.values) and torch.equal(again.visible, table.visible)
    frames = torch.tensor([0.3, 2.0])
    assert torch.equal(again.at(frames), table.at(frames))
    assert torch.equal(table.to("cpu").at(frames), table.at(frames))


def test_frames_outside_are_refused(table):
    for frame in (-0.1, T - 0.9, float("nan")):
        with pytest.raises(ValueError, match="feature table has 0 to 4"):
            table.at(torch.tensor([1.0, frame]))


@pytest.mark.parametrize(
    ("values", "visible", "words"),
    [
        (torch.zeros(N, T, D), torch.zeros(N, T + 1), "expected \\[Gaussians"),
        (torch.zeros(N, D), torch.zeros(N), "expected \\[Gaussians"),
        (torch.full((N, T, D), 1e6), torch.ones(N, T), "not finite"),
        (torch.full((N, T, D), float("nan")), torch.zeros(N, T), "not finite"),
    ],
)
def test_bad_tables_are_refused(values, visible, words):
    with pytest.raises(InputError, match=words):
        FeatureTable(values, visible)


def test_foreign_states_are_refused(table):
    state = table.state_dict()
    with pytest.raises(InputError, match="expected values and visible"):
        FeatureTable.from_state_dict({"values": state["values"]})
