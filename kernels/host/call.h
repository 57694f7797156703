// A call of an operator in one direction: what follows from its formula and its line in kernels/tables.
#pragma once

#include <initializer_list>

#include "../math/categorical.h"
#include "../math/counts.h"
#include "../math/likelihood.h"
#include "../math/objective.h"
#include "../math/pixels.h"
#include "../math/posterior.h"
#include "job.h"

namespace fastvae {

// Arguments that no formula reads: name in the schemas, type.
#define FASTVAE_ARGUMENTS(ARGUMENT) \
  ARGUMENT(beta, OptionalTensor)    \
  ARGUMENT(weight, OptionalTensor)  \
  ARGUMENT(seed, OptionalTensor)    \
  ARGUMENT(eps, OptionalTensor)     \
  ARGUMENT(num_samples, int64_t)    \
  ARGUMENT(dim, int64_t)            \
  ARGUMENT(event_ndim, int64_t)     \
  ARGUMENT(averaged, bool)          \
  ARGUMENT(scale_as, ScaleAs)       \
  ARGUMENT(needs, std::vector<bool>)

namespace argument {
#define FASTVAE_NAME(name, value) name,
enum Name {
  FASTVAE_ARGUMENTS(FASTVAE_NAME) FASTVAE_CONSTANTS(FASTVAE_NAME, FASTVAE_NAME, FASTVAE_NAME, FASTVAE_NAME) count
};
}  // namespace argument

struct Call {
  const char* name;
  Formula formula;
  Direction direction = Direction::value;
  bool samples = false;
  bool packed = false;  // the operands are the halves of one tensor along `dim`, and so are their gradients
  int grads = 0, tensors = 0, operands = 0;  // what comes first: gradients, operands, the last of which may be `beta`
  int reads = 0, values = 0, gradients = 0;  // reads and differentiates so many operands, the last
  int num_names = 0;
  argument::Name names[argument::count] = {};  // what comes behind

  constexpr int results() const { return packed ? 1 : values + gradients; }
  constexpr void add(std::initializer_list<argument::Name> more) {
    for (argument::Name added : more) names[num_names++] = added, tensors -= added == argument::beta;
  }
};

template <template <class> class Directed, class F>
constexpr Call described(Call call, std::initializer_list<argument::Name> names, bool has_scale) {
  using namespace FASTVAE_ISA;
  using D = Directed<F>;
  call.direction = D::direction;
  call.samples = kSamples<F>;
  call.grads = D::direction == Direction::gradient ? Value<F>::outputs : 0;
  call.operands = call.tensors = Value<F>::inputs - Value<F>::sampled;
  call.reads = D::inputs - D::sampled - D::first_tensor;
  call.gradients = D::direction == Direction::value ? 0 : Gradient<F>::outputs;
  call.values = D::outputs - call.gradients;
  call.add(names);
  if (has_scale) call.add({argument::scale_as, argument::scale_eps, argument::clamp_lo, argument::clamp_hi});
  if (D::direction == Direction::one_pass) call.add({argument::factor});
  if (D::direction != Direction::value) call.add({argument::needs});
  return call;
}

template <template <class> class Directed, template <class> class F>
constexpr Call describe(const char* name, Formula formula, std::initializer_list<argument::Name> names) {
  return described<Directed, F<float>>({name, formula}, names, false);
}
template <template <class> class Directed, template <class, class> class F>
constexpr Call describe(const char* name, Formula formula, std::initializer_list<argument::Name> names) {
  return described<Directed, F<float, FASTVAE_ISA::LogVar>>({name, formula}, names, true);
}

// A backward whose operands lie packed: all gradients are needed.
constexpr Call packed(Call call) {
  call.packed = true;
  call.tensors = 1;
  --call.num_names;
  return call;
}

}  // namespace fastvae
