// The CUDA runtime and torch's streams.
#include "device.h"

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

// Of torch's CUDA library; its header declares it to whoever compiles against a torch with CUDA.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace fastvae {

using torch::stable::accelerator::DeviceGuard;

OnDevice::OnDevice(int32_t index) : index_(index) {
  if (torch::stable::accelerator::getCurrentDeviceIndex() != index) guard_ = new DeviceGuard(index);
}

OnDevice::~OnDevice() { delete static_cast<DeviceGuard*>(guard_); }

void* OnDevice::stream() const {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
  return stream;
}

int OnDevice::multiprocessors() const {
  int count = 0;
  cudaError_t error = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index_);
  STD_TORCH_CHECK(error == cudaSuccess, "fastvae: device cuda:", index_,
                  " cannot be asked: ", cudaGetErrorString(error));
  return count;
}

void OnDevice::check_launch() const {
  cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "fastvae: a kernel was not launched on cuda:", index_, ": ",
                  cudaGetErrorString(error));
}

}  // namespace fastvae
