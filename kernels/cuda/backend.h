// The kernels as the host sees them.
#pragma once

#include "../host/row_job.h"
#include "cut_job.h"

namespace fastvae {

using Launch = void (*)(const CutJob& job, int64_t blocks, void* stream);

Launch kernel_of(const CutJob& job);
void launch_sums_of(const Sums& sums, bool f64, void* stream);
void launch_rows(const RowJob& job, void* stream);
void launch_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, void* stream);
void launch_normals(const uint64_t* seed, float* out, int64_t count, void* stream);

}  // namespace fastvae
