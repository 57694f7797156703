// How a kernel is bound, and noted for the registry.
#pragma once

#include <torch/csrc/stable/library.h>

#include <string>

namespace fastvae {

// The operators that have been bound, each with a space behind it.
inline std::string& bound() {
  static std::string names;
  return names;
}

template <class Kernel>
void bind(torch::stable::detail::StableLibrary& library, const char* name, Kernel kernel) {
  library.impl(name, kernel);
  (bound() += name) += ' ';
}

}  // namespace fastvae
