// One operator call as a row driver sees it: operands, shape, formula. Plain data, the same for every device.
#pragma once

#include <cstdint>

#include "../math/formula.h"

namespace fastvae {

constexpr int kMaxDims = 8;  // after merging; more distinct strides than that are made contiguous first
constexpr int kMaxOperands = 8;
constexpr int kMaxOutputs = 5;

enum class Type : uint8_t { f32, f64, i64, f16, bf16, u8, boolean, i8, i16, i32 };
enum class ScaleAs : uint8_t {
#define SCALE_AS(name, Read) name,
#include "../tables/scale_as.h"
#undef SCALE_AS
  count
};

enum class Formula : uint8_t {
#define FORMULA(name, ...) name,
#define OPERATOR FORMULA
#define LIKELIHOOD FORMULA
#define ROWS FORMULA
#include "../tables/operators.h"
  count
};

constexpr bool is_of_rows(Formula formula) {
#define FORMULA(...)
#define OPERATOR(...)
#define LIKELIHOOD(...)
#define ROWS(name, ...) || formula == Formula::name
  return false
#include "../tables/operators.h"
      ;
}

FASTVAE_FN int log_bytes(Type type) {
  constexpr uint32_t kLogs = 2 | 3 << 2 | 3 << 4 | 1 << 6 | 1 << 8 | 1 << 16 | 2 << 18;  // two bits for each type
  return int(kLogs >> (2 * int(type))) & 3;
}

struct Device {
  int32_t type = 0, index = 0;  // as torch numbers them
};

struct Operand {
  void* data = nullptr;  // null: an input that is `fill` everywhere, or an output nobody wants
  Type type = Type::f32;
  double fill = 0;
  bool summed = false;      // an output with one value for each row
  bool shared = false;      // an output with one value for several elements: summed along its strides of 0
  bool contiguous = false;  // row-major over all dimensions
  bool event_contiguous = false;
  bool event_constant = false;
  bool row_constant = false;
  bool constant = false;
  int64_t strides[kMaxDims] = {};
};

// What a formula's last inputs are made of: noise (forward), or sums over the samples of a gradient and noise
// (backward).
enum class Sampling : uint8_t { none, noise, gradient };

struct Job {
  Formula formula = Formula::count;
  Direction direction = Direction::value;
  ScaleAs scale_as = ScaleAs::log_var;
  bool f64 = false;
  Constants<double> constants;

  int ndim = 0, batch_ndim = 0;
  int64_t sizes[kMaxDims] = {};
  int64_t rows = 1, cols = 1;
  int64_t sums = 1, rows_per_sum = 1;  // of what is summed over a row: several rows may be one that was cut

  int inputs = 0, outputs = 0;
  Operand input[kMaxOperands], output[kMaxOutputs];
  bool weighted = false;
  Operand weight;

  Sampling sampling = Sampling::none;
  int64_t samples = 1;
  const uint64_t* seed = nullptr;  // on the operands' device
  bool has_eps = false;
  Operand eps, grad_z;  // strides of one sample
  int64_t eps_sample_stride = 0, grad_sample_stride = 0;
  double sum_scale = 1;                   // of what is summed over a row
  const void* skip_if_minus_1 = nullptr;  // a number of the arithmetic type, on the device: at -1 nothing is done
  Device device;
};

FASTVAE_FN bool is_summed(const Operand& output) { return output.summed && output.data != nullptr; }
FASTVAE_FN bool is_shared(const Operand& output) { return output.shared && output.data != nullptr; }

template <class T>
FASTVAE_FN bool is_skipped(const Job& job) {
  return job.skip_if_minus_1 != nullptr && *static_cast<const T*>(job.skip_if_minus_1) == T(-1);
}

template <class T>
FASTVAE_FN void store_sum(const Job& job, const Operand& output, int64_t row, double total) {
  static_cast<T*>(output.data)[row] = static_cast<T>(total * job.sum_scale);
}

}  // namespace fastvae
