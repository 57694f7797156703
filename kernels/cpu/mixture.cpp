// How a mixture's pixels are walked: tile by tile, and all components of a tile while they are in a cache.
#include "../math/mixture.h"

#include <vector>

#include "../math/pixels.h"
#include "convert.h"
#include "mixture_job.h"
#include "sums.h"

namespace fastvae::FASTVAE_ISA {

namespace {

// An operand's elements of a tile, one component and channel at a time.
template <class T>
class Elements {
 public:
  explicit Elements(const MixtureOperand& operand) : operand_(operand) {}

  bool exist() const { return operand_.data != nullptr; }

  // To elements first .. first + n of samples, batch and pixels.
  void move_to(int64_t first, int64_t n) {
    runs_.clear();
    int inner = operand_.ndim - 1;
    for (int64_t at = 0; exist() && at < n;) {
      int64_t rest = first + at, inside = rest % operand_.sizes[inner], offset = inside * operand_.strides[inner];
      rest /= operand_.sizes[inner];
      for (int d = inner - 1; d >= 0; rest /= operand_.sizes[d--])
        offset += rest % operand_.sizes[d] * operand_.strides[d];
      int64_t left = operand_.sizes[inner] - inside, size = left < n - at ? left : n - at;
      runs_.push_back({at, offset, operand_.strides[inner], size});
      at += size;
    }
  }

  // Where they are, if they lie there one behind the other in the arithmetic type.
  T* in_place(int64_t component = 0, int64_t channel = 0) const {
    bool direct =
        operand_.type == (sizeof(T) == 4 ? Type::f32 : Type::f64) && runs_.size() == 1 && runs_[0].stride == 1;
    return direct ? static_cast<T*>(operand_.data) + base(component, channel) + runs_[0].offset : nullptr;
  }

  const T* read(T* buffer, int64_t component = 0, int64_t channel = 0) const {
    if (const T* direct = in_place(component, channel)) return direct;
    for (const Run& run : runs_)
      FASTVAE_ISA::read<T>(operand_.type, operand_.data, base(component, channel) + run.offset, run.stride, run.size,
                           buffer + run.at);
    return buffer;
  }

  // Where they are made: in place, or in the buffer, which `store` then writes.
  T* to(T* buffer, int64_t component = 0, int64_t channel = 0) const {
    T* direct = in_place(component, channel);
    return direct != nullptr ? direct : buffer;
  }

  void store(const T* from, int64_t component = 0, int64_t channel = 0) const {
    if (from == in_place(component, channel)) return;
    for (const Run& run : runs_)
      FASTVAE_ISA::write<T>(from + run.at, run.size, operand_.type, operand_.data,
                            base(component, channel) + run.offset, run.stride);
  }

 private:
  struct Run {
    int64_t at, offset, stride, size;
  };

  const MixtureOperand& operand_;
  std::vector<Run> runs_;

  int64_t base(int64_t component, int64_t channel) const {
    return component * operand_.component + channel * operand_.channel;
  }
};

// Loops over a tile's pixels, each a function of its own: compilers then know what there is to vectorise.

template <class F, class T>
[[gnu::noinline]] void add_values(const Constants<T>& constants, int64_t n, const T* x, const T* location,
                                  const T* scale, T* sum) {
  const Constants<T> c = constants;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T value;
    F::value(c, x[i], location[i], scale[i], value);
    sum[i] += value;
  }
}

template <class F, class T>
[[gnu::noinline]] void add_values_with_slopes(const Constants<T>& constants, int64_t n, const T* x, const T* location,
                                              const T* scale, T* sum, T* of_location, T* of_scale) {
  const Constants<T> c = constants;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T value, of_x, slope, slope_of_scale;
    F::value(c, x[i], location[i], scale[i], value);
    F::gradient(c, T(1), x[i], location[i], scale[i], of_x, slope, slope_of_scale);
    sum[i] += value;
    of_location[i] = slope;
    of_scale[i] = slope_of_scale;
  }
}

template <class T>
[[gnu::noinline]] void find_largest(int64_t n, const T* logits, T* largest) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) largest[i] = max(largest[i], logits[i]);
}

// Of a component: its prior, relative to the largest, and its logit among the posterior's.
template <class T>
[[gnu::noinline]] void add_prior(int64_t n, const T* logits, const T* largest, T* prior, T* sum, T* posterior_logits,
                                 T* largest_posterior) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T logit = relative(logits[i], largest[i]), e = exp_decay(logit), posterior = posterior_logits[i] + logit;
    prior[i] = e;
    sum[i] += e;
    posterior_logits[i] = posterior;
    largest_posterior[i] = max(largest_posterior[i], posterior);
  }
}

template <class T>
[[gnu::noinline]] void add_posterior(int64_t n, const T* largest, T* posterior, T* sum) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T e = exp_decay(relative(posterior[i], largest[i]));
    posterior[i] = e;
    sum[i] += e;
  }
}

template <class T>
[[gnu::noinline]] void log_prob_of(int64_t n, const T* prior_sum, const T* largest, const T* sum, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = log_mixture(prior_sum[i], largest[i], sum[i]);
}

template <class T>
[[gnu::noinline]] void divide(int64_t n, const T* grad, const T* sum, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = grad[i] / sum[i];
}

// 0 where there is no weight, whatever the other factor is.
template <class T>
[[gnu::noinline]] void weigh(int64_t n, const T* weight, const T* factor, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = choose(weight[i] == T(0), T(0), weight[i] * factor[i]);
}

template <class T>
[[gnu::noinline]] void clear(int64_t n, const T* weight, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = choose(weight[i] == T(0), T(0), out[i]);
}

template <class T>
[[gnu::noinline]] void multiply(int64_t n, const T* a, const T* b, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = a[i] * b[i];
}

template <class T>
[[gnu::noinline]] void subtract_product(int64_t n, const T* from, const T* a, const T* b, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = from[i] - a[i] * b[i];
}

template <class T>
[[gnu::noinline]] void subtract(int64_t n, T factor, const T* x, T* from) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) from[i] -= factor * x[i];
}

template <class T>
void fill(int64_t n, T value, T* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = value;
}

// Everything one thread holds while it works on tiles. F is the component: its location and its scale stand behind x.
template <class F, class T>
class Walker {
 public:
  explicit Walker(const MixtureJob& job)
      : job_(job),
        constants_(job.constants),
        x_(job.x),
        logits_(job.logits),
        location_(job.mean),
        scale_(job.log_scale),
        weight_(job.weight),
        grad_(job.grad),
        of_x_(job.grad_x),
        of_logits_(job.grad_logits),
        of_location_(job.grad_mean),
        of_scale_(job.grad_log_scale),
        wants_slopes_(of_x_.exist() || of_location_.exist() || of_scale_.exist()),
        lines_((job.tile_rows * job.tile_pixels + kSumPadding + kLine - 1) / kLine),
        memory_(lines_ * (kSingles + 2 * job.channels + 2 * job.components * (1 + wants_slopes_ * job.channels))),
        x_of_(job.channels) {}

  void walk(int64_t task) {
    int64_t tile = task % job_.tiles(), first = job_.sums_samples() ? 0 : task / job_.tiles();
    int64_t last = job_.sums_samples() ? job_.samples : first + 1;
    row_ = tile / job_.parts * job_.tile_rows;
    part_ = tile % job_.parts;
    int64_t col = part_ * job_.tile_pixels;
    rows_ = least(job_.tile_rows, job_.batch - row_);
    cols_ = least(job_.tile_pixels, job_.pixels - col);
    n_ = rows_ * cols_;
    for (int64_t c = 0; of_x_.exist() && c < job_.channels; ++c) fill(n_, T(0), sum_of_x(c));
    for (int64_t sample = first; sample < last; ++sample) {
      int64_t row = sample * job_.batch + row_, at = row * job_.pixels + col;
      for (Elements<T>* each :
           {&x_, &logits_, &location_, &scale_, &weight_, &grad_, &of_logits_, &of_location_, &of_scale_})
        each->move_to(at, n_);
      evaluate();
      if (job_.direction != Direction::gradient) store_values(row);
      if (job_.direction != Direction::value) store_gradients();
    }
    of_x_.move_to(row_ * job_.pixels + col, n_);
    for (int64_t c = 0; of_x_.exist() && c < job_.channels; ++c) of_x_.store(sum_of_x(c), 0, c);
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(T);
  struct alignas(64) Line {
    T elements[kLine];
  };
  enum { kLocation, kScale, kOut, kWeight, kGrad, kPriorLargest, kPriorSum, kLargest, kSum, kFactor, kSingles };

  const MixtureJob& job_;
  const Constants<T> constants_;
  Elements<T> x_, logits_, location_, scale_, weight_, grad_, of_x_, of_logits_, of_location_, of_scale_;
  const bool wants_slopes_;
  const int64_t lines_;  // of a buffer
  std::vector<Line> memory_;
  std::vector<const T*> x_of_;  // by channel
  const T* weights_ = nullptr;
  int64_t row_ = 0, part_ = 0, rows_ = 0, cols_ = 0, n_ = 0;

  static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

  T* buffer(int64_t i) { return memory_[i * lines_].elements; }
  T* x_buffer(int64_t c) { return buffer(kSingles + c); }
  T* sum_of_x(int64_t c) { return buffer(kSingles + job_.channels + c); }
  T* prior(int64_t k) { return buffer(kSingles + 2 * job_.channels + k); }
  T* posterior(int64_t k) { return prior(job_.components + k); }
  T* slope(int64_t k, int64_t c) { return posterior(job_.components + 2 * (k * job_.channels + c)); }
  T* slope_of_scale(int64_t k, int64_t c) { return slope(k, c) + lines_ * kLine; }

  // Prior and posterior of the tile, up to their sums, and the components' slopes.
  void evaluate() {
    weights_ = weight_.exist() ? weight_.read(buffer(kWeight)) : nullptr;
    for (int64_t c = 0; c < job_.channels; ++c) x_of_[c] = x_.read(x_buffer(c), 0, c);
    fill(n_, -T(INFINITY), buffer(kPriorLargest));
    fill(n_, -T(INFINITY), buffer(kLargest));
    fill(n_, T(0), buffer(kPriorSum));
    fill(n_, T(0), buffer(kSum));
    for (int64_t k = 0; k < job_.components; ++k) {
      find_largest(n_, logits_.read(prior(k), k), buffer(kPriorLargest));
      fill(n_, T(0), posterior(k));
      for (int64_t c = 0; c < job_.channels; ++c) add_component(k, c);
    }
    for (int64_t k = 0; k < job_.components; ++k)
      add_prior(n_, logits_.read(prior(k), k), buffer(kPriorLargest), prior(k), buffer(kPriorSum), posterior(k),
                buffer(kLargest));
    for (int64_t k = 0; k < job_.components; ++k) add_posterior(n_, buffer(kLargest), posterior(k), buffer(kSum));
  }

  void add_component(int64_t k, int64_t c) {
    const T* location = location_.read(buffer(kLocation), k, c);
    const T* scale = scale_.read(buffer(kScale), k, c);
    if (wants_slopes_)
      add_values_with_slopes<F>(constants_, n_, x_of_[c], location, scale, posterior(k), slope(k, c),
                                slope_of_scale(k, c));
    else add_values<F>(constants_, n_, x_of_[c], location, scale, posterior(k));
  }

  void store_values(int64_t row) {
    T* values = buffer(kOut);
    log_prob_of(n_, buffer(kPriorSum), buffer(kLargest), buffer(kSum), values);
    if (weights_ != nullptr) weigh(n_, weights_, values, values);
    for (int64_t r = 0; r < rows_; ++r)
      job_.values[(row + r) * job_.parts + part_] = double(sum(values + r * cols_, cols_));
  }

  void store_gradients() {
    T *grads = buffer(kGrad), *of_prior = buffer(kPriorSum), *of_posterior = buffer(kSum), *factor = buffer(kFactor);
    const T* given = grads;
    if (job_.direction == Direction::gradient) given = grad_.read(grads);
    else fill(n_, -constants_.factor, grads);
    if (weights_ != nullptr) weigh(n_, weights_, given, grads), given = grads;
    divide(n_, given, of_prior, of_prior);
    divide(n_, given, of_posterior, of_posterior);
    for (int64_t k = 0; k < job_.components; ++k) {
      multiply(n_, of_posterior, posterior(k), factor);
      if (of_logits_.exist()) {
        T* out = of_logits_.to(buffer(kOut), k);
        subtract_product(n_, factor, of_prior, prior(k), out);
        store(of_logits_, out, k, 0);
      }
      for (int64_t c = 0; wants_slopes_ && c < job_.channels; ++c) store_slopes(k, c);
    }
  }

  void store_slopes(int64_t k, int64_t c) {
    const T* factor = buffer(kFactor);
    for (auto [of, slopes] : {std::pair(&of_location_, slope(k, c)), std::pair(&of_scale_, slope_of_scale(k, c))}) {
      if (!of->exist()) continue;
      T* out = of->to(buffer(kOut), k, c);
      multiply(n_, factor, slopes, out);
      store(*of, out, k, c);
    }
    if (!of_x_.exist()) return;
    T* of_x = buffer(kOut);  // x moves what it is taken relative to
    multiply(n_, factor, slope(k, c), of_x);
    if (weights_ != nullptr) clear(n_, weights_, of_x);
    subtract(n_, constants_.x_scale, of_x, sum_of_x(c));
  }

  void store(const Elements<T>& elements, T* out, int64_t k, int64_t c) {
    if (weights_ != nullptr) clear(n_, weights_, out);
    elements.store(out, k, c);
  }
};

template <class F, class D>
void walk(const MixtureJob& job, int64_t first, int64_t last) {
  auto walk_with = [&](auto&& walker) {
    for (int64_t task = first; task < last; ++task) walker.walk(task);
  };
  if (job.f64) walk_with(Walker<D, double>(job));
  else walk_with(Walker<F, float>(job));
}

}  // namespace

void walk_mixture(const MixtureJob& job, int64_t first, int64_t last) {
  walk<DiscretizedLogisticLogProb<float>, DiscretizedLogisticLogProb<double>>(job, first, last);
}

}  // namespace fastvae::FASTVAE_ISA
