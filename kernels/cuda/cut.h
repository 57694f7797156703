// How a job is cut for a GPU, by its shape alone.
#pragma once

#include "cut_job.h"

namespace fastvae {

struct Cut {
  CutJob job;
  Fate fate[kMaxOutputs] = {};   // of the outputs
  Sums in_parts, sums;           // of the terms that the kernel leaves; the first where they are very many
  int64_t at[kMaxOutputs] = {};  // where an output's terms begin in the memory for them, -1: it leaves none
  int64_t memory = 0;            // that is needed, in numbers of the arithmetic type
};

Cut cut(const Job& planned);

// To be called before the launches, with what `cut` has asked for.
void give_memory(Cut& cut, void* memory);

}  // namespace fastvae
