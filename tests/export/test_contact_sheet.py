"""Contact sheets: every tile stands where its view and frame belong."""

import numpy as np
import pytest
import torch
from PIL import Image

from t4d.errors import InputError
from t4d.export.contact_sheet import contact_sheet, write_contact_sheet
from t4d.export.tiles import grid_shape


def test_tiles_stand_in_place():
    clip = torch.zeros(2, 5, 3, 8, 12)
    for view in range(2):
        for frame in range(5):
            clip[view, frame, 0], clip[view, frame, 1] = view / 2, frame / 5
    sheet = contact_sheet(clip, max_frames=3, frame_labels=False, gap=2, min_tile=0)
    assert sheet.shape == (2 * 8 + 2, 3 * 12 + 2 * 2, 3)
    for view in range(2):
        for column, frame in enumerate((0, 2, 4)):
            pixel = sheet[view * 10 + 4, column * 14 + 6]
            assert tuple(pixel[:2]) == (round(127.5 * view), 51 * frame)
    assert (sheet[8:10] == 255).all()


def test_labels_and_enlargement_change_only_what_they_should(tmp_path):
    clip = np.full((3, 4, 4, 20, 30), 128, np.uint8)  # RGBA bytes: alpha is dropped
    path = write_contact_sheet(tmp_path / "sheet.png", clip, view_labels=["0", "90", "180"], min_tile=40)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (3 * 40 + 2 * 2, 4 * 60 + 3 * 2, 3)
    assert sheet[:16, :20].std() > 10 and (sheet[20:40, 70:120] == 128).all()


def test_grid_shape():
    assert [grid_shape(n) for n in (1, 2, 3, 4, 5, 9, 10)] == [(1, 1), (1, 2), (2, 2), (2, 2), (2, 3), (3, 3), (3, 4)]


def test_bad_input_is_named():
    with pytest.raises(InputError, match="shape"):
        contact_sheet(torch.zeros(5, 3, 8, 8))
    with pytest.raises(InputError, match="labels"):
        contact_sheet(torch.zeros(2, 5, 3, 8, 8), view_labels=["only one"])
    with pytest.raises(InputError, match="NaN"):
        contact_sheet(torch.full((2, 5, 3, 8, 8), torch.nan))
