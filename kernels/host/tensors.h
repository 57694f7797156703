// What torch's stable ABI leaves to its users: shapes, and new tensors with torch's own choice of strides.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "job.h"

#ifndef STABLE_TORCH_ERROR_CODE_CHECK  // of torch 2.12 on
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace fastvae {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Shape = std::vector<int64_t>;

inline const Tensor* get(const OptionalTensor& tensor) { return tensor.has_value() ? &*tensor : nullptr; }

Device device_of(const Tensor& tensor);
Type type_of(const Tensor& tensor);
bool is_on(const Device& device, const Tensor& tensor);
bool is_seed(const Tensor& tensor);

Shape broadcast(const std::vector<const Tensor*>& tensors);  // null pointers are passed over
bool has_shape(const Tensor& tensor, const Shape& shape);
Tensor empty(const Shape& shape, torch::headeronly::ScalarType dtype, const Device& device);
Tensor new_like(const Tensor& tensor);  // torch.empty_like: dense layouts are kept

}  // namespace fastvae
