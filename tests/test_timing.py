"""The clocks, the GPU's on a fake device whose time is known."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest

from fastvae.measure.clock import LOOP_SECONDS, SAMPLE_SECONDS, Call, WallMeter, alternate
from fastvae.measure.cuda_clock import (
    LAUNCH_ROUNDS,
    LEAST_REPLAYS,
    MOST_SETS,
    GraphMeter,
    Rotation,
    StreamMeter,
    launch_seconds,
    meter,
    rotation,
)


class FakeDevice:
    """Time passes when work runs: as much as `spend` says, and only outside of a capture."""

    l2_bytes = 1000

    def __init__(self):
        self.now, self.capturing, self.log = 0.0, False, []

    def spend(self, seconds):
        self.now += seconds

    def warm(self, work):
        assert not self.capturing
        work()
        self.log.append("warm")

    def pool(self):
        return object()

    def capture(self, work, pool):
        before, self.capturing = self.now, True
        kept = work()
        cost, self.now, self.capturing = self.now - before, before, False
        self.log.append(f"capture {len(self.log)}")

        def replay(name=self.log[-1]):
            self.now += cost
            self.log.append(name.replace("capture", "replay"))

        return replay, kept

    def event(self):
        device = self

        class Event:
            def record(self):
                self.time = device.now

            def elapsed_time(self, end):
                return 1e3 * (end.time - self.time)

        return Event()

    def synchronize(self):
        self.log.append("synchronize")


@pytest.fixture
def device():
    return FakeDevice()


def test_a_replay_makes_the_call_on_every_input_set(device):
    seen = []

    def run(i, state):
        seen.append(i)
        device.spend(2e-6)

    clock = GraphMeter(device, Call(run), sets=5)
    assert seen[-5:] == [0, 1, 2, 3, 4]
    seen.clear()
    assert clock() == pytest.approx(2e-6)
    assert seen == []  # replayed, not called
    assert clock.replays * 5 * 2e-6 >= SAMPLE_SECONDS
    assert clock.replays >= LEAST_REPLAYS


def test_what_is_prepared_is_replayed_before_and_not_timed(device):
    def prepare(i):
        device.spend(7e-4)
        return f"forward {i}"

    def run(i, state):
        assert state == f"forward {i}"
        device.spend(3e-4)

    clock = GraphMeter(device, Call(run, prepare), sets=2)
    device.log.clear()
    assert clock() == pytest.approx(3e-4)
    replays = [line for line in device.log if line.startswith("replay")]
    forward, backward = sorted(set(replays), key=replays.index)
    assert replays == [forward, backward] * clock.replays  # memory is shared: the order of capture, each time


def test_a_sample_begins_with_work_that_is_not_timed(device):
    clock = GraphMeter(device, Call(lambda i, _: device.spend(1e-3)), sets=2)
    device.log.clear()
    clock()
    assert len([line for line in device.log if line.startswith("replay")]) == clock.replays + 1
    assert device.log[-1] == "synchronize"  # once, after everything was enqueued
    assert device.log.count("synchronize") == 1


def test_results_of_a_capture_are_kept(device):
    clock = GraphMeter(device, Call(lambda i, _: device.spend(1e-3) or f"output {i}"), sets=3)
    assert clock._kept == ["output 0", "output 1", "output 2"]


def test_calls_that_cannot_be_captured_are_launched(device):
    seen = []

    def run(i, state):
        assert not device.capturing
        seen.append(i)
        device.spend(1e-3)

    clock = meter(device, Call(run, captured=False), sets=2)
    assert isinstance(clock, StreamMeter)
    assert clock() == pytest.approx(1e-3)
    assert set(seen) == {0, 1}


def test_prepared_work_of_launched_calls_is_not_timed(device):
    call = Call(lambda i, _: device.spend(1e-3), lambda i: device.spend(5e-3), captured=False)
    assert StreamMeter(device, call, sets=2)() == pytest.approx(1e-3)


def test_context_is_entered_around_captures_and_samples(device):
    inside = []

    @contextmanager
    def context():
        inside.append(True)
        yield
        inside.pop()

    def run(i, state):
        assert inside
        device.spend(1e-3)

    for captured in (True, False):
        assert meter(device, Call(run, captured=captured, context=context), sets=2)() == pytest.approx(1e-3)


def test_launching_is_timed_without_waiting(device):
    assert launch_seconds(device, Call(lambda i, _: None), sets=3) < 1e-4
    waits = len([line for line in device.log if line == "synchronize"])
    assert waits == 2 * LAUNCH_ROUNDS  # before and after each round, never between calls


@pytest.mark.parametrize(
    ("moved", "wanted"),
    [
        (400, Rotation(8, True)),  # 8 x 400 > 3 x 1000
        (10**6, Rotation(2, True)),
        (1, Rotation(MOST_SETS, False)),  # so small that it lives in the cache, and the report says so
        (0, Rotation(MOST_SETS, False)),
    ],
)
def test_input_sets_exceed_the_cache_three_times(moved, wanted):
    assert rotation(moved, 1000) == wanted


def test_wall_meter_fills_a_sample_and_leaves_preparation_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fastvae.measure.clock.perf_counter", lambda: now[0])

    def spend(seconds):
        now[0] += seconds

    clock = WallMeter(Call(lambda i, state: spend(3e-4), lambda i: spend(9e-4)))
    assert clock() == pytest.approx(3e-4)
    assert clock.calls * 3e-4 >= SAMPLE_SECONDS


def test_rounds_alternate_in_changing_order():
    order = []
    names = ("a", "b", "c")
    samples = alternate({name: lambda name=name: order.append(name) or 1.0 for name in names}, range(20))
    assert {name: len(seconds) for name, seconds in samples.items()} == dict.fromkeys(names, 20)
    rounds = [tuple(order[i : i + 3]) for i in range(0, 60, 3)]
    assert all(sorted(names_in_turn) == ["a", "b", "c"] for names_in_turn in rounds)
    assert len(set(rounds)) > 1


def test_what_is_called_in_a_loop_is_timed_behind_a_call_of_its_own(monkeypatch):
    now, durations = [0.0], itertools.repeat(3e-3)
    monkeypatch.setattr("fastvae.measure.clock.perf_counter", lambda: now[0])

    def step(i, state):
        now[0] += next(durations)

    clock = WallMeter(Call(step, loop=True))
    assert clock.calls * 3e-3 >= LOOP_SECONDS
    assert clock.sample_seconds == pytest.approx(3e-3 * (clock.calls + 1))
    durations = itertools.chain([1.0], itertools.repeat(3e-3))  # the first finds the caches of somebody else
    assert clock() == pytest.approx(3e-3)
