// log p(x|z): its formulas as kernels.
#include "../math/likelihood.h"
#include "kernels.h"

void fastvae::FASTVAE_ISA::add_likelihood(Table& table) {
#include "../tables/likelihood.h"
}
