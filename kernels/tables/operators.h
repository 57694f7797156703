// Every operator in one line. The enum of formulas, each device's table and the dispatcher's kernels are made of these.
//
//   OPERATOR(name, formula, arguments)     an operator and its backward
//   LIKELIHOOD(name, formula, arguments)   the same, and a loss in one pass
//   ROWS(name, formula, arguments)         a likelihood whose formula takes whole rows, by a driver of its own
//   FORMULA(name, formula)                 a value alone, bound by hand
//
// `arguments` are the schema's behind the operands, in its order and by its names. A likelihood's begin with `weight,
// event_ndim` and a formula with a scale ends with `scale_as, scale_eps, clamp_lo, clamp_hi`: neither is written out.
// `beta` is an operand that may be missing, and is 1 then.
#include "categorical.h"
#include "counts.h"
#include "likelihood.h"
#include "objective.h"
#include "pixels.h"
#include "posterior.h"
#undef FORMULA
#undef ROWS
#undef LIKELIHOOD
#undef OPERATOR
