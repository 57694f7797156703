// log p(x|z) of counts: its formulas as loops.
#include "../math/counts.h"

#include "loops.h"

void fastvae::FASTVAE_ISA::add_counts(Table& table) {
#include "../tables/counts.h"
}
