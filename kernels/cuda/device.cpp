// The CUDA runtime and torch's streams.
#include "device.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include <string>

#include "../host/tensors.h"

namespace fastvae {

using torch::stable::accelerator::DeviceGuard;

namespace {

using CurrentStream = AOTITorchError (*)(int32_t device_index, void** ret_stream);

// Of torch's CUDA library, which is loaded where CUDA tensors are, but not where the linker looks; a torch without
// CUDA, that this may be compiled against, has none.
CurrentStream current_stream() {
  static const auto found = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* symbol = library == nullptr ? nullptr : dlsym(library, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<CurrentStream>(symbol);
  }();
  STD_TORCH_CHECK(found != nullptr, "fastvae: torch's CUDA library (libtorch_cuda.so) is not loaded");
  return found;
}

}  // namespace

OnDevice::OnDevice(int32_t index) : index_(index) {
  if (torch::stable::accelerator::getCurrentDeviceIndex() != index) guard_ = new DeviceGuard(index);
}

OnDevice::~OnDevice() { delete static_cast<DeviceGuard*>(guard_); }

void* OnDevice::stream() const {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(current_stream()(index_, &stream));
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

// What the registry asks before this library serves; neither touches a GPU.
#define FASTVAE_EXPORT extern "C" __attribute__((visibility("default")))

// As CMake has them, "80-real 90": with "-real" machine code alone, else PTX too. Empty where CMake was told none.
FASTVAE_EXPORT const char* fastvae_cuda_architectures() { return FASTVAE_CUDA_ARCHITECTURES; }

// "driver runtime", as CUDA numbers them; a driver that is not there is 0.
FASTVAE_EXPORT const char* fastvae_cuda_versions() {
  static const std::string versions = [] {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return std::to_string(driver) + " " + std::to_string(runtime);
  }();
  return versions.c_str();
}
