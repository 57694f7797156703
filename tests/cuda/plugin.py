"""A pytest plugin: CPU tensors go through the CUDA kernels' sources, compiled for the host."""

import os

import torch

import fastvae  # noqa: F401  defines the operators that the library overrides

torch.ops.load_library(os.environ["FASTVAE_EMULATED"])
