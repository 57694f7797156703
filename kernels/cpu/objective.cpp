// The two halves put together: its formulas as loops.
#include "../math/objective.h"

#include "loops.h"

void fastvae::FASTVAE_ISA::add_objective(Table& table) {
#include "../tables/objective.h"
}
