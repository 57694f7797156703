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

L2_MULTIPLE = 3  # input sets together, in L2 caches
MOST_SETS = 256  # of the smallest cases: they live in the cache wherever they are used
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
        """Run `work` where a capture may follow."""

    def pool(self) -> Any:
        """Memory that captures share which are replayed in the order in which they were made."""

    def capture(self, work: Callable[[], Any], pool: Any) -> tuple[Callable[[], object], Any]:
        """(what replays `work`, what it returned)"""

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
    """How many input sets, and whether together they exceed the cache."""

    sets: int
    cold: bool


def rotation(bytes_per_call: int, l2_bytes: int) -> Rotation:
    wanted = L2_MULTIPLE * l2_bytes // max(bytes_per_call, 1) + 1
    return Rotation(max(2, min(MOST_SETS, wanted)), wanted <= MOST_SETS)


class GraphMeter:
    """Mean over replays, each of which makes the call once on every input set.

    Where the call has a part that is not timed (the forward pass, where backward is), that part is a graph of its own,
    replayed before each: the two share memory as in `torch.cuda.make_graphed_callables`, so their order is fixed.
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
        self.calls_made = sets * (self.replays + 1)  # by a sample, the lead included

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
    """Mean over calls that Python launches one after another: for what records graphs itself or stops for the host.

    Where launching takes longer than computing, this is what launching takes.
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
            call.run(0, call.state(0))  # the lead, as above

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
