#include "tensors.h"

#include <algorithm>
#include <utility>

namespace fastvae {

using torch::headeronly::ScalarType;

namespace {

bool is_dense(const Tensor& tensor) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (int64_t d = 0; d < tensor.dim(); ++d)
    if (tensor.size(d) != 1) dims.push_back({tensor.stride(d), tensor.size(d)});
  std::sort(dims.begin(), dims.end());
  int64_t expected = 1;
  for (auto [stride, size] : dims) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

// The dense strides in the tensor's own order of dimensions, found as torch.empty_like finds it.
Shape dense_strides(const Tensor& tensor) {
  int64_t ndim = tensor.dim();
  std::vector<int64_t> order(ndim);
  for (int64_t i = 0; i < ndim; ++i) order[i] = ndim - 1 - i;
  auto swaps = [&](int64_t a, int64_t b) {
    int64_t stride_a = tensor.stride(a), stride_b = tensor.stride(b);
    if (stride_a == 0 || stride_b == 0) return 0;
    if (stride_a != stride_b) return stride_a < stride_b ? -1 : 1;
    return tensor.size(a) > tensor.size(b) ? 1 : 0;
  };
  for (int64_t i = 1; i < ndim; ++i) {
    int64_t at = i;
    for (int64_t before = i - 1; before >= 0; --before) {
      int verdict = swaps(order[before], order[at]);
      if (verdict > 0) std::swap(order[before], order[at]), at = before;
      else if (verdict < 0) break;
    }
  }
  Shape strides(ndim);
  int64_t next = 1;
  for (int64_t d : order) {
    strides[d] = next;
    next *= std::max<int64_t>(tensor.size(d), 1);
  }
  return strides;
}

Shape row_major(const Shape& shape) {
  Shape strides(shape.size());
  int64_t next = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    strides[d] = next;
    next *= std::max<int64_t>(shape[d], 1);
  }
  return strides;
}

Tensor empty_strided(const Shape& shape, const Shape& strides, ScalarType dtype, const Device& device) {
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      shape.size(), shape.data(), strides.data(),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)), device.type, device.index, &handle));
  return Tensor(handle);
}

}  // namespace

Device device_of(const Tensor& tensor) {
  Device device;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &device.type));
  device.index = device.type == aoti_torch_device_type_cpu() ? 0 : tensor.get_device_index();
  return device;
}

Type type_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return Type::f32;
    case ScalarType::Double:
      return Type::f64;
    case ScalarType::Half:
      return Type::f16;
    case ScalarType::BFloat16:
      return Type::bf16;
    case ScalarType::Byte:
      return Type::u8;
    case ScalarType::Bool:
      return Type::boolean;
    case ScalarType::Char:
      return Type::i8;
    case ScalarType::Short:
      return Type::i16;
    case ScalarType::Int:
      return Type::i32;
    case ScalarType::Long:
      return Type::i64;
    default:
      STD_TORCH_CHECK(false, "fastvae: an operand is of a type that no kernel reads");
  }
}

bool is_on(const Device& device, const Tensor& tensor) {
  Device other = device_of(tensor);
  return device.type == other.type && device.index == other.index;
}

Shape broadcast(const std::vector<const Tensor*>& tensors) {
  Shape shape;
  for (const Tensor* tensor : tensors) {
    if (tensor == nullptr) continue;
    auto sizes = tensor->sizes();
    if (sizes.size() > shape.size()) shape.insert(shape.begin(), sizes.size() - shape.size(), 1);
    size_t lead = shape.size() - sizes.size();
    for (size_t d = 0; d < sizes.size(); ++d) {
      int64_t& size = shape[lead + d];
      STD_TORCH_CHECK(size == sizes[d] || size == 1 || sizes[d] == 1, "fastvae: operands do not broadcast");
      if (size == 1) size = sizes[d];
    }
  }
  return shape;
}

bool has_shape(const Tensor& tensor, const Shape& shape) {
  auto sizes = tensor.sizes();
  return sizes.size() == shape.size() && std::equal(shape.begin(), shape.end(), sizes.begin());
}

Tensor empty(const Shape& shape, ScalarType dtype, const Device& device) {
  return empty_strided(shape, row_major(shape), dtype, device);
}

bool is_seed(const Tensor& tensor) {
  return tensor.numel() == 1 && tensor.scalar_type() == torch::headeronly::ScalarType::Long;
}

Tensor new_like(const Tensor& tensor) {
  auto sizes = tensor.sizes();
  auto strides = tensor.strides();
  Shape shape(sizes.begin(), sizes.end());
  Shape layout = is_dense(tensor) ? Shape(strides.begin(), strides.end()) : dense_strides(tensor);
  return empty_strided(shape, layout, tensor.scalar_type(), device_of(tensor));
}

}  // namespace fastvae
