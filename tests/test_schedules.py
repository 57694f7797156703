"""Schedules of beta against their definitions."""

from __future__ import annotations

import pytest
import torch

from fastvae.models import schedules


def test_a_linear_schedule():
    values = [schedules.linear(step, 4, start=0.2, stop=1.0).item() for step in range(7)]
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    assert schedules.linear(0, 0) == 1
    assert schedules.linear(torch.tensor(3), 4).item() == 0.75
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        schedules.linear(0, -1)


def test_a_cyclical_schedule():
    """Fu et al. 2019: within each cycle up for half of it, then flat."""
    values = [schedules.cyclical(step, 16, cycles=2).item() for step in range(18)]
    cycle = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert values == pytest.approx([*cycle, *cycle, 1, 1])
    for keywords, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 4, "cycles": 0}, "cycles must be at least 1"),
        ({"steps": 4, "ramp": 0.0}, r"ramp must be in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            schedules.cyclical(0, **keywords)
