// The constants of formulas, fixed for one call; each formula reads its few. What a schema holds bears its name there.
#pragma once

#include "platform.h"

namespace fastvae {

// All of them: (name, default). USUAL and SWITCH: loops are compiled once more for calls where all of these have that
// value. SWITCH and FLAG: a bool in the schema, 0 or 1 here.
#define FASTVAE_CONSTANTS(USUAL, SWITCH, NUMBER, FLAG)                                           \
  USUAL(clamp_lo, -INFINITY) /* bounds of what is clamped of a scale, see scale.h */             \
  USUAL(clamp_hi, INFINITY)                                                                      \
  USUAL(free_bits, 0) /* nats */                                                                 \
  USUAL(x_scale, 1)   /* values are read as x * x_scale */                                       \
  SWITCH(log_rate, 1) /* Poisson's parameter is the rate's logarithm */                          \
  SWITCH(log_mean, 0) /* what is read as a mean is its logarithm */                              \
  SWITCH(odds, 0)     /* and times the dispersion */                                             \
  SWITCH(log_dispersion, 0)                                                                      \
  SWITCH(log_scale, 0)                                                                           \
  NUMBER(scale_eps, 0)  /* softplus: std = softplus(p) + scale_eps */                            \
  NUMBER(half_bin, 0)   /* half the width of a bin that a discretized density is taken over */   \
  NUMBER(beta_value, 1) /* weight of the KL */                                                   \
  NUMBER(factor, 1)     /* what each element adds to a total: 1 / count where a mean is taken */ \
  FLAG(normalized, 0)   /* whether what depends on no operand is part of a log-density */

#define FASTVAE_FIELD(name, value) T name = value;
#define FASTVAE_CONVERT(name, value) name = T(from.name);
#define FASTVAE_COMPARE(name, value) &&name == T(value)
#define FASTVAE_SET(name, value) name = T(value);
#define FASTVAE_PASS_OVER(name, value)

// Functions are inlined always: an instruction set must not call another's copy.
template <class T>
struct Constants {
  FASTVAE_CONSTANTS(FASTVAE_FIELD, FASTVAE_FIELD, FASTVAE_FIELD, FASTVAE_FIELD)

  Constants() = default;
  template <class From>
  FASTVAE_FN explicit Constants(const Constants<From>& from){
      FASTVAE_CONSTANTS(FASTVAE_CONVERT, FASTVAE_CONVERT, FASTVAE_CONVERT, FASTVAE_CONVERT)}

  FASTVAE_FN bool is_usual() const {
    return true FASTVAE_CONSTANTS(FASTVAE_COMPARE, FASTVAE_COMPARE, FASTVAE_PASS_OVER, FASTVAE_PASS_OVER);
  }
  // Tells the compiler what `is_usual` has found.
  FASTVAE_FN void make_usual() { FASTVAE_CONSTANTS(FASTVAE_SET, FASTVAE_SET, FASTVAE_PASS_OVER, FASTVAE_PASS_OVER) }
};

}  // namespace fastvae
