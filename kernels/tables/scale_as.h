// How a scale parameter is read: what the schemas call it, and its struct in math/scale.h.
SCALE_AS(log_var, LogVar)
SCALE_AS(log_std, LogStd)
SCALE_AS(var, Var)
SCALE_AS(std, Std)
SCALE_AS(softplus, Softplus)
