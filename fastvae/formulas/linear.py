"""A linear layer's gradients, as products of matrices."""

from __future__ import annotations

import math


def linear_gradient(grad, input, weight, bias):
    """Of input @ weight.T + bias, in the dtypes of input and weight; `grad` is [..., D]. Differentiable."""
    grad = grad.to(weight.dtype)
    grad_rows, rows = as_rows(grad), as_rows(input)
    return grad @ weight, grad_rows.t() @ rows, None if bias is None else grad_rows.sum(0)


def as_rows(tensor):
    """[..., D] as a matrix."""
    *rows, columns = tensor.shape
    return tensor.reshape(math.prod(rows), columns)
