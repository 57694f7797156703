"""Written by tools/polynomials.py: change the table there, then run it.

Minimax (Remez) fits, coefficients from the constant term up, rounded to their type. Of the errors beside each,
the first is the largest of these coefficients and the second that of the fit before they were rounded. "Adopted":
not the fit's coefficients rounded, but others, kept so that no result changes.
"""

# lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2) = v p(v^2) for 0 <= v <= 1/4.
# Error 2.9e-18 of 1, before rounding 2.3e-18.
STIRLING_IN_DOUBLE = (
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
# log(1/v) - v / 2 - digamma(1/v) = v^2 p(v^2) for 0 <= v <= 1/4.
# Error 5.6e-17 of this, before rounding 3.7e-17.
DIGAMMA_IN_DOUBLE = (
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
# log(sinh(y / 2) / (y / 2)) = y^2 p(y^2) for 0 <= y <= 1.
# Error 2.5e-18 of y^2, before rounding 2.4e-18.
LOG_SINHC_IN_DOUBLE = (
    0.041666666666666664,
    -0.0003472222222219897,
    5.511463841063643e-06,
    -1.0333992459750413e-07,
    2.0876110802786638e-09,
    -4.3939326321541865e-11,
    8.85216614010115e-13,
)
# coth(y / 2) / 2 - 1 / y = y p(y^2) for 0 <= y <= 1.
# Error 4.3e-17 of y, before rounding 3.8e-17.
LANGEVIN_IN_DOUBLE = (
    0.0833333333333333,
    -0.0013888888888852076,
    3.306878300965724e-05,
    -8.267192203380869e-07,
    2.0875732432144585e-08,
    -5.269017288516357e-10,
    1.2258351079039934e-11,
)
