// log p(x|z) of pixels: its formulas as loops.
#include "../math/pixels.h"

#include "loops.h"

void fastvae::FASTVAE_ISA::add_pixels(Table& table) {
#include "../tables/pixels.h"
}
