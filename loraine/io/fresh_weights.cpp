// Made when they are read.
#include "loraine/io/fresh_weights.h"

#include "loraine/core/error.h"
#include "loraine/io/normal_noise.h"

namespace loraine {
namespace {

class FreshWeights : public TensorSource {
 public:
  FreshWeights(std::vector<TensorInfo> all, uint64_t seed, double deviation) : all_(std::move(all)), seed_(seed), deviation_(deviation) {}
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    const NormalNoise noise(seed_, info.name);
    const bool norm = info.shape.size() == 1 && info.name.ends_with("weight"), bias = info.shape.size() == 1 && !norm;
    for (int64_t i = 0; i < out.numel(); ++i) {
      float value = norm ? 1.0f : bias ? 0.0f : static_cast<float>(deviation_ * noise.at(static_cast<uint64_t>(i)));
      if (out.dtype == Dtype::F32) static_cast<float*>(out.data)[i] = value;
      else convert(static_cast<uint16_t*>(out.data) + i, out.dtype, &value, Dtype::F32, 1);
    }
  }

 private:
  std::vector<TensorInfo> all_;
  uint64_t seed_;
  double deviation_;
};

}  // namespace

std::shared_ptr<TensorSource> fresh_weights(const ModelFiles& files, std::vector<TensorInfo> tensors, uint64_t seed) {
  const auto range = files.config.find("initializer_range");
  const double deviation = range != files.config.end() && range->is_number() ? range->get<double>() : 0.02;
  if (!(deviation >= 0 && deviation <= 10))
    throw Error(ErrorKind::bad_data, files.path + ": config.json: initializer_range is out of range");
  return std::make_shared<FreshWeights>(std::move(tensors), seed, deviation);
}

}  // namespace loraine
