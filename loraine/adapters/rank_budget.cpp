// Scores, cuts and the orthogonality penalty of AdaLoRA.
#include "loraine/adapters/rank_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loraine/adapters/dense.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

// Elementwise; the new mean counts in the distance.
void follow(std::vector<float>& mean, std::vector<float>& distance, const Tensor& p, const Tensor& gradient, float scale, float beta1,
            float beta2) {
  for (size_t i = 0; i < mean.size(); ++i) {
    const float importance = std::abs(p.f32()[i] * (gradient.f32()[i] * scale));
    mean[i] = beta1 * mean[i] + (1 - beta1) * importance;
    distance[i] = beta2 * distance[i] + (1 - beta2) * std::abs(importance - mean[i]);
  }
}

// d_m += factor · d‖G − I‖ / d m, G = m mᵀ (rows) or mᵀ m (columns); gives ‖G − I‖.
double add_norm_gradient(Context& ctx, const Tensor& d_m, const Tensor& m, bool rows, double factor) {
  const int64_t r = rows ? m.rows() : m.cols();
  std::vector<float> memory(static_cast<size_t>(r * r));
  const Tensor gram(memory.data(), Dtype::F32, {r, r});
  if (rows) matmul_nt(ctx, gram, m, m);
  else matmul_tn(ctx, gram, m, m);
  double squares = 0;
  for (int64_t i = 0; i < r; ++i) {
    gram.f32()[i * r + i] -= 1;
    for (int64_t j = 0; j < r; ++j) squares += static_cast<double>(gram.f32()[i * r + j]) * static_cast<double>(gram.f32()[i * r + j]);
  }
  const double norm = std::sqrt(squares);
  if (norm == 0) return 0;
  const float alpha = static_cast<float>(2 * factor / norm);
  if (rows) matmul_nn(ctx, d_m, gram, m, alpha, 1);
  else matmul_nn(ctx, d_m, m, gram, alpha, 1);
  return norm;
}

}  // namespace

RankBudget::RankBudget(const AdapterSet& set, const AdaloraConfig& config) : config_(config) {
  for (const auto& site : set.sites)
    if (const auto* adalora = dynamic_cast<const AdaLora*>(site.get()))
      for (AdaLora::Triplets& t : adalora->triplets()) {
        auto zeros = [](const Tensor& x) { return std::vector<float>(static_cast<size_t>(x.numel())); };
        all_ranks_ += t.e.numel();
        modules_.push_back({t, {zeros(t.a), zeros(t.a)}, {zeros(t.e), zeros(t.e)}, {zeros(t.b), zeros(t.b)}});
      }
  std::ranges::sort(modules_, {}, [](const Module& m) { return m.triplets.name; });
  if (set.dense) beside_ = set.dense->parameters;
  if (config.tinit >= config.total_step - config.tfinal)
    throw Error(ErrorKind::usage,
                fmt::format("adalora: tinit {} and tfinal {} leave no updates between them for the budget to fall, the run has {}",
                            config.tinit, config.tfinal, config.total_step),
                "make tinit + tfinal smaller than the number of updates");
  if (config.target_r > config.init_r)
    throw Error(ErrorKind::usage, fmt::format("adalora: target_r {} is above init_r {}", config.target_r, config.init_r),
                "ranks are only cut");
  std::vector<int64_t> ranks;
  for (const Module& m : modules_) ranks.push_back(m.triplets.e.numel());
  history_.push_back({0, ranks});
}

std::vector<std::string> RankBudget::modules() const {
  std::vector<std::string> names;
  for (const Module& m : modules_) names.push_back(m.triplets.name);
  return names;
}

double RankBudget::add_orthogonality(Context& ctx) {
  const double factor = config_.orth_reg_weight / (2.0 * static_cast<double>(modules_.size()));
  if (factor == 0) return 0;
  double sum = 0;
  for (const Module& m : modules_) {
    sum += add_norm_gradient(ctx, m.triplets.d_a, m.triplets.a, true, factor);
    sum += add_norm_gradient(ctx, m.triplets.d_b, m.triplets.b, false, factor);
  }
  return factor * sum;
}

int64_t RankBudget::budget(int64_t step) const {
  const int64_t target = config_.target_r * static_cast<int64_t>(modules_.size()), last = config_.total_step - config_.tfinal;
  if (step <= config_.tinit) return all_ranks_;
  if (step >= last) return target;
  const double left = 1 - static_cast<double>(step - config_.tinit) / static_cast<double>(last - config_.tinit);
  return static_cast<int64_t>(static_cast<double>(all_ranks_ - target) * left * left * left + static_cast<double>(target));
}

void RankBudget::after_update(int64_t step, float gradient_scale) {
  const int64_t last = config_.total_step - config_.tfinal;
  if (step < last) {
    score(gradient_scale);
    if (step > config_.tinit && step % config_.deltaT == 0) cut(step);
  } else if (step == last) {
    cut(step);
  } else {
    mask();
  }
}

void RankBudget::score(float scale) {
  const float beta1 = static_cast<float>(config_.beta1), beta2 = static_cast<float>(config_.beta2);
  for (Module& m : modules_) {
    const AdaLora::Triplets& t = m.triplets;
    follow(m.a.mean, m.a.distance, t.a, t.d_a, scale, beta1, beta2);
    follow(m.e.mean, m.e.distance, t.e, t.d_e, scale, beta1, beta2);
    follow(m.b.mean, m.b.distance, t.b, t.d_b, scale, beta1, beta2);
  }
}

// The score of a triplet: E's own, the mean over its row of A, the mean over its column of B.
void RankBudget::cut(int64_t step) {
  const int64_t out_of_budget = all_ranks_ - budget(step);
  std::vector<float> scores;
  for (const Module& m : modules_) {
    const int64_t r = m.triplets.e.numel(), in = m.triplets.a.cols(), out = m.triplets.b.rows();
    auto element = [](const Means& of, int64_t i) {
      return static_cast<double>(of.mean[static_cast<size_t>(i)] * of.distance[static_cast<size_t>(i)]);
    };
    for (int64_t k = 0; k < r; ++k) {
      double row = 0, column = 0;
      for (int64_t j = 0; j < in; ++j) row += element(m.a, k * in + j);
      for (int64_t o = 0; o < out; ++o) column += element(m.b, o * r + k);
      scores.push_back(static_cast<float>(element(m.e, k) + row / static_cast<double>(in) + column / static_cast<double>(out)));
    }
  }
  float threshold = -1;  // scores are not negative
  if (out_of_budget > 0) {
    std::vector<float> sorted = scores;
    const auto nth = sorted.begin() + static_cast<ptrdiff_t>(std::min(out_of_budget, all_ranks_) - 1);
    std::nth_element(sorted.begin(), nth, sorted.end());
    threshold = *nth;
  }
  Cut taken{step, {}};
  size_t at = 0;
  for (const Module& m : modules_) {
    std::vector<bool>& lives = pattern_[m.triplets.name];
    lives.assign(static_cast<size_t>(m.triplets.e.numel()), false);
    for (size_t k = 0; k < lives.size(); ++k) lives[k] = scores[at++] > threshold;
    taken.ranks.push_back(std::count(lives.begin(), lives.end(), true));
  }
  history_.push_back(std::move(taken));
  mask();
}

void RankBudget::mask() {
  for (const Module& m : modules_) {
    const auto lives = pattern_.find(m.triplets.name);
    if (lives == pattern_.end()) continue;
    for (size_t k = 0; k < lives->second.size(); ++k)
      if (!lives->second[k]) m.triplets.e.f32()[k] = 0;
  }
}

std::vector<std::pair<std::string, Tensor>> RankBudget::state_tensors() const {
  std::vector<std::pair<std::string, Tensor>> all;
  for (const Module& m : modules_) {
    const AdaLora::Triplets& t = m.triplets;
    auto add = [&](const char* part, const Tensor& value, const Means& means) {
      auto like = [&](const std::vector<float>& v) {
        return Tensor(const_cast<float*>(v.data()), Dtype::F32, {value.rows(), value.cols()});
      };
      all.emplace_back(t.name + part, value);
      all.emplace_back(t.name + part + ".mean", like(means.mean));
      all.emplace_back(t.name + part + ".distance", like(means.distance));
    };
    add(".lora_A", t.a, m.a);
    add(".lora_E", t.e, m.e);
    add(".lora_B", t.b, m.b);
  }
  for (const Parameter& p : beside_) all.emplace_back(p.name, p.value);
  return all;
}

namespace {
constexpr const char* kTensors = "/adalora_state.safetensors";
constexpr const char* kRecord = "/adalora_state.json";
}  // namespace

void RankBudget::write_state(const std::string& folder) const {
  write_safetensors(folder + kTensors, state_tensors(), {{"format", "pt"}});
  Json record = {{"pattern", Json::object()}, {"history", Json::array()}};
  for (const auto& [name, lives] : pattern_) record["pattern"][name] = lives;
  for (const Cut& one : history_) record["history"].push_back({{"step", one.step}, {"ranks", one.ranks}});
  write_file(folder + kRecord, record.dump(2) + "\n");
}

void RankBudget::read_state(const std::string& folder) {
  const std::string file = folder + kTensors;
  const auto source = open_safetensors(file);
  for (const auto& [name, tensor] : state_tensors()) {
    const TensorInfo* info = source->find(name);
    if (!info || info->dtype != Dtype::F32 || Tensor(nullptr, Dtype::F32, info->shape).shape_text() != tensor.shape_text())
      throw Error(
          ErrorKind::bad_data,
          fmt::format("{}: {} is {}, expected F32 {}", file, name, info ? "of another shape or type" : "missing", tensor.shape_text()),
          "resume from another checkpoint");
    source->read(*info, tensor);
  }
  const std::string record_file = folder + kRecord;
  const Json record = parse_json_file(record_file);
  RankPattern pattern;
  std::vector<Cut> history;
  try {
    for (const auto& [name, lives] : record.at("pattern").items()) pattern[name] = lives.get<std::vector<bool>>();
    for (const Json& one : record.at("history"))
      history.push_back({one.at("step").get<int64_t>(), one.at("ranks").get<std::vector<int64_t>>()});
  } catch (const Json::exception& error) {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}", record_file, error.what()), "resume from another checkpoint");
  }
  bool fits = pattern.empty() || pattern.size() == modules_.size();
  for (const Module& m : modules_)
    fits &= pattern.empty() ||
            (pattern.contains(m.triplets.name) && pattern[m.triplets.name].size() == static_cast<size_t>(m.triplets.e.numel()));
  for (const Cut& one : history) fits &= one.ranks.size() == modules_.size();
  if (!fits) throw Error(ErrorKind::bad_data, record_file + ": its modules are not those of this run", "resume from another checkpoint");
  pattern_ = std::move(pattern);
  history_ = std::move(history);
}

void RankBudget::write_ranks(const std::string& file) const {
  nlohmann::ordered_json record = {{"steps", Json::array()}, {"ranks", nlohmann::ordered_json::object()}};
  for (const Cut& one : history_) record["steps"].push_back(one.step);
  for (size_t m = 0; m < modules_.size(); ++m) {
    auto& ranks = record["ranks"][modules_[m].triplets.name] = nlohmann::ordered_json::array();
    for (const Cut& one : history_) ranks.push_back(one.ranks[m]);
  }
  write_file(file, record.dump(2) + "\n");
}

}  // namespace loraine
