// Runs the exported encoder without Python: fastvae's operators come from its compiled library alone.
//
//     main FOLDER PATH/TO/fastvae/_cpu.so
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace {

constexpr int64_t kBatch = 16, kPixels = 64, kLatent = 8;

torch::Tensor read(const std::string& path, int64_t count) {
  torch::Tensor values = torch::empty({count});
  std::ifstream(path, std::ios::binary).read(static_cast<char*>(values.data_ptr()), count * sizeof(float));
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: %s FOLDER LIBRARY\n", argv[0]), 2;
  std::string folder = argv[1];

  // In Python the package defines the operators; here their signatures come from the export.
  torch::Library operators(torch::Library::DEF, "fastvae", std::nullopt, __FILE__, __LINE__);
  std::ifstream schemas(folder + "/schemas.txt");
  for (std::string schema; std::getline(schemas, schema);) operators.def(schema.c_str());
  if (dlopen(argv[2], RTLD_NOW) == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;

  torch::inductor::AOTIModelPackageLoader encoder(folder + "/encoder.pt2");
  torch::Tensor x = read(folder + "/x.bin", kBatch * kPixels).view({kBatch, kPixels});
  torch::Tensor seed = torch::tensor((int64_t(1) << 40) + 1);
  std::vector<torch::Tensor> results = encoder.run({x, seed});

  torch::Tensor expected = read(folder + "/expected.bin", kBatch * (kLatent + 1));
  double error = (torch::cat({results[0].flatten(), results[1]}) - expected).abs().max().item<double>();
  std::printf("z and KL of %d samples, largest difference from Python %.1e\n", int(kBatch), error);
  return error < 1e-5 ? 0 : 1;
}
