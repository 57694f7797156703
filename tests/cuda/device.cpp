// A device that is the host: the CUDA kernels' sources, compiled for it, run one thread after the other.
#include "../../kernels/cuda/device.h"

namespace fastvae {

OnDevice::OnDevice(int32_t index) : index_(index) {}
OnDevice::~OnDevice() = default;
void* OnDevice::stream() const { return guard_; }
int OnDevice::multiprocessors() const { return index_ + 1; }
void OnDevice::check_launch() const {}

}  // namespace fastvae
