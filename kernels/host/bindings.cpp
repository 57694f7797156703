// The dispatcher's kernels: each operator of fastvae/ops as a plan over its operands. Each device's library compiles
// this file under its dispatch key.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "plan.h"

namespace fastvae {

namespace {

const Tensor* get(const OptionalTensor& tensor) { return tensor.has_value() ? &*tensor : nullptr; }

// The four arguments that close every schema with a scale.
struct Reading {
  const std::string& scale_as;
  double scale_eps, clamp_lo, clamp_hi;
};

void read_scale(Plan& plan, const Reading& reading) {
  static constexpr std::string_view kNames[] = {"log_var", "log_std", "var", "std", "softplus"};
  int index = 0;
  while (index < int(ScaleAs::count) && kNames[index] != reading.scale_as) ++index;
  STD_TORCH_CHECK(index < int(ScaleAs::count), "fastvae: unknown scale_as '", reading.scale_as, "'");
  Job& job = plan.job;
  job.scale_as = ScaleAs(index);
  job.constants.scale_eps = reading.scale_eps;
  job.constants.clamp_lo = reading.clamp_lo;
  job.constants.clamp_hi = reading.clamp_hi;
}

// What a sum over events and its backward share. `grad` is null in the forward, which has no such input.
Plan event_plan(Formula formula, const OptionalTensor* grad, std::initializer_list<const Tensor*> operands,
                const OptionalTensor& weight, int64_t event_ndim) {
  std::vector<const Tensor*> shaped(operands);
  shaped.push_back(get(weight));
  Plan plan(formula, shaped, event_ndim);
  if (grad != nullptr) plan.input_of_rows(*grad);
  for (const Tensor* operand : operands) plan.input(*operand);
  plan.weight(weight);
  return plan;
}

Plan kl_plan(Formula formula, const OptionalTensor* grad, std::initializer_list<const Tensor*> operands,
             const OptionalTensor& weight, int64_t event_ndim, double free_bits, const Reading& reading) {
  Plan plan = event_plan(formula, grad, operands, weight, event_ndim);
  read_scale(plan, reading);
  plan.job.constants.free_bits = free_bits;
  return plan;
}

Plan bernoulli_plan(Formula formula, const OptionalTensor* grad, const Tensor& x, const Tensor& logits,
                    const OptionalTensor& weight, int64_t event_ndim, double x_scale) {
  Plan plan = event_plan(formula, grad, {&x, &logits}, weight, event_ndim);
  plan.job.constants.x_scale = x_scale;
  return plan;
}

Plan gaussian_plan(Formula formula, const OptionalTensor* grad, const Tensor& x, const Tensor& mean,
                   const Tensor& scale, const OptionalTensor& weight, int64_t event_ndim, double x_scale,
                   bool normalized, const Reading& reading) {
  Plan plan = event_plan(formula, grad, {&x, &mean, &scale}, weight, event_ndim);
  read_scale(plan, reading);
  plan.job.constants.x_scale = x_scale;
  plan.job.constants.log_normalizer = normalized ? 0.91893853320467274178 : 0;  // log(2 pi) / 2
  return plan;
}

Tensor computed_sum(Plan plan) {
  Tensor sum = plan.output_sum();
  plan.run();
  return sum;
}

// A gradient for each operand, empty where it is not needed.
template <class... Operands>
auto computed_grads(Plan plan, const std::vector<bool>& needs, const Operands&... operands) {
  // Braces: evaluated from left to right, as the formula's outputs stand.
  std::tuple grads{plan.output_grad(operands, needs[plan.job.outputs])...};
  plan.run();
  return grads;
}

Tensor rsample(Tensor mean, Tensor scale, OptionalTensor seed, OptionalTensor eps, int64_t num_samples,
               std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  Plan plan(Formula::rsample, {&mean, &scale}, 0, num_samples);
  read_scale(plan, {scale_as, scale_eps, clamp_lo, clamp_hi});
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
  read_scale(plan, {scale_as, scale_eps, clamp_lo, clamp_hi});
  plan.input(scale);
  plan.gradient_of_samples(grad_z, seed, eps, num_samples);
  return computed_grads(std::move(plan), needs, mean, scale);
}

Tensor kl_standard_normal(Tensor mean, Tensor scale, OptionalTensor weight, int64_t event_ndim, double free_bits,
                          std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  return computed_sum(kl_plan(Formula::kl_standard_normal, nullptr, {&mean, &scale}, weight, event_ndim, free_bits,
                              {scale_as, scale_eps, clamp_lo, clamp_hi}));
}

std::tuple<Tensor, Tensor> kl_standard_normal_backward(OptionalTensor grad_kl, Tensor mean, Tensor scale,
                                                       OptionalTensor weight, int64_t event_ndim, double free_bits,
                                                       std::string scale_as, double scale_eps, double clamp_lo,
                                                       double clamp_hi, std::vector<bool> needs) {
  return computed_grads(kl_plan(Formula::kl_standard_normal_backward, &grad_kl, {&mean, &scale}, weight, event_ndim,
                                free_bits, {scale_as, scale_eps, clamp_lo, clamp_hi}),
                        needs, mean, scale);
}

Tensor kl_normal(Tensor mean_q, Tensor scale_q, Tensor mean_p, Tensor scale_p, OptionalTensor weight,
                 int64_t event_ndim, double free_bits, std::string scale_as, double scale_eps, double clamp_lo,
                 double clamp_hi) {
  return computed_sum(kl_plan(Formula::kl_normal, nullptr, {&mean_q, &scale_q, &mean_p, &scale_p}, weight, event_ndim,
                              free_bits, {scale_as, scale_eps, clamp_lo, clamp_hi}));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> kl_normal_backward(OptionalTensor grad_kl, Tensor mean_q, Tensor scale_q,
                                                              Tensor mean_p, Tensor scale_p, OptionalTensor weight,
                                                              int64_t event_ndim, double free_bits,
                                                              std::string scale_as, double scale_eps, double clamp_lo,
                                                              double clamp_hi, std::vector<bool> needs) {
  return computed_grads(kl_plan(Formula::kl_normal_backward, &grad_kl, {&mean_q, &scale_q, &mean_p, &scale_p}, weight,
                                event_ndim, free_bits, {scale_as, scale_eps, clamp_lo, clamp_hi}),
                        needs, mean_q, scale_q, mean_p, scale_p);
}

std::tuple<Tensor, Tensor> rsample_kl(Tensor mean, Tensor scale, OptionalTensor seed, OptionalTensor eps,
                                      int64_t event_ndim, double free_bits, std::string scale_as, double scale_eps,
                                      double clamp_lo, double clamp_hi) {
  Plan plan = kl_plan(Formula::rsample_kl, nullptr, {&mean, &scale}, {}, event_ndim, free_bits,
                      {scale_as, scale_eps, clamp_lo, clamp_hi});
  plan.noise(seed, eps);
  Tensor z = plan.output(mean), kl = plan.output_sum();
  plan.run();
  return {z, kl};
}

std::tuple<Tensor, Tensor> rsample_kl_backward(OptionalTensor grad_z, OptionalTensor grad_kl, Tensor mean, Tensor scale,
                                               OptionalTensor seed, OptionalTensor eps, int64_t event_ndim,
                                               double free_bits, std::string scale_as, double scale_eps,
                                               double clamp_lo, double clamp_hi, std::vector<bool> needs) {
  Plan plan = kl_plan(Formula::rsample_kl_backward, &grad_kl, {&mean, &scale}, {}, event_ndim, free_bits,
                      {scale_as, scale_eps, clamp_lo, clamp_hi});
  plan.gradient_of_samples(grad_z, seed, eps, 0);
  return computed_grads(std::move(plan), needs, mean, scale);
}

Tensor bernoulli_log_prob(Tensor x, Tensor logits, OptionalTensor weight, int64_t event_ndim, double x_scale) {
  return computed_sum(bernoulli_plan(Formula::bernoulli_log_prob, nullptr, x, logits, weight, event_ndim, x_scale));
}

std::tuple<Tensor, Tensor> bernoulli_log_prob_backward(OptionalTensor grad_log_prob, Tensor x, Tensor logits,
                                                       OptionalTensor weight, int64_t event_ndim, double x_scale,
                                                       std::vector<bool> needs) {
  return computed_grads(
      bernoulli_plan(Formula::bernoulli_log_prob_backward, &grad_log_prob, x, logits, weight, event_ndim, x_scale),
      needs, x, logits);
}

Tensor gaussian_log_prob(Tensor x, Tensor mean, Tensor scale, OptionalTensor weight, int64_t event_ndim, double x_scale,
                         bool normalized, std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi) {
  return computed_sum(gaussian_plan(Formula::gaussian_log_prob, nullptr, x, mean, scale, weight, event_ndim, x_scale,
                                    normalized, {scale_as, scale_eps, clamp_lo, clamp_hi}));
}

std::tuple<Tensor, Tensor, Tensor> gaussian_log_prob_backward(OptionalTensor grad_log_prob, Tensor x, Tensor mean,
                                                              Tensor scale, OptionalTensor weight, int64_t event_ndim,
                                                              double x_scale, bool normalized, std::string scale_as,
                                                              double scale_eps, double clamp_lo, double clamp_hi,
                                                              std::vector<bool> needs) {
  return computed_grads(gaussian_plan(Formula::gaussian_log_prob_backward, &grad_log_prob, x, mean, scale, weight,
                                      event_ndim, x_scale, normalized, {scale_as, scale_eps, clamp_lo, clamp_hi}),
                        needs, x, mean, scale);
}

// The total of all elements, and with it a gradient for each operand, empty where it is not needed.
template <class... Operands>
auto computed_total(Plan plan, double share, const std::vector<bool>& needs, const Operands&... operands) {
  plan.job.constants.share = share;
  std::tuple results{plan.output_sum(), plan.output_grad(operands, needs[plan.job.outputs - 1])...};
  plan.run();
  return results;
}

std::tuple<Tensor, Tensor, Tensor> bernoulli_log_prob_one_pass(Tensor x, Tensor logits, OptionalTensor weight,
                                                               int64_t event_ndim, double x_scale, double share,
                                                               std::vector<bool> needs) {
  return computed_total(
      bernoulli_plan(Formula::bernoulli_log_prob_one_pass, nullptr, x, logits, weight, event_ndim, x_scale), share,
      needs, x, logits);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gaussian_log_prob_one_pass(
    Tensor x, Tensor mean, Tensor scale, OptionalTensor weight, int64_t event_ndim, double x_scale, bool normalized,
    std::string scale_as, double scale_eps, double clamp_lo, double clamp_hi, double share, std::vector<bool> needs) {
  return computed_total(gaussian_plan(Formula::gaussian_log_prob_one_pass, nullptr, x, mean, scale, weight, event_ndim,
                                      x_scale, normalized, {scale_as, scale_eps, clamp_lo, clamp_hi}),
                        share, needs, x, mean, scale);
}

void rescale_(Tensor grad, Tensor upstream) {
  Plan plan(Formula::rescale, {&grad, &upstream}, 0);
  plan.input(grad);
  plan.input(upstream);
  plan.output_into(grad);
  plan.gate(upstream);
  plan.run();
}

// The loss and its parts, and their backward. `grads` is empty in the forward.
Plan elbo_plan(Formula formula, std::initializer_list<const OptionalTensor*> grads, const Tensor& log_px,
               const Tensor& kl, const OptionalTensor& beta, double beta_value, int64_t event_ndim) {
  Plan plan(formula, {&log_px, &kl, get(beta)}, event_ndim);
  plan.job.constants.beta = beta_value;
  for (const OptionalTensor* grad : grads) plan.input_of_rows(*grad);
  plan.input(log_px);
  plan.input(kl);
  plan.input(beta, 1.0);
  return plan;
}

double share(const Plan& plan, bool mean) { return mean ? 1.0 / double(std::max<int64_t>(plan.event_size(), 1)) : 1.0; }

std::tuple<Tensor, Tensor, Tensor, Tensor> elbo(Tensor log_px, Tensor kl, OptionalTensor beta, double beta_value,
                                                int64_t event_ndim, bool mean) {
  Plan plan = elbo_plan(Formula::elbo, {}, log_px, kl, beta, beta_value, event_ndim);
  plan.job.sum_scale = share(plan, mean);
  Tensor loss = plan.output_sum(), bound = plan.output_sum(), log_likelihood = plan.output_sum();
  Tensor total_kl = plan.output_sum();
  plan.run();
  return {loss, bound, log_likelihood, total_kl};
}

std::tuple<Tensor, Tensor, Tensor> elbo_backward(OptionalTensor grad_loss, OptionalTensor grad_elbo,
                                                 OptionalTensor grad_log_likelihood, OptionalTensor grad_kl,
                                                 Tensor log_px, Tensor kl, OptionalTensor beta, double beta_value,
                                                 int64_t event_ndim, bool mean, std::vector<bool> needs) {
  Plan plan = elbo_plan(Formula::elbo_backward, {&grad_loss, &grad_elbo, &grad_log_likelihood, &grad_kl}, log_px, kl,
                        beta, beta_value, event_ndim);
  plan.job.constants.share = share(plan, mean);
  return computed_grads(std::move(plan), needs, log_px, kl, beta.has_value() ? *beta : log_px);
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
                 static_cast<int64_t*>(words.data_ptr()), in.numel() / 4, device_of(in));
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
  FASTVAE_IMPL(bernoulli_log_prob_one_pass);
  FASTVAE_IMPL(gaussian_log_prob_one_pass);
  FASTVAE_IMPL(rescale_);
  FASTVAE_IMPL(elbo);
  FASTVAE_IMPL(elbo_backward);
  FASTVAE_IMPL(philox);
#undef FASTVAE_IMPL
}
