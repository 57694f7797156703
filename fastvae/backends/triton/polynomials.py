"""Written by tools/polynomials.py: change the table there, then run it.

Minimax (Remez) fits in float32, coefficients from the constant term up. Of the errors beside each, the first is the
largest of these coefficients and the second that of the fit before they were rounded. "Adopted": not the fit's
coefficients rounded, but others, kept so that no result changes.
"""

import triton.language as tl

# e^r - 1 = r + r^2 p(r) for |r| <= ln 2 / 2.
# Error 4.3e-9 of e^r, before rounding 3.1e-9. Adopted.
EXP = tl.constexpr((0.49999994, 0.166665196, 0.0416683927, 0.0083687799, 0.00138144696))
# log(1 + f) = f - f^2 / 2 + f^3 p(f) for sqrt(1/2) <= 1 + f <= sqrt(2).
# Error 6.5e-9 of f, before rounding 5.9e-9. Adopted.
LOG = tl.constexpr(
    (0.333333164, -0.250008076, 0.200022861, -0.166245967, 0.141812131, -0.131284028, 0.128814057, -0.0786021054)
)
# log(1 + y) = y p(y) for 0 <= y <= 1.
# Error 6.5e-8 of log(1 + y), before rounding 3.1e-8. Adopted.
LOG1P = tl.constexpr(
    (0.99999994, -0.49999493, 0.33319098, -0.24842982, 0.19106007, -0.13663246, 0.07822596, -0.02950524, 0.00523269)
)
# sin(pi / 2 f) = f p(f^2) for |f| <= 1/2.
# Error 5.3e-8 of f, before rounding 4.9e-9.
SINE = tl.constexpr((1.57079637, -0.64596349, 0.0796802267, -0.00460217707))
# cos(pi / 2 f) = p(f^2) for |f| <= 1/2.
# Error 6.7e-9 of 1, before rounding 4.8e-11.
COSINE = tl.constexpr((1.0, -1.23370051, 0.253669202, -0.0208600722, 0.000903631677))
# -2 log(1 - v) = v p(v) for 0 <= v <= 1/32.
# Error 5.3e-7 of v, before rounding 5.1e-7.
SQUARED_RADIUS = tl.constexpr((2.0000005, 0.9997135, 0.69083345))
