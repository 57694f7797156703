// log p(x|z) of classes. See operators.h.
ROWS(multinomial_log_prob, MultinomialLogProb, normalized)
ROWS(categorical_log_prob, CategoricalLogProb, )
