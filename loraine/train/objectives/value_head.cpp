// Values and gradients of the head in one piece of memory.
#include "loraine/train/objectives/value_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>

#include "loraine/core/error.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine {
namespace {

constexpr const char* kWeight = "v_head.summary.weight";
constexpr const char* kBias = "v_head.summary.bias";

}  // namespace

ValueHead::ValueHead(int64_t hidden_size) : memory_(static_cast<size_t>(2 * hidden_size + 2) * sizeof(float), true) {
  float* at = static_cast<float*>(memory_.data());
  weight_ = Tensor(at, Dtype::F32, {1, hidden_size});
  d_weight_ = Tensor(at + hidden_size, Dtype::F32, {1, hidden_size});
  bias_ = Tensor(at + 2 * hidden_size, Dtype::F32, {1});
  d_bias_ = Tensor(at + 2 * hidden_size + 1, Dtype::F32, {1});
}

void ValueHead::start(uint64_t seed) {
  std::mt19937_64 random(seed);
  const float bound = 1.0f / std::sqrt(static_cast<float>(weight_.cols()));
  std::uniform_real_distribution<float> uniform(-bound, bound);
  for (int64_t i = 0; i < weight_.cols(); ++i) weight_.f32()[i] = uniform(random);
  bias_.f32()[0] = uniform(random);
}

std::optional<std::string> value_head_file(const std::string& folder) {
  for (const char* name : {kValueHeadFile, "value_head.bin"}) {
    std::string path = folder + "/" + name;
    std::error_code failed;
    if (std::filesystem::is_regular_file(path, failed)) return path;
  }
  return {};
}

bool ValueHead::read_if_there(const std::string& folder) {
  const std::optional<std::string> path = value_head_file(folder);
  if (!path) return false;
  const std::unique_ptr<TensorSource> source = open_tensor_source(*path);
  for (const auto& [tensor, to] : {std::pair{kWeight, weight_}, {kBias, bias_}}) {
    const TensorInfo* info = source->find(tensor);
    const int64_t found = info ? Tensor(nullptr, Dtype::F32, info->shape).numel() : 0;
    if (found != to.numel())
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} {}, expected {} numbers for this model", *path, tensor,
                              info ? fmt::format("has {}", found) : "is missing", to.numel()),
                  "give the value head of a reward model over this base");
    source->read(*info, Tensor(to.data, Dtype::F32, info->shape));
    if (!std::all_of(to.f32(), to.f32() + to.numel(), [](float v) { return std::isfinite(v); }))
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", *path, tensor));
  }
  return true;
}

void ValueHead::read(const std::string& folder) {
  if (read_if_there(folder)) return;
  throw Error(ErrorKind::bad_data, fmt::format("{}: there is no {}, which scores answers", folder, kValueHeadFile),
              "give a reward model: the output_dir of a run with stage: rm");
}

void ValueHead::write(const std::string& folder) const {
  write_safetensors(folder + "/" + kValueHeadFile, {{kBias, bias_}, {kWeight, weight_}}, {{"format", "pt"}});
}

std::vector<Parameter> ValueHead::parameters() const { return {{kBias, bias_, d_bias_}, {kWeight, weight_, d_weight_}}; }

double ValueHead::score(const float* state) const {
  double sum = static_cast<double>(bias_.f32()[0]);
  for (int64_t i = 0; i < weight_.cols(); ++i) sum += static_cast<double>(weight_.f32()[i]) * static_cast<double>(state[i]);
  return sum;
}

void ValueHead::backward(const float* state, double d, float* d_state) {
  const auto factor = static_cast<float>(d);
  for (int64_t i = 0; i < weight_.cols(); ++i) {
    d_weight_.f32()[i] += factor * state[i];
    d_state[i] = factor * weight_.f32()[i];
  }
  d_bias_.f32()[0] += factor;
}

std::shared_ptr<const ValueHead> value_head_beside(const std::string& folder, int64_t hidden_size) {
  auto head = std::make_shared<ValueHead>(hidden_size);
  return head->read_if_there(folder) ? head : nullptr;
}

}  // namespace loraine
