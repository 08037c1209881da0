// Values come from a hash of seed, name and place, so that they depend on nothing else.
#include "loraine/io/fresh_weights.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "loraine/core/error.h"

namespace loraine {
namespace {

uint64_t mixed(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double unit(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }  // in (0, 1)

class FreshWeights : public TensorSource {
 public:
  FreshWeights(std::vector<TensorInfo> all, uint64_t seed, double deviation) : all_(std::move(all)), seed_(seed), deviation_(deviation) {}
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    uint64_t key = mixed(seed_);
    for (const char c : info.name) key = mixed(key ^ static_cast<unsigned char>(c));
    const bool norm = info.shape.size() == 1 && info.name.ends_with("weight"), bias = info.shape.size() == 1 && !norm;
    for (int64_t i = 0; i < out.numel(); ++i) {
      float value = norm ? 1.0f : bias ? 0.0f : static_cast<float>(deviation_ * normal(key, static_cast<uint64_t>(i)));
      if (out.dtype == Dtype::F32) static_cast<float*>(out.data)[i] = value;
      else convert(static_cast<uint16_t*>(out.data) + i, out.dtype, &value, Dtype::F32, 1);
    }
  }

 private:
  static double normal(uint64_t key, uint64_t place) {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log(unit(mixed(key ^ (2 * place)))));
    return radius * std::cos(2 * std::numbers::pi * unit(mixed(key ^ (2 * place + 1))));
  }
  std::vector<TensorInfo> all_;
  uint64_t seed_;
  double deviation_;
};

}  // namespace

std::shared_ptr<TensorSource> fresh_weights(const ModelFiles& files, uint64_t seed) {
  std::vector<TensorInfo> all = files.tensors->tensors();
  for (const TensorInfo& info : all)
    if (info.packed)
      throw Error(ErrorKind::bad_data,
                  files.path + ": " + info.name + " is stored quantised, and a model is not trained from the start in that form",
                  "give the folder of a model in float32 or bfloat16");
  const auto range = files.config.find("initializer_range");
  const double deviation = range != files.config.end() && range->is_number() ? range->get<double>() : 0.02;
  if (!(deviation >= 0 && deviation <= 10))
    throw Error(ErrorKind::bad_data, files.path + ": config.json: initializer_range is out of range");
  return std::make_shared<FreshWeights>(std::move(all), seed, deviation);
}

}  // namespace loraine
