"""q(z|x): samples and KL divergences, element by element, and their gradients."""

from __future__ import annotations

import triton
import triton.language as tl

from ...ops import posterior as ops
from .elementary import exponentials, log, scaled
from .launch import register
from .registry import FUNCTIONS, implements
from .scale import kl_of_var, kl_slope, read_scale, standardized


@triton.jit
def rsample(c, mean, scale, eps):
    """z = mean + std * eps (Kingma & Welling 2014, eq. 9)."""
    std = read_scale(c, scale).std
    std = tl.where((eps == 0.0) & (std == float("inf")), 0.0, std)  # no noise, though std be infinite
    return tl.fma(std, eps, mean)


@triton.jit
def rsample_gradient(c, mean, scale, grad, grad_eps):
    return grad, scaled(grad_eps, read_scale(c, scale).d_std)


@triton.jit
def kl_standard_normal(c, mean, scale):
    """(mean^2 + var - 1 - log var) / 2 (Kingma & Welling 2014, appendix B)."""
    return _floored(c, _kl(mean, read_scale(c, scale).kl))


@triton.jit
def kl_standard_normal_gradient(c, grad, mean, scale):
    s = read_scale(c, scale)
    kl = _kl(mean, s.kl)
    grad_scale = scaled(grad, kl_slope(c, s, s.var_minus_1, 1.0))
    return _above_floor(c, scaled(grad, mean), kl), _above_floor(c, grad_scale, kl)


@triton.jit
def kl_normal(c, mean_q, scale_q, mean_p, scale_p):
    """(((mean_q - mean_p) / std_p)^2 + r - 1 - log r) / 2 with r = var_q / var_p."""
    q, p = read_scale(c, scale_q), read_scale(c, scale_p)
    _r_minus_1, kl = _var_ratio(c, q, p)
    return _floored(c, _kl(standardized(mean_q - mean_p, p.inv_std), kl))


@triton.jit
def kl_normal_gradient(c, grad, mean_q, scale_q, mean_p, scale_p):
    q, p = read_scale(c, scale_q), read_scale(c, scale_p)
    r_minus_1, kl = _var_ratio(c, q, p)
    u = standardized(mean_q - mean_p, p.inv_std)
    kl = _kl(u, kl)
    grad_mean = _above_floor(c, scaled(grad, standardized(u, p.inv_std)), kl)
    grad_scale_q = scaled(grad, kl_slope(c, q, r_minus_1, p.inv_std))
    slope_p = -0.5 * tl.fma(u, u, r_minus_1) * p.d_log_var
    grad_scale_p = tl.where(p.d_log_var == 0.0, 0.0, scaled(grad, slope_p))
    return grad_mean, _above_floor(c, grad_scale_q, kl), -grad_mean, _above_floor(c, grad_scale_p, kl)


@triton.jit
def rsample_kl(c, mean, scale, eps):
    return rsample(c, mean, scale, eps), kl_standard_normal(c, mean, scale)


@triton.jit
def rsample_kl_gradient(c, grad_kl, mean, scale, grad, grad_eps):
    of_z = rsample_gradient(c, mean, scale, grad, grad_eps)
    of_kl = kl_standard_normal_gradient(c, grad_kl, mean, scale)
    # Of two infinities the KL's is the larger: it goes as a variance does, the sample's as a standard deviation.
    larger = (tl.abs(of_kl[1]) == float("inf")) & (of_z[1] == of_z[1])
    return of_z[0] + of_kl[0], tl.where(larger, of_kl[1], of_z[1] + of_kl[1])


@triton.jit
def _kl(u, kl_of_scale):
    return 0.5 * tl.fma(u, u, kl_of_scale)


@triton.jit
def _var_ratio(c, q, p):
    """r - 1 and r - 1 - log r of r = var_q / var_p."""
    if c.scale_as == "log_var" or c.scale_as == "log_std":
        e = exponentials(q.log_var - p.log_var)
        return e.expm1, e.expm1_minus_t
    else:
        # These have no logarithm to subtract that would not cancel.
        ratio = q.std / p.std
        in_range = (ratio > 1e-37) & (ratio < 1e37)
        log_r = tl.where(in_range, 2.0 * log(ratio), q.log_var - p.log_var)
        return (ratio - 1.0) * (ratio + 1.0), kl_of_var(ratio * ratio, log_r)


@triton.jit
def _floored(c, kl):
    return kl if c.free_bits is None else tl.where(kl <= c.free_bits, c.free_bits, kl)


@triton.jit
def _above_floor(c, grad, kl):
    return grad if c.free_bits is None else tl.where(kl <= c.free_bits, 0.0, grad)


register(ops.RSAMPLE, rsample, rsample_gradient)
register(ops.KL_STANDARD_NORMAL, kl_standard_normal, kl_standard_normal_gradient)
register(ops.KL_NORMAL, kl_normal, kl_normal_gradient)
register(ops.RSAMPLE_KL, rsample_kl, rsample_kl_gradient)

# Two gradients, then one tensor of them.
implements(ops.RSAMPLE_KL_PACKED.backward)(ops.RSAMPLE_KL_PACKED.in_halves(FUNCTIONS[ops.RSAMPLE_KL.backward.name]))
