"""The examples run as their texts say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastvae.backends import native
from fastvae.training.data import open_dataset

EXAMPLES = Path(__file__).parents[1] / "examples"
CMAKE = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def run(*command, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.skipif(CMAKE is None or shutil.which("c++") is None, reason="cmake or a C++ compiler was not found")
@pytest.mark.skipif(native.why_not("cpu") is not None, reason=str(native.why_not("cpu")))
def test_an_exported_encoder_runs_without_python(tmp_path):
    source = EXAMPLES / "aotinductor"
    paths = [str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    run(sys.executable, source / "export.py", tmp_path, PYTHONPATH=os.pathsep.join(paths))
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    run(CMAKE, "-S", source, "-B", tmp_path / "build", prefix)
    run(CMAKE, "--build", tmp_path / "build")
    said = run(tmp_path / "build" / "main", tmp_path, native.library("cpu"), PATH="", PYTHONHOME="/nonexistent")
    assert "z and KL of 16 samples" in said


def test_shapes_are_drawn_and_read(tmp_path):
    run(sys.executable, EXAMPLES / "shapes" / "draw.py", tmp_path, "--count", 12)
    data = open_dataset(f"images:{tmp_path}")
    assert data.image_shape == (3, 64, 64)
    labels = torch.cat([data.train.labels, data.test.labels])
    assert labels.bincount().tolist() == [4, 4, 4]
    assert (data.train.images[torch.arange(5)].flatten(1).float().std(1) > 5).all()
