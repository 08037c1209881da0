// Names and forms of AdaLoRA's keys.
#include "loraine/adapters/adalora_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using Ordered = nlohmann::ordered_json;
constexpr std::string_view kSuffix = ".lora_E";
constexpr const char* kPrefix = "base_model.model.";

[[noreturn]] void wrong(const std::string& file, const char* key, const Ordered& value, const std::string& expected) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, expected {}", file, key, value.dump().substr(0, 80), expected));
}

// visit(name, field) over all numbers
template <class Config, class Visit>
void numbers(Config& c, const Visit& visit) {
  visit("init_r", c.init_r);
  visit("target_r", c.target_r);
  visit("tinit", c.tinit);
  visit("tfinal", c.tfinal);
  visit("deltaT", c.deltaT);
  visit("total_step", c.total_step);
  visit("beta1", c.beta1);
  visit("beta2", c.beta2);
  visit("orth_reg_weight", c.orth_reg_weight);
}

RankPattern read_pattern(const Ordered& json, const AdaloraConfig& config, const std::string& file) {
  RankPattern pattern;
  const Ordered value = json.value("rank_pattern", Ordered());
  if (value.is_null()) return pattern;
  if (!value.is_object()) wrong(file, "rank_pattern", value, "an object of module.lora_E: list of true and false, or null");
  for (const auto& [name, lives] : value.items()) {
    std::vector<bool>& kept = pattern[name.ends_with(kSuffix) ? name.substr(0, name.size() - kSuffix.size()) : name];
    if (!lives.is_array() || static_cast<int64_t>(lives.size()) != config.init_r)
      wrong(file, "rank_pattern", lives, fmt::format("{} values (init_r) for {}", config.init_r, name));
    for (const Ordered& one : lives) {
      if (!one.is_boolean()) wrong(file, "rank_pattern", lives, "true and false");
      kept.push_back(one.get<bool>());
    }
  }
  return pattern;
}

}  // namespace

bool is_adalora_key(const std::string& key) {
  bool found = false;
  AdaloraConfig config;
  numbers(config, [&](const char* name, auto&) { found |= key == name; });
  return found;
}

AdaloraConfig read_adalora_config(const Ordered& json, const std::string& file) {
  AdaloraConfig config;
  numbers(config, [&](const char* key, auto& field) {
    using Number = std::decay_t<decltype(field)>;
    if (!json.contains(key)) return;
    const Ordered& value = json[key];
    if (std::is_integral_v<Number> ? !value.is_number_integer() : !value.is_number() || !std::isfinite(value.get<double>()))
      wrong(file, key, value, std::is_integral_v<Number> ? "an integer" : "a number");
    field = value.get<Number>();
  });
  auto check = [&](bool good, const char* key, const char* expected) {
    if (!good) wrong(file, key, json.value(key, Ordered()), expected);
  };
  constexpr int64_t kMost = int64_t{1} << 40;
  check(config.init_r > 0 && config.init_r <= 65536, "init_r", "a rank from 1 to 65536");
  check(config.target_r > 0 && config.target_r <= config.init_r, "target_r", "a rank from 1 to init_r");
  check(config.total_step > 0 && config.total_step < kMost, "total_step", "the number of updates, above 0");
  check(config.tinit >= 0 && config.tinit < kMost, "tinit", "a number of updates");
  check(config.tfinal >= 0 && config.tfinal < kMost, "tfinal", "a number of updates");
  check(config.deltaT > 0 && config.deltaT < kMost, "deltaT", "a number of updates, above 0");
  check(config.beta1 > 0 && config.beta1 < 1, "beta1", "a number between 0 and 1");
  check(config.beta2 > 0 && config.beta2 < 1, "beta2", "a number between 0 and 1");
  check(config.orth_reg_weight >= 0, "orth_reg_weight", "a number of at least 0");
  config.rank_pattern = read_pattern(json, config, file);
  return config;
}

void add_adalora_keys(Ordered& json, const AdaloraConfig& config) {
  json["peft_type"] = "ADALORA";
  numbers(config, [&](const char* key, const auto& field) { json[key] = field; });
  json["rank_pattern"] = nullptr;
  if (config.rank_pattern.empty()) return;
  Ordered& pattern = json["rank_pattern"] = Ordered::object();
  for (const auto& [name, lives] : config.rank_pattern) pattern[name + std::string(kSuffix)] = lives;
}

Tensor living_ranks(const std::string& name, const Tensor& value, const RankPattern& pattern, Buffer& memory) {
  const size_t dot = name.rfind('.');
  std::string module = name.substr(0, dot);
  if (module.starts_with(kPrefix)) module = module.substr(std::string_view(kPrefix).size());
  const auto found = pattern.find(module);
  if (found == pattern.end()) return value;
  const std::vector<bool>& lives = found->second;
  const int64_t kept = std::count(lives.begin(), lives.end(), true), ranks = static_cast<int64_t>(lives.size());
  const bool by_columns = name.ends_with(".lora_B");
  const int64_t rows = by_columns ? value.rows() : kept, cols = by_columns ? kept : value.cols();
  memory = Buffer(std::max<size_t>(static_cast<size_t>(rows * cols), 1) * sizeof(float));
  const Tensor out(memory.data(), Dtype::F32, {rows, cols});
  float* next = out.f32();
  for (int64_t i = 0; i < value.rows(); ++i)
    for (int64_t j = 0; j < value.cols(); ++j)
      if (lives[static_cast<size_t>(by_columns ? j : i)]) *next++ = value.f32()[i * value.cols() + j];
  if ((by_columns ? value.cols() : value.rows()) != ranks)
    throw Error(ErrorKind::internal, fmt::format("{}: {} does not fit {} ranks", name, value.shape_text(), ranks));
  return out;
}

}  // namespace loraine
