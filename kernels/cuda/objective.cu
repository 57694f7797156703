// The two halves put together: its formulas, float and double.
#include "../math/objective.h"
#include "families.h"

namespace fastvae::FASTVAE_ISA {

void add_objective(Table& table) {
  add<Elbo>(table, Formula::elbo);
  add<ElboBackward>(table, Formula::elbo_backward);
}

}  // namespace fastvae::FASTVAE_ISA
