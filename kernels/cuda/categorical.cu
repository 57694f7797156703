// How rows of classes are walked on a GPU: a block takes a part of a row, in one walk for its sums and in another for
// what each element is given of them. Threads' results meet in pairs, so their order is the shape's alone.
#include "../math/categorical.h"
#include "backend.h"
#include "memory.h"

namespace fastvae::FASTVAE_ISA {

namespace {

constexpr unsigned kAllOf4 = 15;

// A thread's elements of a part: units of A::width, kThreads of them after each other.
template <class A>
FASTVAE_FN Unit unit_of(int64_t col, int64_t last) {
  return {col, last - col >= A::width ? (1u << A::width) - 1 : kAllOf4 >> (4 - (last - col))};
}

FASTVAE_FN char* row_at(const RowJob& job, const Operand& operand, int64_t row) {
  return static_cast<char*>(operand.data) + (offset_in_batch(job, operand, row) << log_bytes(operand.type));
}

FASTVAE_FN double element(const RowJob& job, const Operand& operand, int64_t row, int64_t col) {
  if (operand.data == nullptr) return operand.fill;
  return load_element<double>(row_at(job, operand, row) + ((col * operand.strides[kRun]) << log_bytes(operand.type)),
                              operand.type);
}

FASTVAE_FN double weight_of(const RowJob& job, int64_t row) {
  return job.weighted ? element(job, job.weight, row, 0) : 1;
}

template <class A>
FASTVAE_FN void read(const Operand& operand, const char* row, const Unit& unit, typename A::T (&x)[A::width]) {
  convert<A>(operand, load<A>(operand, row, unit), x);
}

// One value after the other.
template <class T>
struct Total {
  T sum = 0, lost = 0;

  FASTVAE_FN void add(T value) { add_compensated(value, sum, lost); }
  FASTVAE_FN double value() const { return double(sum) - double(lost); }
};

// RowSums of a thread.
template <class T>
struct Survey {
  T largest = -T(INFINITY);
  Total<T> tail = {T(-1), T(0)}, total, dot;

  // Logits up to `most` are still to come, of which one is not in the tail.
  FASTVAE_FN void raise(T most) {
    T shift = largest - most;
    tail = {T((1 + tail.value()) * exp_decay(shift)), T(0)};
    dot.add(scaled(total.sum, shift));
    largest = most;
  }

  template <int width>
  FASTVAE_FN void add(const Unit& unit, const T (&x)[width], const T (&logits)[width]) {
    T most = largest;
    FASTVAE_UNROLL
    for (int e = 0; e < width; ++e) most = is_valid(unit, e) ? max(logits[e], most) : most;
    bool left_out = most > largest;
    if (most != largest) raise(most);
    FASTVAE_UNROLL
    for (int e = 0; e < width; ++e) {
      if (!is_valid(unit, e)) continue;
      bool tied = logits[e] == largest;
      T relative = tied ? T(0) : logits[e] - largest;
      tail.add(tied ? T(!left_out) : exp_decay(relative));
      left_out = left_out && !tied;
      total.add(x[e]);
      dot.add(x[e] == T(0) ? T(0) : x[e] * relative);
    }
  }

  FASTVAE_FN RowSums sums() const { return {double(largest), tail.value(), total.value(), dot.value()}; }
};

// --- steps: what a thread of a block finds, and what is done with all threads' ---

template <class A>
struct SurveyStep {
  using T = typename A::T;
  using Result = RowSums;

  static FASTVAE_FN Result of_thread(const RowJob& job, int64_t part, int thread) {
    int64_t row = quotient(part, job.parts_per_row), last = job.last_col(part);
    if (weight_of(job, row) == 0) return {};
    const char *x_row = row_at(job, job.x(), row), *logits_row = row_at(job, job.logits(), row);
    Survey<T> survey;
    T x[A::width] = {}, logits[A::width];
    FASTVAE_ROLLED
    for (int64_t col = job.first_col(part) + thread * A::width; col < last; col += kThreads * A::width) {
      Unit unit = unit_of<A>(col, last);
      if (!job.of_indices) read<A>(job.x(), x_row, unit, x);
      read<A>(job.logits(), logits_row, unit, logits);
      survey.add(unit, x, logits);
    }
    return survey.sums();
  }

  static FASTVAE_FN void store(const RowJob& job, int64_t part, const Result& sums) { job.surveyed[part] = sums; }
};

struct SettleStep {
  using Result = RowSums;

  static FASTVAE_FN Result of_thread(const RowJob& job, int64_t row, int thread) {
    Result sums;
    for (int64_t part = thread; part < job.parts_per_row; part += kThreads)
      sums = sums + job.surveyed[row * job.parts_per_row + part];
    return sums;
  }

  static FASTVAE_FN void store(const RowJob& job, int64_t row, const Result& found) {
    double logit = job.of_indices ? logit_of_class(job, row) : 0;  // before what would be kept during its calls
    Result sums = found;
    if (job.cols == 0) sums.tail = 0;
    if (job.of_indices) sums = of_class(sums, logit);
    job.surveyed[row * job.parts_per_row] = settled(sums);
  }

 private:
  static FASTVAE_FN double logit_of_class(const RowJob& job, int64_t row) {
    double index = element(job, job.x(), row, 0);
    return index >= 0 && index < double(job.cols) ? element(job, job.logits(), row, int64_t(index)) : double(NAN);
  }
};

template <class A>
struct FinishStep {
  using T = typename A::T;
  using Result = RowTerms;

  static FASTVAE_FN Result of_thread(const RowJob& job, int64_t part, int thread) {
    int64_t row = quotient(part, job.parts_per_row), last = job.last_col(part);
    const Operand& out = job.output[job.outputs - 1];
    bool has_terms = job.has_terms(), has_gradient = job.gives_gradients();
    double weight = weight_of(job, row);
    const char *x_row = row_at(job, job.x(), row), *logits_row = row_at(job, job.logits(), row);
    char* out_row = row_at(job, out, row);
    double upstream = job.direction == Direction::gradient ? element(job, job.input[0], row, 0) : -job.constants.factor;
    T grad = T(upstream * weight);
    int64_t index = job.of_indices ? int64_t(element(job, job.x(), row, 0)) : -1;
    Classes<T> classes(job.surveyed[row * job.parts_per_row], has_terms);
    Total<T> factorials, deviances;
    T x[A::width] = {}, logits[A::width], y[A::width] = {};
    FASTVAE_ROLLED
    for (int64_t col = job.first_col(part) + thread * A::width; col < last; col += kThreads * A::width) {
      Unit unit = unit_of<A>(col, last);
      if (weight != 0) {
        if (!job.of_indices) read<A>(job.x(), x_row, unit, x);
        read<A>(job.logits(), logits_row, unit, logits);
        FASTVAE_UNROLL
        for (int e = 0; e < A::width; ++e) {
          if (!is_valid(unit, e)) continue;
          if (job.of_indices) x[e] = T(col + e == index);
          if (has_gradient) y[e] = grad * classes.less_expected(x[e], logits[e]);
          if (!has_terms) continue;
          factorials.add(rest_of_factorial(x[e]));
          deviances.add(classes.deviance(x[e], logits[e]));
        }
      }
      if (has_gradient) FASTVAE_ISA::store<A>(out, out_row, unit, y);
    }
    return {factorials.value(), deviances.value()};
  }

  static FASTVAE_FN void store(const RowJob& job, int64_t part, const Result& terms) { job.terms[part] = terms; }
};

// A sum of rows' values.
template <class T>
struct ValueStep {
  using Result = double;

  static FASTVAE_FN Result of_thread(const RowJob& job, int64_t sum, int thread) {
    double total = 0;
    for (int64_t i = thread; i < job.rows_per_sum; i += kThreads) {
      int64_t row = sum * job.rows_per_sum + i, first = row * job.parts_per_row;
      double weight = weight_of(job, row);
      if (weight == 0) continue;
      RowTerms terms;
      if (job.has_terms())
        for (int64_t part = 0; part < job.parts_per_row; ++part) terms = terms + job.terms[first + part];
      total += weight * log_prob_of<T>(job.surveyed[first], terms, job.constants.normalized != 0);
    }
    return total;
  }

  static FASTVAE_FN void store(const RowJob& job, int64_t sum, double total) {
    if (job.direction == Direction::one_pass) total *= job.constants.factor;
    static_cast<T*>(job.output[0].data)[sum] = static_cast<T>(total);
  }
};

// --- blocks ---

#if defined(__CUDACC__)

template <class Step>
__global__ void __launch_bounds__(kThreads) walk_rows(const __grid_constant__ RowJob job) {
  using Result = typename Step::Result;
  __shared__ double memory[kThreads * sizeof(Result) / sizeof(double)];
  Result* results = reinterpret_cast<Result*>(memory);
  int thread = threadIdx.x;
  results[thread] = Step::of_thread(job, blockIdx.x, thread);
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) results[thread] = results[thread] + results[thread + half];
  }
  if (thread == 0) Step::store(job, blockIdx.x, results[0]);
}

template <class Step>
void launch(const RowJob& job, int64_t blocks, void* stream) {
  if (blocks > 0)
    walk_rows<Step><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
}

#else

template <class Step>
void launch(const RowJob& job, int64_t blocks, void*) {
  for (int64_t block = 0; block < blocks; ++block) {
    typename Step::Result results[kThreads];
    for (int thread = 0; thread < kThreads; ++thread) results[thread] = Step::of_thread(job, block, thread);
    for (int half = kThreads / 2; half > 0; half /= 2)
      for (int thread = 0; thread < half; ++thread) results[thread] = results[thread] + results[thread + half];
    Step::store(job, block, results[0]);
  }
}

#endif

template <class A>
void launch_all(const RowJob& job, void* stream) {
  int64_t parts = job.rows * job.parts_per_row;
  launch<SurveyStep<A>>(job, parts, stream);
  launch<SettleStep>(job, job.rows, stream);
  if (job.gives_gradients() || job.has_terms()) launch<FinishStep<A>>(job, parts, stream);
  if (job.gives_values()) launch<ValueStep<typename A::T>>(job, job.sums, stream);
}

}  // namespace
}  // namespace fastvae::FASTVAE_ISA

void fastvae::launch_rows(const RowJob& job, void* stream) {
  using namespace FASTVAE_ISA;
  if (job.f64) launch_all<Doubles>(job, stream);
  else launch_all<General>(job, stream);
}
