// A small model of any family with random weights: whatever tensors its configuration asks for.
#pragma once
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "loraine/model/load.h"

namespace loraine {

class AnyWeights : public TensorSource {
 public:
  explicit AnyWeights(std::vector<TensorInfo> all) : all_(std::move(all)) {}
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    uint32_t seed = 1;
    for (const char c : info.name) seed = seed * 31 + static_cast<unsigned char>(c);
    std::mt19937 random(seed);
    const float width = info.shape.size() >= 2 ? 1 / std::sqrt(static_cast<float>(info.shape.back())) : 0.2f;
    std::normal_distribution<float> normal(0, width);
    const bool of_ones = (info.name.find("norm") != std::string::npos && info.name.ends_with("weight")) || info.name.ends_with("scalar");
    for (int64_t i = 0; i < out.numel(); ++i) {
      const float value = normal(random) + (of_ones ? 1.0f : 0.0f);
      convert(static_cast<char*>(out.data) + static_cast<size_t>(i) * size_of(out.dtype), out.dtype, &value, Dtype::F32, 1);
    }
  }

 private:
  std::vector<TensorInfo> all_;
};

inline Model any_model(const nlohmann::json& config, const LoadOptions& options = {}) {
  ModelFiles files;
  files.path = "random";
  files.config = config;
  files.tensors = std::make_unique<AnyWeights>(tensors_of(config, "config.json"));
  return load_model(files, options);
}

}  // namespace loraine
