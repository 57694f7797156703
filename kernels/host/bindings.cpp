// The dispatcher's kernels: each operator of kernels/tables as a plan over its operands. Each device's library compiles
// this file under its dispatch key.
#include <algorithm>
#include <string>
#include <string_view>

#include "bind.h"
#include "call.h"
#include "plan.h"

namespace fastvae {

namespace {

using torch::stable::detail::from;
using torch::stable::detail::to;

// What a call was given.
struct Given : Constants<double> {
  OptionalTensor grads[kMaxOutputs], operands[kMaxOperands], packed;
#define FASTVAE_MEMBER(name, Type) Type name = {};
  FASTVAE_ARGUMENTS(FASTVAE_MEMBER)
};

template <class T>
void take(StableIValue value, T& into) {
  into = to<T>(value);
}

// ScaleAs::count where the name is unknown. Not by to<std::string>, which never frees what it has read.
void take(StableIValue value, ScaleAs& into) {
  static constexpr std::string_view kNames[] = {
#define SCALE_AS(name, Read) #name,
#include "../tables/scale_as.h"
#undef SCALE_AS
  };
  StringHandle handle = to<StringHandle>(value);
  const char* text = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &text));
  into = ScaleAs(std::find(std::begin(kNames), std::end(kNames), text) - kNames);
  STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
}

void take(argument::Name argument, StableIValue value, Given& given) {
  switch (argument) {
#define FASTVAE_TAKE(name, ...) \
  case argument::name:          \
    return take(value, given.name);
#define FASTVAE_FLAG(name, usual) \
  case argument::name:            \
    return static_cast<void>(given.name = to<bool>(value));
    FASTVAE_ARGUMENTS(FASTVAE_TAKE)
    FASTVAE_CONSTANTS(FASTVAE_TAKE, FASTVAE_FLAG, FASTVAE_TAKE, FASTVAE_FLAG)
    case argument::count:
      return;
  }
}

Tensor half(const Tensor& packed, int64_t dim, int64_t which) {
  Tensor whole = packed;
  STD_TORCH_CHECK(dim >= 0 && dim < whole.dim() && whole.size(dim) % 2 == 0, "fastvae: packed has no halves along dim");
  return torch::stable::narrow(whole, dim, which * (whole.size(dim) / 2), whole.size(dim) / 2);
}

void unpack(Given& given) {
  given.packed = std::move(given.operands[0]);
  for (int k = 0; k < 2; ++k) given.operands[k] = half(*given.packed, given.dim, k);
  given.needs = {true, true};
}

// Arguments are ours to free once they are taken off the stack: all are, before any is looked at.
Given take_all(const Call& call, const StableIValue* stack) {
  Given given;
  for (int k = 0; k < call.grads; ++k) take(*stack++, given.grads[k]);
  for (int k = 0; k < call.tensors; ++k) given.operands[k] = to<Tensor>(*stack++);
  for (int k = 0; k < call.num_names; ++k) take(call.names[k], *stack++, given);
  if (call.packed) unpack(given);
  else if (call.tensors < call.operands) given.operands[call.tensors] = given.beta;
  return given;
}

Plan plan_of(const Call& call, const Given& given) {
  std::vector<const Tensor*> shaped;
  shaped.reserve(call.operands + 1);
  for (int k = 0; k < call.operands; ++k) shaped.push_back(get(given.operands[k]));
  shaped.push_back(get(given.weight));
  return {call.formula, call.direction, shaped, given.event_ndim, given.num_samples};
}

// In the order of the formula's inputs.
void add_inputs(Plan& plan, const Call& call, const Given& given) {
  for (int k = call.samples; k < call.grads; ++k) plan.input_of_rows(given.grads[k]);
  for (int k = call.operands - call.reads; k < call.operands; ++k) plan.input(get(given.operands[k]), 1);
  plan.weight(given.weight);
  if (call.samples) plan.samples(given.grads[0], given.seed, given.eps);
}

std::vector<Tensor> add_outputs(Plan& plan, const Call& call, const Given& given) {
  std::vector<Tensor> results;
  results.reserve(call.results());
  if (call.packed) {
    results.push_back(new_like(*given.packed));
    for (int k = 0; k < call.gradients; ++k) plan.add_output(half(results[0], given.dim, k), false);
    return results;
  }
  const Tensor& like = *given.operands[0];
  for (int k = 0; k < call.values; ++k) results.push_back(k < call.samples ? plan.output(like) : plan.output_sum());
  for (int k = 0; k < call.gradients; ++k) {
    const Tensor* operand = get(given.operands[call.operands - call.gradients + k]);
    results.push_back(plan.output_grad(operand == nullptr ? like : *operand, given.needs[k]));
  }
  return results;
}

void run(const Call& call, StableIValue* stack, uint64_t num_args, uint64_t num_outputs) {
  STD_TORCH_CHECK(int(num_args) == call.grads + call.tensors + call.num_names && int(num_outputs) == call.results(),
                  "fastvae: ", call.name, " has another schema than its kernel");
  Given given = take_all(call, stack);
  STD_TORCH_CHECK(given.scale_as != ScaleAs::count, "fastvae: unknown scale_as");
  STD_TORCH_CHECK(int(given.needs.size()) == call.gradients, "fastvae: `needs` is one bool for each gradient");
  Plan plan = plan_of(call, given);
  plan.job.scale_as = given.scale_as;
  plan.job.constants = given;
  if (given.averaged) plan.average();
  add_inputs(plan, call, given);
  std::vector<Tensor> results = add_outputs(plan, call, given);
  plan.run();
  for (const Tensor& result : results) *stack++ = from(result);
}

template <const Call& call>
void kernel(StableIValue* stack, uint64_t num_args, uint64_t num_outputs) {
  run(call, stack, num_args, num_outputs);
}

void rescale_(Tensor grad, Tensor upstream) {
  Plan plan(Formula::rescale, Direction::value, {&grad, &upstream}, 0);
  plan.input(&upstream);
  plan.input(&grad);
  plan.add_output(grad, false);
  plan.skip_if_minus_1(upstream);
  plan.run();
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

Tensor normals(Tensor seed, int64_t count) {
  STD_TORCH_CHECK(is_seed(seed), "fastvae: seed is one int64 element");
  STD_TORCH_CHECK(count >= 0, "fastvae: count must not be negative, got ", count);
  Tensor out = empty({count}, torch::headeronly::ScalarType::Float, device_of(seed));
  compute_normals(static_cast<const uint64_t*>(seed.data_ptr()), static_cast<float*>(out.data_ptr()), count,
                  device_of(seed));
  return out;
}

}  // namespace
}  // namespace fastvae

STABLE_TORCH_LIBRARY_IMPL(fastvae, FASTVAE_DISPATCH_KEY, m) {
  using namespace fastvae;
  using namespace fastvae::argument;
#define FASTVAE_KERNEL(op, suffix, D, F, ...)                                                                      \
  {                                                                                                                \
    static constexpr Call call = describe<FASTVAE_ISA::D, FASTVAE_ISA::F>(#op suffix, Formula::op, {__VA_ARGS__}); \
    bind(m, call.name, kernel<call>);                                                                              \
  }
#define OPERATOR(name, F, ...)                    \
  FASTVAE_KERNEL(name, "", Value, F, __VA_ARGS__) \
  FASTVAE_KERNEL(name, "_backward", Gradient, F, __VA_ARGS__)
#define LIKELIHOOD(name, F, ...)                     \
  OPERATOR(name, F, weight, event_ndim, __VA_ARGS__) \
  FASTVAE_KERNEL(name, "_one_pass", OnePass, F, weight, event_ndim, __VA_ARGS__)
#define ROWS LIKELIHOOD
#define FORMULA(...)
#include "../tables/operators.h"
  static constexpr Call packed_backward = packed(describe<FASTVAE_ISA::Gradient, FASTVAE_ISA::RsampleKl>(
      "rsample_kl_packed_backward", Formula::rsample_kl, {seed, eps, dim, event_ndim, free_bits}));
  bind(m, packed_backward.name, kernel<packed_backward>);
  bind(m, "rescale_", TORCH_BOX(&rescale_));
  bind(m, "philox", TORCH_BOX(&philox));
  bind(m, "normals", TORCH_BOX(&normals));
}

// For the registry: the operators that this library has kernels for.
extern "C" __attribute__((visibility("default"))) const char* fastvae_operators() { return fastvae::bound().c_str(); }
