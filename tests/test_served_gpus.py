"""Which GPUs a CUDA library serves, from what it was built for and what the driver is."""

from __future__ import annotations

import pytest
import torch

from fastvae.backends import cuda

DEFAULT = ("80-real", "86-real", "89-real", "90-real", "100-real", "120")
CODE, PTX, DRIVER = "the library was built for", "the library has PTX alone", "the driver is for CUDA"


def problem(capability, architectures=DEFAULT, driver=13000, runtime=13000):
    return cuda.problem(capability, driver, runtime, architectures)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1), (13, 0)])
def test_served_by_the_usual_build(capability):
    assert problem(capability) is None


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        ((9, 0), ["90"]),
        ((8, 7), ["80-real"]),
        ((10, 3), ["100f-real"]),
        ((9, 0), ["90a-real"]),
        ((9, 0), ["80-virtual"]),
        ((10, 3), ["100f-virtual"]),
        ((7, 5), []),
    ],
    ids=str,
)
def test_served(capability, architectures):
    assert problem(capability, architectures) is None


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        ((7, 5), DEFAULT),
        ((11, 0), DEFAULT),
        ((8, 0), ["86-real"]),
        ((10, 0), ["90-real"]),
        ((10, 0), ["90a"]),
        ((10, 3), ["100a-real"]),
        ((12, 0), ["100f"]),
        ((9, 0), ["100-virtual"]),
    ],
    ids=str,
)
def test_no_code(capability, architectures):
    major, minor = capability
    reason = problem(capability, architectures)
    assert reason.startswith(f"{CODE} {architectures[0]}")
    assert reason.endswith(
        f"for compute capability {major}.{minor}; reinstall fastvae with CUDAARCHS={major}{minor} in the environment"
    )


# CUDA's minor versions are compatible with each other; PTX of a later one is not.
@pytest.mark.parametrize(
    ("capability", "driver", "runtime", "reason"),
    [
        ((9, 0), 12080, 13000, f"{DRIVER} 12.8, the library needs one for 13.0"),
        ((9, 0), 0, 13000, f"{DRIVER} 0.0, the library needs one for 13.0"),
        ((9, 0), 12000, 12080, None),
        ((9, 0), 13010, 12080, None),
        ((13, 0), 13000, 13010, f"for compute capability 13.0 {PTX}, which needs a driver for CUDA 13.1"),
        ((13, 0), 13010, 13010, None),
        ((13, 0), 14000, 13010, None),
    ],
)
def test_drivers(capability, driver, runtime, reason):
    found = problem(capability, driver=driver, runtime=runtime)
    assert found is None if reason is None else found.startswith(reason)


def test_an_architecture_is_one_that_cmake_writes():
    with pytest.raises(ValueError, match="'sm_90' is no architecture"):
        cuda.parsed("sm_90")


@pytest.mark.parametrize(
    ("capabilities", "reason"),
    [([], None), ([(9, 0), (8, 0)], None), ([(9, 0), (7, 5)], f"cuda:1: {CODE} 80-real, 90")],
    ids=["none", "all", "one of two"],
)
def test_all_gpus_are_served_or_none(monkeypatch, capabilities, reason):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capabilities[i])
    told = {"fastvae_cuda_versions": "13000 13000", "fastvae_cuda_architectures": "80-real 90"}
    found = cuda.why_not(told.__getitem__)
    assert found is None if reason is None else found.startswith(reason)
