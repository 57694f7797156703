"""Reports that never ran: noise as real runs have it, or as much as one likes."""

from __future__ import annotations

import json
import zlib

import numpy as np

from fastvae.measure.reports import document

VARIANTS = {"native": "fused", "eager": "naive", "compiled": "naive", "distributions": "naive"}
OPERATORS = ("bernoulli_log_prob", "gaussian_log_prob", "rsample_kl", "kl_standard_normal")
SIZES = ([128, 20], [1024, 64], [128, 784], [1024, 784], [4096, 784], [512, 12288])
MACHINE = {"cpu": "an abacus", "torch": "2.13.0", "load average before": "0.1"}


def samples(random, base, noise, rounds):
    """Rounds that drift (AR(1)), now and then one that something disturbed, and an offset of the run as a whole."""
    log, state = [], 0.0
    for _ in range(rounds):
        state = 0.7 * state + noise * random.standard_normal()
        log.append(state + (abs(random.standard_normal()) if random.random() < 0.03 else 0.0))
    return base * np.exp(np.array(log) + noise * random.standard_normal())


def report(seed, noise=0.015, rounds=36, slowed=None, machine=MACHINE, operators=OPERATORS):
    """`slowed` maps (operator, variant) to a factor."""
    random, benchmarks = np.random.default_rng(seed), []
    for operator in operators:
        for shape in SIZES:
            case = f"{operator} {'x'.join(map(str, shape))} fp32 forward+backward"
            case_factor = np.exp(noise * random.standard_normal())
            for variant, role in VARIANTS.items():
                base = 1e-5 * (1 + zlib.crc32(f"{case} {variant}".encode()) % 1000) * case_factor
                base *= (slowed or {}).get((operator, variant), 1.0)
                benchmarks.append(entry(case, operator, shape, variant, role, samples(random, base, noise, rounds)))
    benchmarks.append(entry("floor copy", "copy", [1], "copy", "floor", samples(random, 1e-3, noise, rounds), "floor"))
    return wrap(benchmarks, machine)


def entry(case, operator, shape, variant, role, data, kind="operator"):
    info = {
        "kind": kind, "case": case, "variant": variant, "role": role, "operator": operator, "shape": shape,
        "size": "x".join(map(str, shape)), "dtype": "fp32", "direction": "forward+backward", "layout": "contiguous",
        "target": "float", "samples": None, "elements": int(np.prod(shape)), "bytes": 8 * int(np.prod(shape)),
        "saved_bytes": 0, "what": "a copy",
    }  # fmt: skip
    data = [float(sample) for sample in data]
    p20, median, p80 = (float(p) for p in np.percentile(data, (20, 50, 80)))
    info |= {"p20": p20, "p80": p80, "gb_per_s": info["bytes"] / median / 1e9}
    return {"name": f"{case} {variant}", "extra_info": info, "stats": {"data": data, "median": median}}


def wrap(benchmarks, machine=MACHINE):
    return {
        document.SCHEMA: document.VERSION,
        "suite": "quick",
        "device": "cpu",
        "wrong": [],
        "complete": True,
        "machine_info": machine,
        "commit_info": {"id": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "benchmarks": benchmarks,
    }


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
