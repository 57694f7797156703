// q(z|x): its formulas as loops.
#include "../math/posterior.h"

#include "loops.h"

void fastvae::FASTVAE_ISA::add_posterior(Table& table) {
#include "../tables/posterior.h"
}
