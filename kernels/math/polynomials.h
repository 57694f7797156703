// Written by tools/polynomials.py: change the table there, then run it.
//
// Minimax (Remez) fits in float32, coefficients from the constant term up. Of the errors beside each, the first is the
// largest of these coefficients and the second that of the fit before they were rounded. "Adopted": not the fit's
// coefficients rounded, but others, kept so that no result changes.
#pragma once

#include "platform.h"

namespace fastvae::FASTVAE_ISA {

// e^r - 1 = r + r^2 p(r) for |r| <= ln 2 / 2.
// Error 4.3e-9 of e^r, before rounding 3.1e-9. Adopted.
FASTVAE_FN float exp_polynomial(float r) {
  return polynomial(r, 0.49999994f, 0.166665196f, 0.0416683927f, 0.0083687799f, 0.00138144696f);
}

// log(1 + f) = f - f^2 / 2 + f^3 p(f) for sqrt(1/2) <= 1 + f <= sqrt(2).
// Error 6.5e-9 of f, before rounding 5.9e-9. Adopted.
FASTVAE_FN float log_polynomial(float f) {
  return polynomial(f, 0.333333164f, -0.250008076f, 0.200022861f, -0.166245967f, 0.141812131f, -0.131284028f,
                    0.128814057f, -0.0786021054f);
}

// log(1 + y) = y p(y) for 0 <= y <= 1.
// Error 3.0e-8 of log(1 + y), before rounding 4.8e-9. Adopted.
FASTVAE_FN float log1p_polynomial(float y) {
  return polynomial(y, 1.0f, -0.499999017f, 0.333299637f, -0.249541342f, 0.196759388f, -0.153055921f, 0.106036544f,
                    -0.0569595285f, 0.0198514592f, -0.0032440247f);
}

// sin(pi / 2 f) = f p(f^2) for |f| <= 1/2.
// Error 5.3e-8 of f, before rounding 4.9e-9.
FASTVAE_FN float sine_polynomial(float f2) {
  return polynomial(f2, 1.57079637f, -0.64596349f, 0.0796802267f, -0.00460217707f);
}

// cos(pi / 2 f) = p(f^2) for |f| <= 1/2.
// Error 6.7e-9 of 1, before rounding 4.8e-11.
FASTVAE_FN float cosine_polynomial(float f2) {
  return polynomial(f2, 1.0f, -1.23370051f, 0.253669202f, -0.0208600722f, 0.000903631677f);
}

// -2 log(1 - v) = v p(v) for 0 <= v <= 1/32.
// Error 5.3e-7 of v, before rounding 5.1e-7.
FASTVAE_FN float squared_radius_polynomial(float v) { return polynomial(v, 2.0000005f, 0.9997135f, 0.69083345f); }

}  // namespace fastvae::FASTVAE_ISA
