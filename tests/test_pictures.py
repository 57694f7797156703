"""Pictures: where each image stands, and what lies between two points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae.training import pictures, plots, show


def numbered(count, channels=1):
    """Images of 2x3, each of one grey value: its number / 100."""
    return (torch.arange(count) / 100).reshape(-1, 1, 1, 1).expand(count, channels, 2, 3)


def cells(path, rows, columns):
    """The grey value at the centre of each image of 2x3, 0..1."""
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("L")) / 255
    scale = array.shape[0] // (rows * 3 - 1)
    assert array.shape == (scale * (rows * 3 - 1), scale * (columns * 4 - 1))
    return array[scale :: 3 * scale, scale + scale // 2 :: 4 * scale]


@pytest.mark.parametrize(("columns", "rows", "wide"), [(4, 3, 4), (None, 3, 4), (10, 1, 10)])
def test_a_grid_is_filled_row_by_row(tmp_path, columns, rows, wide):
    pictures.save_grid(tmp_path / "a.png", numbered(10), columns)
    found = cells(tmp_path / "a.png", rows, wide).flatten()
    assert found[:10] == pytest.approx(np.arange(10) / 100, abs=0.5 / 255)
    assert (found[10:] == 1).all()


def test_colour_and_bytes_are_kept():
    images = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    assert torch.equal(pictures.grid(images)[:, :4, :5], images[0])
    assert torch.equal(pictures.grid(images / 255)[:, :4, 6:], images[1])
    assert pictures.grid(torch.full((1, 1, 2, 2), 7.0)).max() == 255


def test_originals_are_above_what_was_decoded(tmp_path):
    pictures.save_grid(tmp_path / "a.png", pictures.pairs(numbered(6), numbered(6) + 0.5, 3), 3)
    wanted = [[0, 1, 2], [50, 51, 52], [3, 4, 5], [53, 54, 55]]
    assert cells(tmp_path / "a.png", 4, 3) == pytest.approx(np.array(wanted) / 100, abs=0.5 / 255)


class Plane:
    """A model that shows a latent as a grey value."""

    def __init__(self, shown):
        self.shown = shown

    def pixels(self, z):
        return torch.special.ndtr(z[:, self.shown]).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 3)


def test_the_plane_has_the_first_latent_to_the_right_and_the_second_upwards(tmp_path):
    for shown in (0, 1):
        show.plane(tmp_path / f"{shown}.png", Plane(shown))
    first, second = (cells(tmp_path / f"{shown}.png", show.PLANE, show.PLANE) for shown in (0, 1))
    assert (np.diff(first, axis=1) > 0).all()
    assert (np.diff(first, axis=0) == 0).all()
    assert (np.diff(second, axis=0) < 0).all()
    assert first[0] == pytest.approx(np.linspace(0.02, 0.98, show.PLANE), abs=1 / 255)


def test_lines_and_arcs_go_from_end_to_end():
    begin, end = torch.randn(2, 5, 3)
    for between in (show.lines(begin, end, 7), show.arcs(begin, end, 7)):
        assert between.shape == (5, 7, 3)
        torch.testing.assert_close(between[:, 0], begin)
        torch.testing.assert_close(between[:, -1], end)
    torch.testing.assert_close(show.lines(begin, end, 3)[:, 1], (begin + end) / 2)
    unit = torch.nn.functional.normalize(torch.randn(2, 5, 3), dim=-1)
    torch.testing.assert_close(show.arcs(unit[0], unit[1], 7).norm(dim=-1), torch.ones(5, 7))
    torch.testing.assert_close(show.arcs(begin, begin, 3)[:, 1], begin)


@pytest.mark.parametrize("labels", [None, torch.arange(30) % 3])
def test_plots_are_written(tmp_path, labels):
    plots.latents(tmp_path / "latents.png", torch.randn(30, 2), labels, "title")
    nan = {name: [1.0, float("nan")] for name, _ in plots.CURVES}
    plots.curves(tmp_path / "curves.png", {"one": nan, "two": {name: [float("nan")] for name in nan}}, "title")
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            picture.verify()
