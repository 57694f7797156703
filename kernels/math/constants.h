// The constants of formulas, fixed for one call; each formula reads its few.
#pragma once

#include <cmath>

namespace fastvae {

template <class T>
struct Constants {
  T clamp_lo = -INFINITY, clamp_hi = INFINITY;  // bounds of what the reading of the scale clamps, see posterior.h
  T scale_eps = 0;                              // softplus: std = softplus(p) + scale_eps
  T free_bits = 0;                              // nats
  T x_scale = 1;                                // values are read as x * x_scale
  T log_normalizer = 0;                         // log(2 pi) / 2, or 0 where it is left out
  T beta = 1, share = 1;                        // weight of the KL; 1 / count where a mean is taken
};

}  // namespace fastvae
