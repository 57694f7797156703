// The two halves put together: its formulas as kernels.
#include "../math/objective.h"
#include "kernels.h"

void fastvae::FASTVAE_ISA::add_objective(Table& table) {
#include "../tables/objective.h"
}
