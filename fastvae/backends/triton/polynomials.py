"""Written by tools/polynomials.py: change the table there, then run it.

Minimax (Remez) fits, coefficients from the constant term up, rounded to their type. Of the errors beside each,
the first is the largest of these coefficients and the second that of the fit before they were rounded. "Adopted":
not the fit's coefficients rounded, but others, kept so that no result changes.
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
# lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2) = v p(v^2) for 0 <= v <= 1.
# Error 1.1e-8 of 1, before rounding 8.4e-9.
STIRLING = tl.constexpr((0.0833332166, -0.00277373684, 0.00075244531, -0.000390734116, 0.000183827593, -4.35577167e-05))
# lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2) = v p(v^2) for 0 <= v <= 1/4.
# Error 2.9e-18 of 1, before rounding 2.3e-18.
STIRLING_IN_DOUBLE = tl.constexpr(
    (
        0.08333333333333316,
        -0.00277777777760417,
        0.0007936507426034539,
        -0.0005952312223023921,
        0.0008412428673488764,
        -0.0018949406197207295,
        0.0057754505863073236,
        -0.017917574375011586,
        0.034574669023715164,
    )
)
# log(1/v) - v / 2 - digamma(1/v) = v^2 p(v^2) for 0 <= v <= 1.
# Error 6.0e-7 of this, before rounding 5.6e-7.
DIGAMMA = tl.constexpr(
    (0.0833332837, -0.0083276704, 0.00385197578, -0.0031793986, 0.00262947124, -0.00145089661, 0.00035893984)
)
# log(1/v) - v / 2 - digamma(1/v) = v^2 p(v^2) for 0 <= v <= 1/4.
# Error 5.6e-17 of this, before rounding 3.7e-17.
DIGAMMA_IN_DOUBLE = tl.constexpr(
    (
        0.08333333333333333,
        -0.008333333333321124,
        0.003968253960047134,
        -0.0041666645044635235,
        0.007575462730572984,
        -0.021068975318436513,
        0.08210202761801881,
        -0.4004975871243245,
        2.0167467191778936,
        -7.996699509152712,
        16.661614517487397,
    )
)
# log(sinh(y / 2) / (y / 2)) = y^2 p(y^2) for 0 <= y <= 1.
# Error 3.8e-9 of y^2, before rounding 3.2e-9.
LOG_SINHC = tl.constexpr((0.0416666642, -0.000347166002, 5.36015023e-06))
# log(sinh(y / 2) / (y / 2)) = y^2 p(y^2) for 0 <= y <= 1.
# Error 2.5e-18 of y^2, before rounding 2.4e-18.
LOG_SINHC_IN_DOUBLE = tl.constexpr(
    (
        0.041666666666666664,
        -0.0003472222222219897,
        5.511463841063643e-06,
        -1.0333992459750413e-07,
        2.0876110802786638e-09,
        -4.3939326321541865e-11,
        8.85216614010115e-13,
    )
)
# coth(y / 2) / 2 - 1 / y = y p(y^2) for 0 <= y <= 1.
# Error 2.8e-8 of y, before rounding 2.5e-8.
LANGEVIN = tl.constexpr((0.083333306, -0.00138844282, 3.18654966e-05))
# coth(y / 2) / 2 - 1 / y = y p(y^2) for 0 <= y <= 1.
# Error 4.3e-17 of y, before rounding 3.8e-17.
LANGEVIN_IN_DOUBLE = tl.constexpr(
    (
        0.0833333333333333,
        -0.0013888888888852076,
        3.306878300965724e-05,
        -8.267192203380869e-07,
        2.0875732432144585e-08,
        -5.269017288516357e-10,
        1.2258351079039934e-11,
    )
)
