// log p(x|z): its formulas, in the table of this device.
#define FASTVAE_FAMILIES "../cuda/families.h"
#include "../tables/likelihood.h"
