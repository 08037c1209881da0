// Every rule against what transformers, LLaMA-Factory and the libraries they call did to the same model with the same gradients:
// tests/golden/optimizers, made by tests/golden/make_optimizer_cases.py.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/train/optimizers/optimizer.h"

namespace loraine::cases_test {
namespace {

using Json = nlohmann::ordered_json;

// As the script makes them.
std::vector<float> numbers(int64_t count, uint64_t seed) {
  std::vector<float> out;
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i) {
    uint64_t x = (i * 2654435761u + seed * 40503u + 12345u) & 0xffffffffu;
    x ^= x >> 16;
    x = x * 2246822519u & 0xffffffffu;
    x ^= x >> 13;
    x = x * 3266489917u & 0xffffffffu;
    x ^= x >> 16;
    out.push_back(static_cast<float>(static_cast<double>(x >> 8) / 0x1p24 - 0.5));
  }
  return out;
}

// The model of a case with its values and gradients.
class CaseModel {
 public:
  explicit CaseModel(const Json& size) {
    const int64_t hidden = size["hidden"], kv = size["kv"], inner = size["inner"], vocab = size["vocab"];
    std::map<std::string, std::vector<int64_t>> shapes = {
        {"model.embed_tokens.weight", {vocab, hidden}}, {"model.norm.weight", {hidden}}, {"lm_head.weight", {vocab, hidden}}};
    for (int64_t layer = 0; layer < size["layers"]; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + ".";
      shapes[at + "self_attn.q_proj.weight"] = shapes[at + "self_attn.o_proj.weight"] = {hidden, hidden};
      shapes[at + "self_attn.q_proj.bias"] = {hidden};
      shapes[at + "self_attn.k_proj.weight"] = shapes[at + "self_attn.v_proj.weight"] = {kv, hidden};
      shapes[at + "mlp.gate_proj.weight"] = shapes[at + "mlp.up_proj.weight"] = {inner, hidden};
      shapes[at + "mlp.down_proj.weight"] = {hidden, inner};
      shapes[at + "input_layernorm.weight"] = shapes[at + "post_attention_layernorm.weight"] = {hidden};
    }
    values_.reserve(shapes.size());
    gradients_.reserve(shapes.size());
    for (const auto& [name, shape] : shapes) {  // sorted by name
      int64_t count = 1;
      for (const int64_t n : shape) count *= n;
      values_.push_back(numbers(count, parameters_.size()));
      gradients_.emplace_back(static_cast<size_t>(count));
      parameters_.push_back({name, Tensor(values_.back().data(), Dtype::F32, std::span<const int64_t>(shape)),
                             Tensor(gradients_.back().data(), Dtype::F32, std::span<const int64_t>(shape))});
    }
  }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  void take_gradients(int64_t step) {
    for (size_t place = 0; place < parameters_.size(); ++place) {
      const std::vector<float> drawn = numbers(parameters_[place].value.numel(), static_cast<uint64_t>(1000 * step) + place);
      const float scale = static_cast<float>(std::ldexp(place == 3 ? 16 : 1, -static_cast<int>(step % 4)));
      for (size_t i = 0; i < drawn.size(); ++i) gradients_[place][i] = drawn[i] * scale;
    }
  }
  // The largest difference over what is allowed: 1e-6 of the value, or of 0.1 where it is smaller.
  double worst(const Json& want, int64_t every) const {
    double worst = 0;
    for (const Parameter& p : parameters_) {
      const Json& list = want.at(p.name);
      for (size_t k = 0; k < list.size(); ++k) {
        const double expected = list[k], got = p.value.f32()[static_cast<int64_t>(k) * every];
        const double off = std::abs(got - expected) / (1e-6 * std::max(std::abs(expected), 0.1));
        if (!(off <= worst)) worst = off;
      }
    }
    return worst;
  }

 private:
  std::vector<std::vector<float>> values_, gradients_;
  std::vector<Parameter> parameters_;
};

TrainConfig config_of(const Json& settings) {
  TrainConfig config;
  std::vector<Setting> list;
  for (const auto& [key, value] : settings.items()) list.push_back({.key = key, .text = value.dump(), .typed = true, .where = "case"});
  apply_settings(config, list);
  return config;
}

void replay(const Json& one) {
  const std::string what = one["settings"].dump();
  SCOPED_TRACE(what);
  const int64_t every = one["size"]["hidden"] <= 8 ? 3 : 41;
  const TrainConfig config = config_of(one["settings"]);
  CaseModel model(one["size"]);
  ModelConfig shape;
  shape.hidden_size = one["size"]["hidden"];
  shape.num_hidden_layers = one["size"]["layers"];
  shape.num_attention_heads = one["size"]["heads"];
  Optimizer optimizer(model.parameters(), recipe_of(config, shape, model.parameters(), static_cast<int64_t>(config.warmup_steps)));
  Context ctx;
  int64_t compared = 0;
  for (size_t k = 0; k < one["rates"].size(); ++k) {
    const int64_t step = static_cast<int64_t>(k) + 1;
    model.take_gradients(step);
    const double norm = optimizer.gradient_norm(ctx);
    optimizer.step(ctx, config.learning_rate * one["rates"][k].get<double>(), norm, 0);
    if (const auto shown = one["after"].find(std::to_string(step)); shown != one["after"].end()) {
      EXPECT_LE(model.worst(*shown, every), 1.0) << "after update " << step;
      ++compared;
    }
  }
  EXPECT_EQ(compared, static_cast<int64_t>(one["after"].size()));
  if (one["averages"].is_null()) return;
  optimizer.to_averages(ctx);
  EXPECT_LE(model.worst(one["averages"], every), 1.0) << "the averages";
  optimizer.to_training(ctx);
}

TEST(OptimizerCases, AsTheLibrariesDo) {
  int64_t cases = 0;
  for (const auto& file : std::filesystem::directory_iterator(LORAINE_SOURCE_DIR "/tests/golden/optimizers")) {
    std::ifstream lines(file.path());
    for (std::string line; std::getline(lines, line); ++cases) replay(Json::parse(line));
  }
  EXPECT_GT(cases, 40);
}

}  // namespace
}  // namespace loraine::cases_test
