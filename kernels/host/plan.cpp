#include "plan.h"

#include <algorithm>

namespace fastvae {

using torch::headeronly::ScalarType;

namespace {

int64_t product(const int64_t* sizes, int64_t n) {
  int64_t result = 1;
  for (int64_t d = 0; d < n; ++d) result *= sizes[d];
  return result;
}

}  // namespace

Plan::Plan(Formula formula, Direction direction, const std::vector<const Tensor*>& operands, int64_t event_ndim,
           int64_t num_samples)
    : shape_(broadcast(operands)),
      event_ndim_(event_ndim),
      num_samples_(num_samples),
      first_dtype_(operands.front()->scalar_type()),
      device_(device_of(*operands.front())) {
  if (direction == Direction::value && num_samples > 0) shape_.insert(shape_.begin(), num_samples);
  STD_TORCH_CHECK(event_ndim >= 0 && event_ndim <= int64_t(shape_.size()), "fastvae: event_ndim out of range");
  STD_TORCH_CHECK(shape_.size() <= kMaxDims, "fastvae: operands have at most ", kMaxDims, " dimensions");
  for (const Tensor* tensor : operands)
    job.f64 = job.f64 || (tensor != nullptr && tensor->scalar_type() == ScalarType::Double);
  job.formula = formula;
  job.direction = direction;
  job.device = device_;
  job.ndim = int(shape_.size());
  job.batch_ndim = event_ndim == 0 ? 0 : job.ndim - int(event_ndim);
  std::copy(shape_.begin(), shape_.end(), job.sizes);
}

ScalarType Plan::accumulate_dtype() const { return job.f64 ? ScalarType::Double : ScalarType::Float; }

void Plan::average() {
  int64_t count = product(shape_.data() + shape_.size() - event_ndim_, event_ndim_);
  double factor = 1.0 / double(std::max<int64_t>(count, 1));
  (job.direction == Direction::value ? job.sum_scale : job.constants.factor) = factor;
}

// The tensor against the shape, less `skip_leading` dimensions of its own and the shape's last `event_ndim`.
Operand Plan::operand(const Tensor& tensor, int64_t skip_leading, int64_t event_ndim) const {
  STD_TORCH_CHECK(is_on(device_, tensor), "fastvae: all operands must be on one device");
  Operand result;
  result.data = tensor.data_ptr();
  result.type = type_of(tensor);
  auto sizes = tensor.sizes();
  auto strides = tensor.strides();
  int64_t lead = int64_t(shape_.size()) - event_ndim - (int64_t(sizes.size()) - skip_leading);
  STD_TORCH_CHECK(lead >= 0, "fastvae: an operand has more dimensions than the result");
  for (int64_t d = skip_leading; d < int64_t(sizes.size()); ++d) {
    int64_t size = shape_[lead + d - skip_leading];
    STD_TORCH_CHECK(sizes[d] == size || sizes[d] == 1, "fastvae: an operand does not broadcast to the result");
    result.strides[lead + d - skip_leading] = sizes[d] == 1 ? 0 : strides[d];
  }
  return result;
}

void Plan::input(const Tensor* tensor, double fill) {
  Operand& in = job.input[job.inputs++];
  if (tensor != nullptr) in = operand(*tensor);
  else in.fill = fill;
}

void Plan::input_of_rows(const OptionalTensor& grad) {
  Operand& in = job.input[job.inputs++];
  if (grad.has_value()) in = operand(*grad, 0, event_ndim_);
}

void Plan::weight(const OptionalTensor& tensor) {
  job.weighted = tensor.has_value();
  if (job.weighted) job.weight = operand(*tensor);
}

void Plan::samples(const OptionalTensor& grad_z, const OptionalTensor& seed, const OptionalTensor& eps) {
  STD_TORCH_CHECK(seed.has_value() != eps.has_value(), "fastvae: exactly one of seed and eps is given");
  STD_TORCH_CHECK(eps.has_value() || (is_seed(*seed) && is_on(device_, *seed)),
                  "fastvae: seed is one int64 element on the operands' device");
  bool backward = job.direction == Direction::gradient;
  int64_t sample_axis = backward && num_samples_ > 0 ? 1 : 0;  // forward, the shape has it
  job.sampling = backward ? Sampling::gradient : Sampling::noise;
  job.samples = sample_axis ? num_samples_ : 1;
  job.has_eps = eps.has_value();
  if (!job.has_eps) job.seed = static_cast<const uint64_t*>(seed->data_ptr());
  auto take = [&](const OptionalTensor& tensor, Operand& into, int64_t& sample_stride) {
    if (!tensor.has_value()) return;
    into = operand(*tensor, sample_axis);
    if (sample_axis) sample_stride = tensor->size(0) == 1 ? 0 : tensor->stride(0);
  };
  take(eps, job.eps, job.eps_sample_stride);
  take(grad_z, job.grad_z, job.grad_sample_stride);
}

Tensor Plan::add_output(Tensor tensor, bool summed) {
  Operand& out = job.output[job.outputs++];
  if (summed) {
    out.data = tensor.data_ptr();
    out.type = type_of(tensor);
    out.summed = true;
  } else {
    out = operand(tensor);
  }
  return tensor;
}

Tensor Plan::output(const Tensor& like) {
  return add_output(has_shape(like, shape_) ? new_like(like) : empty(shape_, like.scalar_type(), device_), false);
}

Tensor Plan::output_sum() {
  Shape batch(shape_.begin(), shape_.end() - event_ndim_);
  return add_output(empty(batch, accumulate_dtype(), device_), event_ndim_ > 0);
}

Tensor Plan::output_grad(const Tensor& like, bool needed) {
  if (!needed) {
    ++job.outputs;
    return empty({0}, first_dtype_, device_);
  }
  if (has_shape(like, shape_)) return output(like);
  auto sizes = like.sizes();
  int64_t event = std::min<int64_t>(event_ndim_, sizes.size());
  bool by_rows = event_ndim_ > 0 && std::all_of(sizes.end() - event, sizes.end(), [](int64_t s) { return s == 1; });
  Shape shape = shape_;
  if (by_rows) std::fill(shape.end() - event_ndim_, shape.end(), 1);
  else std::copy(sizes.begin(), sizes.end(), std::fill_n(shape.begin(), shape.size() - sizes.size(), 1));
  Tensor grad = empty(shape, accumulate_dtype(), device_);
  return by_rows || shape == shape_ ? add_output(grad, by_rows) : output_shared(grad);
}

Tensor Plan::output_shared(Tensor sums) {
  add_output(sums, false);
  job.output[job.outputs - 1].shared = true;
  return sums;
}

void Plan::skip_if_minus_1(const Tensor& number) {
  STD_TORCH_CHECK(number.numel() == 1 && number.scalar_type() == accumulate_dtype() && is_on(device_, number),
                  "fastvae: what is compared with -1 is one number of the arithmetic type, on the operands' device");
  job.skip_if_minus_1 = number.data_ptr();
}

// The order in which dimensions are walked, those of size one left out: the event's as memory has them. Noise is
// numbered in logical order and forbids any other.
std::vector<int> Plan::walking_order() const {
  std::vector<int> order;
  for (int d = 0; d < job.ndim; ++d)
    if (job.sizes[d] != 1) order.push_back(d);
  if (job.sampling != Sampling::none) return order;
  auto event = std::find_if(order.begin(), order.end(), [&](int d) { return d >= job.batch_ndim; });
  auto steps_everywhere = [&](const Operand& operand) {
    bool steps = operand.data != nullptr;
    for (int d = job.batch_ndim; d < job.ndim; ++d) steps = steps && (job.sizes[d] == 1 || operand.strides[d] != 0);
    return steps;
  };
  const Operand* end = job.input + job.inputs;
  const Operand* guide = std::find_if(job.input + 0, end, steps_everywhere);
  if (guide != end)
    std::stable_sort(event, order.end(), [&](int a, int b) { return guide->strides[a] > guide->strides[b]; });
  return order;
}

// Which of the dimensions in `order` are rows. What is shared is added up row by row, so these are then as many as it
// is constant along, and one at least: events are cut where need be.
void Plan::cut_rows(const std::vector<int>& order) {
  auto is_batch = [&](int d) { return d < job.batch_ndim; };
  int ndim = int(order.size()), batch = int(std::count_if(order.begin(), order.end(), is_batch));
  int leading = ndim;
  bool any = false;
  for (int k = 0; k < job.outputs; ++k) {
    if (!is_shared(job.output[k])) continue;
    auto steps = [&](int d) { return job.output[k].strides[d] != 0; };
    leading = std::min(leading, int(std::find_if(order.begin(), order.end(), steps) - order.begin()));
    any = true;
  }
  int rows = any ? std::max(batch, std::min(std::max(leading, 1), ndim - 1)) : batch;
  for (int i = 0; i < rows; ++i) (i < batch ? job.sums : job.rows_per_sum) *= job.sizes[order[i]];
  job.batch_ndim = rows;
}

// Merges neighbours that every operand steps through as one.
void Plan::merge(const std::vector<int>& order) {
  std::vector<std::vector<int>> groups;  // dimensions that become one, outer to inner
  int batch_groups = 0;
  for (int i = 0; i < int(order.size()); ++i) {
    int d = order[i];
    bool is_row = i < job.batch_ndim;
    bool merges = int(groups.size()) > (is_row ? 0 : batch_groups);
    if (merges) {
      int outer = groups.back().back();
      for_operands(job, [&](Operand& o) { merges = merges && o.strides[outer] == o.strides[d] * job.sizes[d]; });
    }
    if (merges) groups.back().push_back(d);
    else groups.push_back({d});
    if (is_row) batch_groups = int(groups.size());
  }
  int64_t sizes[kMaxDims];
  for (size_t g = 0; g < groups.size(); ++g) {
    sizes[g] = 1;
    for (int d : groups[g]) sizes[g] *= job.sizes[d];
  }
  for_operands(job, [&](Operand& o) {
    int64_t strides[kMaxDims] = {};
    for (size_t g = 0; g < groups.size(); ++g) strides[g] = o.strides[groups[g].back()];
    std::copy(strides, strides + kMaxDims, o.strides);
  });
  std::copy(sizes, sizes + groups.size(), job.sizes);
  job.ndim = int(groups.size());
  job.batch_ndim = batch_groups;
  job.rows = product(job.sizes, job.batch_ndim);
  job.cols = product(job.sizes + job.batch_ndim, job.ndim - job.batch_ndim);
}

void classify(Job& job) {
  for_operands(job, [&](Operand& o) {
    int64_t expected = 1;
    o.contiguous = o.event_contiguous = o.event_constant = o.row_constant = o.constant = true;
    for (int d = job.ndim - 1; d >= 0; --d) {
      bool event = d >= job.batch_ndim;
      o.contiguous = o.contiguous && o.strides[d] == expected;
      o.event_contiguous = o.event_contiguous && (!event || o.strides[d] == expected);
      o.event_constant = o.event_constant && (!event || o.strides[d] == 0);
      o.row_constant = o.row_constant && (event || o.strides[d] == 0);
      o.constant = o.constant && o.strides[d] == 0;
      expected *= job.sizes[d];
    }
  });
}

// A sum over the event is one of rows, in their order.
void Plan::run_rows() {
  STD_TORCH_CHECK(event_ndim_ > 0, "fastvae: an event of rows has one dimension at least");
  for (int k = 0; k < job.outputs; ++k)
    STD_TORCH_CHECK(job.direction == Direction::value || k + 1 < job.outputs || job.output[k].data == nullptr ||
                        !(job.output[k].shared || job.output[k].summed),
                    "fastvae: the logits of rows have the full shape");
  job.sums = product(job.sizes, job.batch_ndim);
  job.rows_per_sum = product(job.sizes + job.batch_ndim, event_ndim_ - 1);
  job.batch_ndim = job.ndim - 1;
  job.rows = job.sums * job.rows_per_sum;
  job.cols = job.sizes[job.ndim - 1];
  classify(job);
  compute_rows(job);
}

void Plan::run() {
  if (is_of_rows(job.formula)) return run_rows();
  std::vector<int> order = walking_order();
  cut_rows(order);
  merge(order);
  classify(job);
  compute(job);
}

}  // namespace fastvae
