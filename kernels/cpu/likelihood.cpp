// log p(x|z): its formulas as loops.
#include "../math/likelihood.h"

#include "loops.h"

void fastvae::FASTVAE_ISA::add_likelihood(Table& table) {
#include "../tables/likelihood.h"
}
