// Written by tools/polynomials.py: change the table there, then run it.
//
// Minimax (Remez) fits, coefficients from the constant term up, rounded to their type. Of the errors beside each,
// the first is the largest of these coefficients and the second that of the fit before they were rounded. "Adopted":
// not the fit's coefficients rounded, but others, kept so that no result changes.
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

// lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2) = v p(v^2) for 0 <= v <= 1.
// Error 1.1e-8 of 1, before rounding 8.4e-9.
FASTVAE_FN float stirling_polynomial(float v2) {
  return polynomial(v2, 0.0833332166f, -0.00277373684f, 0.00075244531f, -0.000390734116f, 0.000183827593f,
                    -4.35577167e-05f);
}

// lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2) = v p(v^2) for 0 <= v <= 1/4.
// Error 2.9e-18 of 1, before rounding 2.3e-18.
FASTVAE_FN double stirling_polynomial(double v2) {
  return polynomial(v2, 0.08333333333333316, -0.00277777777760417, 0.0007936507426034539, -0.0005952312223023921,
                    0.0008412428673488764, -0.0018949406197207295, 0.0057754505863073236, -0.017917574375011586,
                    0.034574669023715164);
}

// log(1/v) - v / 2 - digamma(1/v) = v^2 p(v^2) for 0 <= v <= 1.
// Error 6.0e-7 of this, before rounding 5.6e-7.
FASTVAE_FN float digamma_polynomial(float v2) {
  return polynomial(v2, 0.0833332837f, -0.0083276704f, 0.00385197578f, -0.0031793986f, 0.00262947124f, -0.00145089661f,
                    0.00035893984f);
}

// log(1/v) - v / 2 - digamma(1/v) = v^2 p(v^2) for 0 <= v <= 1/4.
// Error 5.6e-17 of this, before rounding 3.7e-17.
FASTVAE_FN double digamma_polynomial(double v2) {
  return polynomial(v2, 0.08333333333333333, -0.008333333333321124, 0.003968253960047134, -0.0041666645044635235,
                    0.007575462730572984, -0.021068975318436513, 0.08210202761801881, -0.4004975871243245,
                    2.0167467191778936, -7.996699509152712, 16.661614517487397);
}

// log(sinh(y / 2) / (y / 2)) = y^2 p(y^2) for 0 <= y <= 1.
// Error 3.8e-9 of y^2, before rounding 3.2e-9.
FASTVAE_FN float log_sinhc_polynomial(float y2) {
  return polynomial(y2, 0.0416666642f, -0.000347166002f, 5.36015023e-06f);
}

// log(sinh(y / 2) / (y / 2)) = y^2 p(y^2) for 0 <= y <= 1.
// Error 2.5e-18 of y^2, before rounding 2.4e-18.
FASTVAE_FN double log_sinhc_polynomial(double y2) {
  return polynomial(y2, 0.041666666666666664, -0.0003472222222219897, 5.511463841063643e-06, -1.0333992459750413e-07,
                    2.0876110802786638e-09, -4.3939326321541865e-11, 8.85216614010115e-13);
}

// coth(y / 2) / 2 - 1 / y = y p(y^2) for 0 <= y <= 1.
// Error 2.8e-8 of y, before rounding 2.5e-8.
FASTVAE_FN float langevin_polynomial(float y2) {
  return polynomial(y2, 0.083333306f, -0.00138844282f, 3.18654966e-05f);
}

// coth(y / 2) / 2 - 1 / y = y p(y^2) for 0 <= y <= 1.
// Error 4.3e-17 of y, before rounding 3.8e-17.
FASTVAE_FN double langevin_polynomial(double y2) {
  return polynomial(y2, 0.0833333333333333, -0.0013888888888852076, 3.306878300965724e-05, -8.267192203380869e-07,
                    2.0875732432144585e-08, -5.269017288516357e-10, 1.2258351079039934e-11);
}

}  // namespace fastvae::FASTVAE_ISA
