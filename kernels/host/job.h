// One operator call as a row driver sees it: operands, shape, formula. Plain data, the same for every device.
#pragma once

#include <cstdint>

#include "../math/constants.h"

namespace fastvae {

constexpr int kMaxDims = 8;  // after merging; more distinct strides than that are made contiguous first
constexpr int kMaxOperands = 8;

enum class Type : uint8_t { f32, f64, f16, bf16, u8, boolean };
enum class ScaleAs : uint8_t { log_var, log_std, var, std, softplus, count };

enum class Formula : uint8_t {
  rsample,
  rsample_backward,
  kl_standard_normal,
  kl_standard_normal_backward,
  kl_normal,
  kl_normal_backward,
  rsample_kl,
  rsample_kl_backward,
  bernoulli_log_prob,
  bernoulli_log_prob_backward,
  gaussian_log_prob,
  gaussian_log_prob_backward,
  bernoulli_log_prob_one_pass,
  gaussian_log_prob_one_pass,
  rescale,
  elbo,
  elbo_backward,
  count
};

struct Device {
  int32_t type = 0, index = 0;  // as torch numbers them
};

struct Operand {
  void* data = nullptr;  // null: an input that is `fill` everywhere, or an output nobody wants
  Type type = Type::f32;
  double fill = 0;
  bool summed = false;      // an output with one value for each row
  bool contiguous = false;  // row-major over all dimensions
  bool event_contiguous = false;
  bool event_constant = false;
  bool constant = false;
  int64_t strides[kMaxDims] = {};
};

// What a formula's last inputs are made of: noise (forward), or sums over the samples of a gradient and noise
// (backward).
enum class Sampling : uint8_t { none, noise, gradient };

struct Job {
  Formula formula = Formula::count;
  ScaleAs scale_as = ScaleAs::log_var;
  bool f64 = false;
  Constants<double> constants;

  int ndim = 0, batch_ndim = 0;
  int64_t sizes[kMaxDims] = {};
  int64_t rows = 1, cols = 1;

  int inputs = 0, outputs = 0;
  Operand input[kMaxOperands], output[kMaxOperands];
  bool weighted = false;
  Operand weight;

  Sampling sampling = Sampling::none;
  int64_t samples = 1;
  const uint64_t* seed = nullptr;  // on the operands' device
  bool has_eps = false;
  Operand eps, grad_z;  // strides of one sample
  int64_t eps_sample_stride = 0, grad_sample_stride = 0;
  double sum_scale = 1;
  const void* gate = nullptr;  // a number of the arithmetic type, on the device: where it is -1 there is nothing to do
  Device device;
};

}  // namespace fastvae
