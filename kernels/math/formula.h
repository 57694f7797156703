// A formula is one struct of two functions of elements, inputs by value and outputs by reference:
//
//   value(constants, operands..., [noise], outputs...)
//   gradient(constants, gradients of summed outputs..., operands..., [sums over samples], gradients of operands...)
//
// `samples = true` says that the first output is a sample: what stands in brackets is then there, and nothing of that
// output among the gradients. The sums are those of its gradient, and of its gradient times noise. A gradient may leave
// out the first operands, where it reads them and where it returns. What a loop must know is read off the signatures.
#pragma once

#include <type_traits>
#include <utility>

#include "constants.h"

namespace fastvae {
enum class Direction : uint8_t { value, gradient, one_pass, count };
}

namespace fastvae::FASTVAE_ISA {

template <class Function>
struct Signature;
template <class Constants, class... Elements>
struct Signature<void(Constants, Elements...)> {
  static constexpr int outputs = (... + int(std::is_reference_v<Elements>));
  static constexpr int inputs = int(sizeof...(Elements)) - outputs;
};

template <class F, class = void>
constexpr bool kSamples = false;
template <class F>
constexpr bool kSamples<F, std::enable_if_t<F::samples>> = true;

// `long_winded = true` says that many intermediate values are alive at once.
template <class F, class = void>
constexpr bool kLongWinded = false;
template <class F>
constexpr bool kLongWinded<F, std::enable_if_t<F::long_winded>> = true;

// `serial = true` says that its operations are many and wait for one another.
template <class F, class = void>
constexpr bool kSerial = false;
template <class F>
constexpr bool kSerial<F, std::enable_if_t<F::serial>> = true;

// `crowded = true` says that its value takes more registers than its operands tell.
template <class F, class = void>
constexpr bool kCrowded = false;
template <class F>
constexpr bool kCrowded<F, std::enable_if_t<F::crowded>> = true;

// `AtZero` and `NotZero` are formulas that give the same bits where the first tensor is 0 and where it is not, for
// less; F itself where there are none.
template <class F, class = void>
struct Split {
  using AtZero = F;
  using NotZero = F;
};
template <class F>
struct Split<F, std::void_t<typename F::AtZero, typename F::NotZero>> {
  using AtZero = typename F::AtZero;
  using NotZero = typename F::NotZero;
};

// `numbers` says how many of a value's inputs, the first, are one number for all elements.
template <class F, class = void>
constexpr int kNumbers = 0;
template <class F>
constexpr int kNumbers<F, std::enable_if_t<(F::numbers > 0)>> = F::numbers;

// A function of a formula, over inputs and outputs in arrays.
template <auto function, class Counts = Signature<std::remove_pointer_t<decltype(function)>>,
          class Inputs = std::make_index_sequence<Counts::inputs>,
          class Outputs = std::make_index_sequence<Counts::outputs>>
struct OfArrays;
template <auto function, class Counts, size_t... I, size_t... O>
struct OfArrays<function, Counts, std::index_sequence<I...>, std::index_sequence<O...>> : Counts {
  template <class T>
  static FASTVAE_FN void at(const Constants<T>& c, const T* x, T* y) {
    function(c, x[I]..., y[O]...);
  }
};

// A formula in one direction. Of the inputs the caller's tensors stand from `first_tensor` on, up to the last
// `sampled`. The outputs from `first_optional` on may be left uncomputed where nobody wants them.
template <class F>
struct Value : OfArrays<&F::value> {
  using AtZero = Value<typename Split<F>::AtZero>;
  using NotZero = Value<typename Split<F>::NotZero>;
  static constexpr Direction direction = Direction::value;
  static constexpr bool long_winded = kLongWinded<F>, serial = kSerial<F>;
  static constexpr int sampled = kSamples<F> ? 1 : 0;
  static constexpr int first_tensor = kNumbers<F>, first_optional = Value::outputs;
};

template <class F>
struct Gradient : OfArrays<&F::gradient> {
  using AtZero = Gradient<typename Split<F>::AtZero>;
  using NotZero = Gradient<typename Split<F>::NotZero>;
  static constexpr Direction direction = Direction::gradient;
  static constexpr bool long_winded = kLongWinded<F>, serial = kSerial<F>;
  static constexpr int sampled = kSamples<F> ? 2 : 0;
  static constexpr int first_tensor = Value<F>::outputs - Value<F>::sampled, first_optional = Gradient::outputs;
};

// Of a likelihood: few want the gradient of x, which may cost more than the others together.
template <class F>
struct LikelihoodGradient : Gradient<F> {
  using AtZero = LikelihoodGradient<typename Split<F>::AtZero>;
  using NotZero = LikelihoodGradient<typename Split<F>::NotZero>;
  static constexpr int first_optional = 0;
};

// A loss in one pass: `factor` times the value, and the gradients of its negative.
template <class F>
struct OnePass {
  using AtZero = OnePass<typename Split<F>::AtZero>;
  using NotZero = OnePass<typename Split<F>::NotZero>;
  static constexpr Direction direction = Direction::one_pass;
  static constexpr bool long_winded = kLongWinded<F>, serial = kSerial<F>;
  static constexpr int inputs = Value<F>::inputs, outputs = 1 + Gradient<F>::outputs;
  static constexpr int sampled = 0, first_tensor = 0, first_optional = 1;

  template <class T>
  static FASTVAE_FN void at(const Constants<T>& c, const T* x, T* y) {
    call(c, x, y, std::make_index_sequence<Gradient<F>::inputs - 1>());
  }

 private:
  template <class T, size_t... I>
  static FASTVAE_FN void call(const Constants<T>& c, const T* x, T* y, std::index_sequence<I...>) {
    const T of_gradient[] = {-c.factor, x[inputs - int(sizeof...(I)) + int(I)]...};
    Value<F>::at(c, x, y);
    y[0] *= c.factor;
    Gradient<F>::at(c, of_gradient, y + 1);
  }
};

}  // namespace fastvae::FASTVAE_ISA
