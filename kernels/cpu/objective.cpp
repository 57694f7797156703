// The two halves put together: its formulas, in the table of this device.
#define FASTVAE_FAMILIES "../cpu/families.h"
#include "../tables/objective.h"
