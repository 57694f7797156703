// From tensors to a Job: broadcasting, merging of dimensions, what lies in place.
#pragma once

#include "job.h"
#include "tensors.h"

namespace fastvae {

// Supplied by each device's library. `compute` cuts a job into pieces of that device's liking and works through them.
void compute(const Job& job);
void compute_rows(const Job& job);  // of a formula that takes whole rows, the last dimension; nothing is merged
void compute_philox(const int64_t* counter, const int64_t* key, int64_t* words, int64_t count, const Device& device);
void compute_normals(const uint64_t* seed, float* out, int64_t count, const Device& device);

// Those that have a place in the shape.
template <class Visit>
void for_operands(Job& job, Visit visit) {
  for (int k = 0; k < job.inputs; ++k) visit(job.input[k]);
  for (int k = 0; k < job.outputs; ++k)
    if (!job.output[k].summed) visit(job.output[k]);
  visit(job.weight);
  visit(job.eps);
  visit(job.grad_z);
}

// How each operand lies in memory, for the driver to choose how it is read. Again where `batch_ndim` has changed.
void classify(Job& job);

// Collects operands over one broadcast shape, then runs a formula over them.
class __attribute__((visibility("hidden"))) Plan {  // as Tensor is
 public:
  // Rows are the leading dimensions, events the last `event_ndim`; an elementwise plan sums nothing.
  // The shape is that of the operands broadcast; a value has an axis of `num_samples` in front where that is not 0.
  Plan(Formula formula, Direction direction, const std::vector<const Tensor*>& operands, int64_t event_ndim,
       int64_t num_samples = 0);

  Job job;

  void input(const Tensor* tensor, double fill = 0);
  void input_of_rows(const OptionalTensor& grad);  // gradient of an output_sum: one value for each row, 0 where absent
  void weight(const OptionalTensor& tensor);
  // The last inputs: noise, numbered in row-major order of the shape; of a gradient two, sums over the samples of
  // grad_z and of grad_z * noise, 0 where grad_z is absent.
  void samples(const OptionalTensor& grad_z, const OptionalTensor& seed, const OptionalTensor& eps);

  void average();                                          // what is summed over events is a mean
  Tensor output(const Tensor& like);                       // full shape, the dtype and, if it can be, layout of `like`
  Tensor add_output(Tensor tensor, bool summed);           // over what is there
  Tensor output_sum();                                     // one value for each row, [*batch]
  Tensor output_grad(const Tensor& operand, bool needed);  // as fastvae/_shapes.py's empty_grad says
  void skip_if_minus_1(const Tensor& number);              // see Job

  void run();

 private:
  Shape shape_;
  int64_t event_ndim_, num_samples_;
  torch::headeronly::ScalarType first_dtype_;
  Device device_;

  Operand operand(const Tensor& tensor, int64_t skip_leading = 0, int64_t event_ndim = 0) const;
  torch::headeronly::ScalarType accumulate_dtype() const;
  Tensor output_shared(Tensor sums);
  std::vector<int> walking_order() const;
  void cut_rows(const std::vector<int>& order);
  void merge(const std::vector<int>& order);
  void run_rows();
};

}  // namespace fastvae
