// The dispatcher's kernels of a mixture of discretized logistics: from tensors to a job over samples, batch and pixels.
#include <limits>
#include <tuple>

#include "../host/bind.h"
#include "../host/tensors.h"
#include "mixture_job.h"

namespace fastvae {

namespace {

using torch::headeronly::ScalarType;
using Needs = std::vector<bool>;                               // of the gradients of
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // x, mixture_logits, mean, log_scale

// Which dimensions of [*samples, B, K, C, *pixels] a tensor has; all have B.
struct Has {
  bool samples, components, channels, pixels;
};
constexpr Has kX{false, false, true, true}, kLogits{true, true, false, true}, kParameter{true, true, true, true},
    kWeight{true, false, false, true}, kLogProb{true, false, false, false};

int64_t product(const Shape& sizes) {
  int64_t result = 1;
  for (int64_t size : sizes) result *= size;
  return result;
}

// Dimensions come from the outermost on.
void add_dimension(MixtureOperand& operand, int64_t size, int64_t stride) {
  int last = operand.ndim - 1;
  if (size == 1 || (last < 0 && stride == 0)) return;
  if (last >= 0 && operand.strides[last] == size * stride) {
    operand.sizes[last] *= size;
    operand.strides[last] = stride;
  } else {
    operand.sizes[operand.ndim] = size;
    operand.strides[operand.ndim++] = stride;
  }
}

class Mixture {
 public:
  Mixture(Direction direction, const Tensor& x, const Tensor& logits, const Tensor& mean, const Tensor& log_scale,
          const OptionalTensor& weight, double x_scale, double half_bin)
      : x_(x), logits_(logits), mean_(mean), log_scale_(log_scale), device_(device_of(logits)) {
    auto sizes = logits.sizes();
    int64_t pixels_ndim = x.dim() - 2, batch_ndim = logits.dim() - 1 - pixels_ndim;
    STD_TORCH_CHECK(pixels_ndim >= 0 && batch_ndim >= 1 && batch_ndim + 2 + pixels_ndim <= kMaxDims, kMisfit);
    batch_.assign(sizes.begin(), sizes.begin() + batch_ndim);
    pixels_.assign(sizes.end() - pixels_ndim, sizes.end());
    job_.direction = direction;
    job_.constants.x_scale = x_scale;
    job_.constants.half_bin = half_bin;
    job_.components = logits.size(batch_ndim);
    job_.channels = x.size(1);
    job_.batch = batch_.back();
    job_.samples = product(Shape(batch_.begin(), batch_.end() - 1));
    job_.pixels = product(pixels_);
    for (const Tensor* tensor : {&x, &logits, &mean, &log_scale, get(weight)})
      job_.f64 = job_.f64 || (tensor != nullptr && tensor->scalar_type() == ScalarType::Double);
    job_.x = operand(x, kX);
    job_.logits = operand(logits, kLogits);
    job_.mean = operand(mean, kParameter);
    job_.log_scale = operand(log_scale, kParameter);
    if (weight.has_value()) job_.weight = operand(*weight, kWeight);
  }

  Tensor log_prob() { return computed(batch_); }

  Gradients backward(const Tensor& grad, const Needs& needs) {
    job_.grad = operand(grad, kLogProb);
    Gradients grads = gradients(needs);
    compute_mixture(job_, nullptr);
    return grads;
  }

  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> one_pass(double factor, const Needs& needs) {
    job_.constants.factor = factor;
    Gradients grads = gradients(needs);
    return std::tuple_cat(std::make_tuple(computed({})), grads);
  }

 private:
  static constexpr const char* kMisfit = "fastvae: a mixture's operands do not fit together";

  const Tensor &x_, &logits_, &mean_, &log_scale_;
  const Device device_;
  Shape batch_, pixels_;  // [*samples, B]
  MixtureJob job_;

  ScalarType accumulate_dtype() const { return job_.f64 ? ScalarType::Double : ScalarType::Float; }

  Tensor computed(const Shape& shape) {
    Tensor result = empty(shape, accumulate_dtype(), device_);
    compute_mixture(job_, result.data_ptr());
    return result;
  }

  MixtureOperand operand(const Tensor& tensor, Has has) const {
    STD_TORCH_CHECK(is_on(device_, tensor), "fastvae: all operands must be on one device");
    int64_t at = 0;
    auto stride_of = [&](bool there, int64_t size) -> int64_t {
      if (!there) return 0;
      STD_TORCH_CHECK(at < tensor.dim() && tensor.size(at) == size, kMisfit);
      return tensor.stride(at++);
    };
    MixtureOperand result;
    result.data = tensor.data_ptr();
    result.type = type_of(tensor);
    for (size_t d = 0; d < batch_.size(); ++d)
      add_dimension(result, batch_[d], stride_of(has.samples || d + 1 == batch_.size(), batch_[d]));
    result.component = stride_of(has.components, job_.components);
    result.channel = stride_of(has.channels, job_.channels);
    for (int64_t size : pixels_) add_dimension(result, size, stride_of(has.pixels, size));
    STD_TORCH_CHECK(at == tensor.dim(), kMisfit);
    if (result.ndim == 0) result.sizes[result.ndim++] = std::numeric_limits<int64_t>::max();  // one element for all
    return result;
  }

  // In the operands' dtypes, x's in that of arithmetic, since it is summed; empty where none is needed.
  Gradients gradients(const Needs& needs) {
    STD_TORCH_CHECK(needs.size() == 4, "fastvae: `needs` is one bool for each gradient");
    auto gradient = [&](bool needed, const Tensor& of, ScalarType dtype, Has has, MixtureOperand& into) {
      if (!needed) return empty({0}, logits_.scalar_type(), device_);
      auto sizes = of.sizes();
      Tensor grad = empty(Shape(sizes.begin(), sizes.end()), dtype, device_);
      into = operand(grad, has);
      return grad;
    };
    return {gradient(needs[0], x_, accumulate_dtype(), kX, job_.grad_x),
            gradient(needs[1], logits_, logits_.scalar_type(), kLogits, job_.grad_logits),
            gradient(needs[2], mean_, mean_.scalar_type(), kParameter, job_.grad_mean),
            gradient(needs[3], log_scale_, log_scale_.scalar_type(), kParameter, job_.grad_log_scale)};
  }
};

Tensor log_prob(Tensor x, Tensor logits, Tensor mean, Tensor log_scale, OptionalTensor weight, double x_scale,
                double half_bin) {
  return Mixture(Direction::value, x, logits, mean, log_scale, weight, x_scale, half_bin).log_prob();
}

Gradients backward(Tensor grad, Tensor x, Tensor logits, Tensor mean, Tensor log_scale, OptionalTensor weight,
                   double x_scale, double half_bin, Needs needs) {
  return Mixture(Direction::gradient, x, logits, mean, log_scale, weight, x_scale, half_bin).backward(grad, needs);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> one_pass(Tensor x, Tensor logits, Tensor mean, Tensor log_scale,
                                                            OptionalTensor weight, double x_scale, double half_bin,
                                                            double factor, Needs needs) {
  return Mixture(Direction::one_pass, x, logits, mean, log_scale, weight, x_scale, half_bin).one_pass(factor, needs);
}

}  // namespace
}  // namespace fastvae

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  using namespace fastvae;
  bind(m, "discretized_logistic_mixture_log_prob", TORCH_BOX(&log_prob));
  bind(m, "discretized_logistic_mixture_log_prob_backward", TORCH_BOX(&backward));
  bind(m, "discretized_logistic_mixture_log_prob_one_pass", TORCH_BOX(&one_pass));
}
