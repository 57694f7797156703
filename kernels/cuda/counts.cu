// log p(x|z) of counts: its formulas as kernels.
#include "../math/counts.h"
#include "kernels.h"

void fastvae::FASTVAE_ISA::add_counts(Table& table) {
#include "../tables/counts.h"
}
