// What the kernels' host side asks of the device. Tests that emulate one bring their own.
#pragma once

#include <cstdint>

namespace fastvae {

// Makes a device current for its lifetime.
class OnDevice {
 public:
  explicit OnDevice(int32_t index);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  void* stream() const;  // torch's current one
  int multiprocessors() const;
  void check_launch() const;  // an error of the launch itself; what a kernel does is not waited for

 private:
  int32_t index_;
  void* guard_ = nullptr;
};

}  // namespace fastvae
