// The two halves put together: its formulas, float and double. The device says what an entry is.
#pragma once

#include FASTVAE_FAMILIES

#include "../math/objective.h"

namespace fastvae::FASTVAE_ISA {

void add_objective(Table& table) {
  add<Elbo>(table, Formula::elbo);
  add<ElboBackward>(table, Formula::elbo_backward);
}

}  // namespace fastvae::FASTVAE_ISA
