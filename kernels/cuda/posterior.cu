// q(z|x): its formulas as kernels, values alone.
#include "../math/posterior.h"
#include "kernels.h"

#undef OPERATOR
#define OPERATOR(name, F, ...) table.add<Value, F>(Formula::name);

void fastvae::FASTVAE_ISA::add_posterior(Table& table) {
#include "../tables/posterior.h"
}
