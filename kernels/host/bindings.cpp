// The dispatcher's kernels: each operator of fastvae/ops as a plan over its operands. Each device's library compiles
// this file under its dispatch key.
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "plan.h"

namespace fastvae {

namespace {

const Tensor* get(const OptionalTensor& tensor) { return tensor.has_value() ? &*tensor : nullptr; }

// How the scale is read: the four arguments that close every schema with a scale.
void read_scale(Plan& plan, const std::string& scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  static constexpr std::string_view kNames[] = {"log_var", "log_std", "var", "std", "softplus"};
  int reading = 0;
  while (reading < int(ScaleAs::count) && kNames[reading] != scale_as) ++reading;
  STD_TORCH_CHECK(reading < int(ScaleAs::count), "fastvae: unknown scale_as '", scale_as, "'");
  Job& job = plan.job;
  job.scale_as = ScaleAs(reading);
  job.constants.scale_eps = scale_eps;
  // Bounds come on the log-variance; the formulas clamp what they read.
  auto bound = [&](double b) {
    if (job.scale_as == ScaleAs::log_var || std::isinf(b)) return b;
    if (job.scale_as == ScaleAs::log_std) return b / 2;
    return std::exp(job.scale_as == ScaleAs::var ? b : b / 2);
  };
  job.constants.clamp_lo = bound(clamp_lo);
  job.constants.clamp_hi = bound(clamp_hi);
}

Tensor rsample(Tensor mean, Tensor scale, OptionalTensor seed, OptionalTensor eps, int64_t num_samples,
               std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  Plan plan(Formula::rsample, {&mean, &scale}, 0, num_samples);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.input(mean);
  plan.input(scale);
  plan.noise(seed, eps);
  Tensor z = plan.output(mean);
  plan.run();
  return z;
}

std::tuple<Tensor, Tensor> rsample_backward(OptionalTensor grad_z, Tensor mean, Tensor scale, OptionalTensor seed,
                                            OptionalTensor eps, int64_t num_samples, std::string scale_as,
                                            double scale_eps, double clamp_lo, double clamp_hi,
                                            std::vector<bool> needs) {
  Plan plan(Formula::rsample_backward, {&mean, &scale}, 0);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.input(scale);
  plan.gradient_of_samples(grad_z, seed, eps, num_samples);
  Tensor grad_mean = plan.output_grad(mean, needs[0]), grad_scale = plan.output_grad(scale, needs[1]);
  plan.run();
  return {grad_mean, grad_scale};
}

Tensor kl_standard_normal(Tensor mean, Tensor scale, OptionalTensor weight, int64_t event_ndim, double free_bits,
                          std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  Plan plan(Formula::kl_standard_normal, {&mean, &scale, get(weight)}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.free_bits = free_bits;
  plan.input(mean);
  plan.input(scale);
  plan.weight(weight);
  Tensor kl = plan.output_sum();
  plan.run();
  return kl;
}

std::tuple<Tensor, Tensor> kl_standard_normal_backward(OptionalTensor grad_kl, Tensor mean, Tensor scale,
                                                       OptionalTensor weight, int64_t event_ndim, double free_bits,
                                                       std::string scale_as, double scale_eps, double clamp_lo,
                                                       double clamp_hi, std::vector<bool> needs) {
  Plan plan(Formula::kl_standard_normal_backward, {&mean, &scale, get(weight)}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.free_bits = free_bits;
  plan.input_of_rows(grad_kl);
  plan.input(mean);
  plan.input(scale);
  plan.weight(weight);
  Tensor grad_mean = plan.output_grad(mean, needs[0]), grad_scale = plan.output_grad(scale, needs[1]);
  plan.run();
  return {grad_mean, grad_scale};
}

Tensor kl_normal(Tensor mean_q, Tensor scale_q, Tensor mean_p, Tensor scale_p, OptionalTensor weight,
                 int64_t event_ndim, double free_bits, std::string scale_as, double scale_eps, double clamp_lo,
                 double clamp_hi) {
  Plan plan(Formula::kl_normal, {&mean_q, &scale_q, &mean_p, &scale_p, get(weight)}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.free_bits = free_bits;
  for (const Tensor* tensor : {&mean_q, &scale_q, &mean_p, &scale_p}) plan.input(*tensor);
  plan.weight(weight);
  Tensor kl = plan.output_sum();
  plan.run();
  return kl;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> kl_normal_backward(OptionalTensor grad_kl, Tensor mean_q, Tensor scale_q,
                                                              Tensor mean_p, Tensor scale_p, OptionalTensor weight,
                                                              int64_t event_ndim, double free_bits,
                                                              std::string scale_as, double scale_eps, double clamp_lo,
                                                              double clamp_hi, std::vector<bool> needs) {
  Plan plan(Formula::kl_normal_backward, {&mean_q, &scale_q, &mean_p, &scale_p, get(weight)}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.free_bits = free_bits;
  plan.input_of_rows(grad_kl);
  for (const Tensor* tensor : {&mean_q, &scale_q, &mean_p, &scale_p}) plan.input(*tensor);
  plan.weight(weight);
  Tensor grad_mean_q = plan.output_grad(mean_q, needs[0]), grad_scale_q = plan.output_grad(scale_q, needs[1]);
  Tensor grad_mean_p = plan.output_grad(mean_p, needs[2]), grad_scale_p = plan.output_grad(scale_p, needs[3]);
  plan.run();
  return {grad_mean_q, grad_scale_q, grad_mean_p, grad_scale_p};
}

std::tuple<Tensor, Tensor> rsample_kl(Tensor mean, Tensor scale, OptionalTensor seed, OptionalTensor eps,
                                      int64_t event_ndim, double free_bits, std::string scale_as, double scale_eps,
                                      double clamp_lo, double clamp_hi) {
  Plan plan(Formula::rsample_kl, {&mean, &scale}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.free_bits = free_bits;
  plan.input(mean);
  plan.input(scale);
  plan.noise(seed, eps);
  Tensor z = plan.output(mean), kl = plan.output_sum();
  plan.run();
  return {z, kl};
}

std::tuple<Tensor, Tensor> rsample_kl_backward(OptionalTensor grad_z, OptionalTensor grad_kl, Tensor mean, Tensor scale,
                                               OptionalTensor seed, OptionalTensor eps, int64_t event_ndim,
                                               double free_bits, std::string scale_as, double scale_eps,
                                               double clamp_lo, double clamp_hi, std::vector<bool> needs) {
  Plan plan(Formula::rsample_kl_backward, {&mean, &scale}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.free_bits = free_bits;
  plan.input_of_rows(grad_kl);
  plan.input(mean);
  plan.input(scale);
  plan.gradient_of_samples(grad_z, seed, eps, 0);
  Tensor grad_mean = plan.output_grad(mean, needs[0]), grad_scale = plan.output_grad(scale, needs[1]);
  plan.run();
  return {grad_mean, grad_scale};
}

Tensor bernoulli_log_prob(Tensor x, Tensor logits, OptionalTensor weight, int64_t event_ndim, double x_scale) {
  Plan plan(Formula::bernoulli_log_prob, {&x, &logits, get(weight)}, event_ndim);
  plan.job.constants.x_scale = x_scale;
  plan.input(x);
  plan.input(logits);
  plan.weight(weight);
  Tensor log_prob = plan.output_sum();
  plan.run();
  return log_prob;
}

std::tuple<Tensor, Tensor> bernoulli_log_prob_backward(OptionalTensor grad_log_prob, Tensor x, Tensor logits,
                                                       OptionalTensor weight, int64_t event_ndim, double x_scale,
                                                       std::vector<bool> needs) {
  Plan plan(Formula::bernoulli_log_prob_backward, {&x, &logits, get(weight)}, event_ndim);
  plan.job.constants.x_scale = x_scale;
  plan.input_of_rows(grad_log_prob);
  plan.input(x);
  plan.input(logits);
  plan.weight(weight);
  Tensor grad_x = plan.output_grad(x, needs[0]), grad_logits = plan.output_grad(logits, needs[1]);
  plan.run();
  return {grad_x, grad_logits};
}

Tensor gaussian_log_prob(Tensor x, Tensor mean, Tensor scale, OptionalTensor weight, int64_t event_ndim, double x_scale,
                         bool normalized, std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  Plan plan(Formula::gaussian_log_prob, {&x, &mean, &scale, get(weight)}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.x_scale = x_scale;
  plan.job.constants.log_normalizer = normalized ? 0.91893853320467274178 : 0;  // log(2 pi) / 2
  plan.input(x);
  plan.input(mean);
  plan.input(scale);
  plan.weight(weight);
  Tensor log_prob = plan.output_sum();
  plan.run();
  return log_prob;
}

std::tuple<Tensor, Tensor, Tensor> gaussian_log_prob_backward(OptionalTensor grad_log_prob, Tensor x, Tensor mean,
                                                              Tensor scale, OptionalTensor weight, int64_t event_ndim,
                                                              double x_scale, bool /*normalized*/, std::string scale_as,
                                                              double scale_eps, double clamp_lo, double clamp_hi,
                                                              std::vector<bool> needs) {
  Plan plan(Formula::gaussian_log_prob_backward, {&x, &mean, &scale, get(weight)}, event_ndim);
  read_scale(plan, scale_as, scale_eps, clamp_lo, clamp_hi);
  plan.job.constants.x_scale = x_scale;
  plan.input_of_rows(grad_log_prob);
  plan.input(x);
  plan.input(mean);
  plan.input(scale);
  plan.weight(weight);
  Tensor grad_x = plan.output_grad(x, needs[0]), grad_mean = plan.output_grad(mean, needs[1]);
  Tensor grad_scale = plan.output_grad(scale, needs[2]);
  plan.run();
  return {grad_x, grad_mean, grad_scale};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> elbo(Tensor log_px, Tensor kl, OptionalTensor beta, double beta_value,
                                                int64_t event_ndim, bool mean) {
  Plan plan(Formula::elbo, {&log_px, &kl, get(beta)}, event_ndim);
  plan.job.constants.beta = beta_value;
  plan.job.sum_scale = mean ? 1.0 / double(std::max<int64_t>(plan.event_size(), 1)) : 1.0;
  plan.input(log_px);
  plan.input(kl);
  plan.input(beta, 1.0);
  Tensor loss = plan.output_sum(), bound = plan.output_sum(), log_likelihood = plan.output_sum();
  Tensor total_kl = plan.output_sum();
  plan.run();
  return {loss, bound, log_likelihood, total_kl};
}

std::tuple<Tensor, Tensor, Tensor> elbo_backward(OptionalTensor grad_loss, OptionalTensor grad_elbo,
                                                 OptionalTensor grad_log_likelihood, OptionalTensor grad_kl,
                                                 Tensor log_px, Tensor kl, OptionalTensor beta, double beta_value,
                                                 int64_t event_ndim, bool mean, std::vector<bool> needs) {
  Plan plan(Formula::elbo_backward, {&log_px, &kl, get(beta)}, event_ndim);
  plan.job.constants.beta = beta_value;
  plan.job.constants.share = mean ? 1.0 / double(std::max<int64_t>(plan.event_size(), 1)) : 1.0;
  for (const OptionalTensor* grad : {&grad_loss, &grad_elbo, &grad_log_likelihood, &grad_kl}) plan.input_of_rows(*grad);
  plan.input(log_px);
  plan.input(kl);
  plan.input(beta, 1.0);
  Tensor grad_log_px = plan.output_grad(log_px, needs[0]), grad_of_kl = plan.output_grad(kl, needs[1]);
  Tensor grad_beta = plan.output_grad(beta.has_value() ? *beta : log_px, needs[2]);
  plan.run();
  return {grad_log_px, grad_of_kl, grad_beta};
}

Tensor philox(Tensor counter, Tensor key) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(counter.scalar_type() == ScalarType::Long && key.scalar_type() == ScalarType::Long &&
                      key.numel() == 2 && counter.dim() > 0 && counter.size(counter.dim() - 1) == 4,
                  "fastvae: philox takes int64 words, counter [..., 4] and key [2]");
  Tensor in = torch::stable::contiguous(counter), words = new_like(in);
  Tensor key_words = torch::stable::contiguous(key);
  STD_TORCH_CHECK(is_on(device_of(in), key_words), "fastvae: all operands must be on one device");
  compute_philox(static_cast<const int64_t*>(in.data_ptr()), static_cast<const int64_t*>(key_words.data_ptr()),
                 static_cast<int64_t*>(words.data_ptr()), in.numel() / 4, device_of(in).index);
  return words;
}

}  // namespace
}  // namespace fastvae

STABLE_TORCH_LIBRARY_IMPL(fastvae, FASTVAE_DISPATCH_KEY, m) {
#define FASTVAE_IMPL(name) m.impl(#name, TORCH_BOX(&fastvae::name))
  FASTVAE_IMPL(rsample);
  FASTVAE_IMPL(rsample_backward);
  FASTVAE_IMPL(kl_standard_normal);
  FASTVAE_IMPL(kl_standard_normal_backward);
  FASTVAE_IMPL(kl_normal);
  FASTVAE_IMPL(kl_normal_backward);
  FASTVAE_IMPL(rsample_kl);
  FASTVAE_IMPL(rsample_kl_backward);
  FASTVAE_IMPL(bernoulli_log_prob);
  FASTVAE_IMPL(bernoulli_log_prob_backward);
  FASTVAE_IMPL(gaussian_log_prob);
  FASTVAE_IMPL(gaussian_log_prob_backward);
  FASTVAE_IMPL(elbo);
  FASTVAE_IMPL(elbo_backward);
  FASTVAE_IMPL(philox);
#undef FASTVAE_IMPL
}
