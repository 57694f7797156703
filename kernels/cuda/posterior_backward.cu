// q(z|x): the gradients. A file of its own, since these take longest to compile.
#include "../math/posterior.h"
#include "kernels.h"

#undef OPERATOR
#define OPERATOR(name, F, ...) table.add<Gradient, F>(Formula::name);

void fastvae::FASTVAE_ISA::add_posterior_backward(Table& table) {
#include "../tables/posterior.h"
}
