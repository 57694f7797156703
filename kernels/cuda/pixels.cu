// log p(x|z) of pixels: its formulas as kernels.
#include "../math/pixels.h"
#include "kernels.h"

void fastvae::FASTVAE_ISA::add_pixels(Table& table) {
#include "../tables/pixels.h"
}
