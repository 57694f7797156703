"""What a call takes besides time: memory, kernels, energy. None where the machine cannot tell."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastvae.measure.clock import Call

COUNTER_SECONDS = 1.0  # a counter of energy that stands still for so long does not count


def attempt(probe: Callable[..., Any], *arguments: Any) -> Any:
    """`probe(*arguments)`, or None and a warning where that raises, as profilers do without permission.

    A case is timed before it is probed: a probe that fails must not cost its times.
    """
    try:
        return probe(*arguments)
    except Exception as error:
        warnings.warn(f"{probe.__name__}: {error}", stacklevel=2)
        return None


def saved_bytes(forward: Callable[[], object], inputs: Iterable[Tensor]) -> int:
    """Storage that a forward pass keeps for its backward, the inputs themselves not counted."""
    known = {t.untyped_storage().data_ptr() for t in inputs}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = forward()
    del result  # until here: a freed address would be counted once for two tensors
    return sum(kept.values())


def peak_bytes(call: Call, device: str) -> int | None:
    """The most memory allocated during a call, above what was there before it.

    Of a CPU by torch's own allocator, which tells its profiler; what a library of matrix products takes beside it is
    not seen.
    """
    if device != "cuda":
        return _peak_of_allocations(call)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call.once()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before


def _peak_of_allocations(call: Call) -> int:
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it says when it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call.once()
    del result
    events: Any = profiler.profiler
    allocated = (event.nbytes() for event in events.kineto_results.events() if event.name() == "[memory]")
    return max(accumulate(allocated, initial=0))


def kernels(call: Call, device: str) -> int | None:
    """What a call launches on the GPU, copies and fills included."""
    if device != "cuda":
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with call.context():
        state = call.state(0)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            call.run(0, state)
            torch.cuda.synchronize()
    events = (event for event in profiler.events() or () if event.device_type == DeviceType.CUDA)
    return sum(not getattr(event, "is_user_annotation", False) for event in events)


class Tick(NamedTuple):
    joules: float
    time: float
    samples: int


class Gauge:
    """Energy, clocks, temperature and throttling of one NVIDIA GPU through NVML; says nothing where there is none."""

    def __init__(self, device: str) -> None:
        nothing: tuple[Any, Any] = (None, None)
        self._nvml, self._handle = _nvml_handle() if device == "cuda" else nothing

    def __bool__(self) -> bool:
        return self._handle is not None

    @property
    def driver(self) -> str | None:
        return self._ask(lambda nvml, _: _text(nvml.nvmlSystemGetDriverVersion()))

    @property
    def power_limit(self) -> float | None:
        milliwatts = self._ask(lambda nvml, handle: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        return None if milliwatts is None else milliwatts / 1e3

    def state(self) -> dict[str, Any]:
        return {
            "sm_mhz": self._ask(lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory_mhz": self._ask(lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "celsius": self._ask(lambda nvml, h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU)),
            "throttle_reasons": self._ask(_throttle_reasons),
        }

    def spend(self, sample: Callable[[], object], calls: int, seconds: float) -> dict[str, Any]:
        """Joules for one call, mean watts, and the GPU's state, over at least `seconds` of `sample`, of `calls` calls.

        The counter moves some ten times in a second: measuring begins and ends when it does.
        """
        start, end, samples = self._tick(sample), None, 0
        stop = time.perf_counter() + seconds
        while start is not None and time.perf_counter() < stop:
            sample()
            samples += 1
        if start is not None:
            end = self._tick(sample)
        state = self.state()  # before the device rests
        if start is None or end is None:
            return {"energy_joules": None, "power_watts": None, **state}
        joules, samples = end.joules - start.joules, samples + end.samples
        return {"energy_joules": joules / (samples * calls), "power_watts": joules / (end.time - start.time), **state}

    def _tick(self, sample: Callable[[], object]) -> Tick | None:
        """Take samples until the counter moves; None where it does not."""
        before, begin, samples = self._energy(), time.perf_counter(), 0
        while before is not None and time.perf_counter() - begin < COUNTER_SECONDS:
            sample()
            samples += 1
            joules = self._energy()
            if joules is not None and joules != before:
                return Tick(joules, time.perf_counter(), samples)
        return None

    def _energy(self) -> float | None:
        millijoules = self._ask(lambda nvml, handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return None if millijoules is None else millijoules / 1e3

    def _ask(self, question: Callable[[Any, Any], Any]) -> Any:
        if self._handle is None:
            return None
        with contextlib.suppress(self._nvml.NVMLError, AttributeError):  # not every board answers every question
            return question(self._nvml, self._handle)
        return None


def _nvml_handle() -> tuple[Any, Any]:
    """NVML counts boards, CUDA what CUDA_VISIBLE_DEVICES leaves: they agree on the board's UUID."""
    try:
        import pynvml
    except ImportError:
        return None, None
    with contextlib.suppress(pynvml.NVMLError, AttributeError):
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    return None, None


def _throttle_reasons(nvml: Any, handle: Any) -> list[str]:
    """Whatever holds the clocks down, but for having nothing to do; newer NVMLs call them event reasons."""
    new = hasattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons")
    ask = nvml.nvmlDeviceGetCurrentClocksEventReasons if new else nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    bits = ask(handle)
    return sorted({name for name, bit in _reasons(nvml) if bits & bit and name not in ("GpuIdle", "None", "All")})


def _reasons(nvml: Any) -> Iterator[tuple[str, int]]:
    for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        for name in vars(nvml):
            if name.startswith(prefix) and isinstance(getattr(nvml, name), int):
                yield name.removeprefix(prefix), getattr(nvml, name)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
