"""The clock for CUDA devices: graph replays over inputs that no cache holds, timed by the device's own events.

A kernel of some microseconds that is launched from Python measures the queue. Here each call is recorded once for every
input set into one CUDA graph, and the graph is replayed: nothing is launched from Python while the device is timed, and
by the time an input set comes up again the others have driven it out of the L2 cache. What a launch costs the host is
measured apart, by `launch_seconds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import torch

from .clock import SAMPLE_SECONDS, Call

L2_MULTIPLE = 3  # how many times as large as the L2 cache the input sets are together
MOST_SETS = 256  # the smallest cases would need more; outside of a benchmark, too, their inputs are in the cache
WARM_SETS = 3
LEAST_REPLAYS = 3
LAUNCH_CALLS, LAUNCH_ROUNDS = 4, 21  # few enough that no queue fills and makes the host wait: it holds 1024 launches


class Event(Protocol):
    def record(self) -> object: ...
    def elapsed_time(self, end: Any) -> float: ...


class Device(Protocol):
    """What the clock asks of a device. Tests put a fake in its place."""

    l2_bytes: int

    def warm(self, work: Callable[[], object]) -> None:
        """Run `work` as must be done before it is captured: on a stream of its own."""

    def pool(self) -> Any:
        """Memory for several captures to share. They must then be replayed in the order of their capture."""

    def capture(self, work: Callable[[], Any], pool: Any) -> tuple[Callable[[], object], Any]:
        """Record `work`: a function that replays it, and what `work` returned."""

    def event(self) -> Event: ...
    def synchronize(self) -> object: ...


class CudaDevice:
    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.l2_bytes = int(torch.cuda.get_device_properties(device).L2_cache_size)

    def warm(self, work: Callable[[], object]) -> None:
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        self.synchronize()

    def pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    def capture(self, work: Callable[[], Any], pool: Any) -> tuple[Callable[[], object], Any]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(graph, pool=pool):
            kept = work()
        return graph.replay, kept

    def event(self) -> Event:
        return torch.cuda.Event(enable_timing=True)

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Rotation:
    """How many input sets there are, and whether together they exceed the cache: `cold`."""

    sets: int
    cold: bool


def rotation(bytes_per_call: int, l2_bytes: int) -> Rotation:
    wanted = L2_MULTIPLE * l2_bytes // max(bytes_per_call, 1) + 1
    return Rotation(max(2, min(MOST_SETS, wanted)), wanted <= MOST_SETS)


class GraphMeter:
    """Mean over replays of one graph, which makes the call once on every input set.

    `call.prepare`, which is not timed (the forward pass where backward is timed), becomes a graph of its own that is
    replayed before each. The two share memory as in `torch.cuda.make_graphed_callables`, so their order is fixed.
    """

    def __init__(self, device: Device, call: Call, sets: int) -> None:
        self.device, self.sets, self.calls = device, sets, sets
        with call.context():
            device.warm(lambda: [call.once(i % sets) for i in range(WARM_SETS)])
            pool = device.pool()
            self._prepare, self._states = None, [None] * sets
            if call.prepare is not None:
                self._prepare, self._states = device.capture(lambda: [call.state(i) for i in range(sets)], pool)
            # Results are kept, or the allocator would give every call the same lines of the cache to write to.
            states = self._states
            self._replay, self._kept = device.capture(lambda: [call.run(i, states[i]) for i in range(sets)], pool)
        self.replays = LEAST_REPLAYS
        self.seconds = min(self() for _ in range(2))
        self.replays = max(LEAST_REPLAYS, math.ceil(SAMPLE_SECONDS / (self.seconds * sets)))
        self.sample_seconds = self.seconds * sets * (self.replays + 1)
        self.calls_made = sets * (self.replays + 1)  # by a sample, with the untimed first replay

    def __call__(self) -> float:
        lead = self._prepare or self._replay
        lead()  # keeps the device busy while the host enqueues what is timed
        spans = []
        for i in range(self.replays):
            if self._prepare and i:
                self._prepare()
            spans.append(_span(self.device, self._replay))
        self.device.synchronize()
        return _elapsed(spans) / (self.replays * self.sets)


class StreamMeter:
    """Mean over calls that Python launches one after another, for calls that no graph can record.

    They record graphs themselves, or wait for the device. Where launching takes longer than computing, the time is that
    of launching.
    """

    def __init__(self, device: Device, call: Call, sets: int) -> None:
        self.device, self.call, self.sets, self.calls = device, call, sets, WARM_SETS
        for i in range(2 * WARM_SETS):  # the compiler's own graphs are recorded at the second call or the third
            call.once(i % sets)
        self.seconds = min(self() for _ in range(2))
        self.calls = max(LEAST_REPLAYS, math.ceil(SAMPLE_SECONDS / self.seconds))
        self.sample_seconds = self.seconds * (self.calls + 1)
        self.calls_made = self.calls + 1

    def __call__(self) -> float:
        call, sets = self.call, self.sets
        with call.context():
            states = [call.state(i % sets) for i in range(self.calls)]
            call.run(0, call.state(0))  # keeps the device busy, as above

            def work() -> None:
                for i in range(self.calls):
                    call.run(i % sets, states[i])

            span = _span(self.device, work)
            self.device.synchronize()
        return _elapsed([span]) / self.calls


def meter(device: Device, call: Call, sets: int) -> GraphMeter | StreamMeter:
    return (GraphMeter if call.captured else StreamMeter)(device, call, sets)


def launch_seconds(device: Device, call: Call, sets: int) -> float:
    """What one eager call costs the host: wall clock over calls that nobody waits for."""
    with call.context():
        return median(_launches(device, call, sets) for _ in range(LAUNCH_ROUNDS))


def _launches(device: Device, call: Call, sets: int) -> float:
    states = [call.state(i % sets) for i in range(LAUNCH_CALLS)]
    device.synchronize()
    start = perf_counter()
    for i, state in enumerate(states):
        call.run(i % sets, state)
    spent = perf_counter() - start
    device.synchronize()
    return spent / LAUNCH_CALLS


def _span(device: Device, work: Callable[[], object]) -> tuple[Event, Event]:
    start, end = device.event(), device.event()
    start.record()
    work()
    end.record()
    return start, end


def _elapsed(spans: list[tuple[Event, Event]]) -> float:
    return sum(start.elapsed_time(end) for start, end in spans) * 1e-3  # CUDA counts in milliseconds
