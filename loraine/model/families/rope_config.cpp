// One function per kind of scaling, in f32 where transformers computes in f32.
#include "loraine/model/families/rope_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "loraine/core/error.h"

namespace loraine {
namespace {

// theta^(−2i/dims)
std::vector<float> plain_frequencies(double theta, int64_t dims) {
  std::vector<float> all(static_cast<size_t>(dims / 2));
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = 1.0f / static_cast<float>(std::pow(static_cast<float>(theta), static_cast<float>(2 * i) / static_cast<float>(dims)));
  return all;
}

double factor_of(const ConfigReader& rope) {
  const double factor = rope.number_or("factor", 0);
  if (!(factor >= 1)) rope.wrong("factor", "a number of 1 or more");
  return factor;
}

double g(double mscale, double factor) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

void scale_llama3(Rope& out, const ConfigReader& rope) {
  const double factor = factor_of(rope), low = rope.number_or("low_freq_factor", 1), high = rope.number_or("high_freq_factor", 4);
  const double old_length = static_cast<double>(rope.positive("original_max_position_embeddings"));
  if (!(high > low)) rope.wrong("high_freq_factor", "a number above low_freq_factor");
  for (float& f : out.frequencies) {
    double wavelength = 2 * std::numbers::pi / f;
    if (wavelength > old_length / low) f = static_cast<float>(f / factor);
    else if (wavelength >= old_length / high) {
      double smooth = (old_length / wavelength - low) / (high - low);
      f = static_cast<float>((1 - smooth) * f / factor + smooth * f);
    }
  }
}

void scale_yarn(Rope& out, const ConfigReader& rope, double theta, int64_t dims, int64_t max_positions) {
  const double factor = factor_of(rope);
  const double old_length = static_cast<double>(rope.positive_or("original_max_position_embeddings", max_positions));
  const auto mscale = [&](const char* key) { return rope.get(key) ? rope.number_or(key, 0) : 0.0; };
  if (rope.get("attention_factor")) out.scale = static_cast<float>(rope.number_or("attention_factor", 1));
  else if (mscale("mscale") != 0 && mscale("mscale_all_dim") != 0)
    out.scale = static_cast<float>(g(mscale("mscale"), factor) / g(mscale("mscale_all_dim"), factor));
  else out.scale = static_cast<float>(g(1, factor));
  const double fast = rope.get("beta_fast") ? rope.number_or("beta_fast", 32) : 32,
               slow = rope.get("beta_slow") ? rope.number_or("beta_slow", 1) : 1;
  const auto dim_of = [&](double rotations) {
    return static_cast<double>(dims) * std::log(old_length / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = dim_of(fast), high = dim_of(slow);
  if (rope.flag_or("truncate", true)) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dims - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < out.frequencies.size(); ++i) {
    const float ramp = std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f),
                kept = 1 - ramp;
    const float plain = out.frequencies[i], stretched = plain / static_cast<float>(factor);
    out.frequencies[i] = stretched * (1 - kept) + plain * kept;
  }
}

void scale_longrope(Rope& out, const ConfigReader& rope, const ConfigReader& hf, int64_t max_positions) {
  const ConfigReader& with_length = rope.get("original_max_position_embeddings") ? rope : hf;
  out.original_length = with_length.positive_or("original_max_position_embeddings", max_positions);
  const double old_length = static_cast<double>(out.original_length);
  const double factor = rope.get("factor") ? factor_of(rope) : static_cast<double>(max_positions) / old_length;
  const auto divided = [&](const char* key) {
    const std::vector<double> by = rope.numbers(key);
    if (by.size() != out.frequencies.size())
      rope.wrong(key, fmt::format("{} numbers, half the rotated dims of a head", out.frequencies.size()));
    std::vector<float> all = out.frequencies;
    for (size_t i = 0; i < all.size(); ++i) all[i] /= static_cast<float>(by[i]);
    return all;
  };
  const std::vector<float> longer = divided("long_factor"), shorter = divided("short_factor");
  out.long_frequencies = longer;
  out.frequencies = shorter;
  const double grown = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(old_length));
  out.scale = static_cast<float>(rope.get("attention_factor") ? rope.number_or("attention_factor", 1) : grown);
  out.long_scale = out.scale;
  if (rope.get("short_mscale")) out.scale = static_cast<float>(rope.number_or("short_mscale", 1));
  if (rope.get("long_mscale")) out.long_scale = static_cast<float>(rope.number_or("long_mscale", 1));
}

}  // namespace

ConfigReader rope_object(const ConfigReader& hf, const std::string& layer_type) {
  const ConfigReader rope = hf.inside(hf.get("rope_parameters") ? "rope_parameters" : "rope_scaling");
  return !layer_type.empty() && rope.get(layer_type.c_str()) ? rope.inside(layer_type.c_str()) : rope;
}

double yarn_softmax_factor(const ConfigReader& hf) {
  const ConfigReader rope = rope_object(hf);
  if (!rope.get("mscale_all_dim") || rope.number_or("mscale_all_dim", 0) == 0) return 1;
  const double m = g(rope.number_or("mscale_all_dim", 0), factor_of(rope));
  return m * m;
}

std::shared_ptr<const Rope> read_rope(const ConfigReader& hf, const RopeKeys& keys) {
  const ConfigReader rope = rope_object(hf, keys.layer_type);
  const auto number = [&](const char* key, double otherwise) {  // there, at the top, or the family's
    const ConfigReader& with = rope.get(key) ? rope : hf;
    return with.get(key) ? with.number_or(key, otherwise) : otherwise;
  };
  const double theta = number("rope_theta", number("rotary_emb_base", keys.theta));
  if (!(theta > 0)) (rope.get("rope_theta") ? rope : hf).wrong("rope_theta", "a number above 0");
  const double partial = number("partial_rotary_factor", number("rotary_pct", keys.partial));
  if (!(partial > 0 && partial <= 1))
    (rope.get("partial_rotary_factor") ? rope : hf).wrong("partial_rotary_factor", "a number above 0, at most 1");
  std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type == "su" || (type == "yarn" && keys.yarn_is_longrope)) type = "longrope";

  auto out = std::make_shared<Rope>();
  out->layout = keys.layout;
  if (type == "proportional") {  // all dims turn as in a whole head, but for those beyond the part, which stand still
    out->frequencies = plain_frequencies(theta, keys.head_dim);
    const auto turning = static_cast<size_t>(partial * static_cast<double>(keys.head_dim) / 2);
    std::fill(out->frequencies.begin() + static_cast<std::ptrdiff_t>(std::min(turning, out->frequencies.size())), out->frequencies.end(),
              0.0f);
    if (rope.get("factor"))
      for (float& f : out->frequencies) f /= static_cast<float>(factor_of(rope));
    return out;
  }
  const auto dims = static_cast<int64_t>(static_cast<double>(keys.head_dim) * partial) / 2 * 2;
  if (dims < 2) rope.wrong("partial_rotary_factor", "one that leaves at least two dims to rotate");
  out->frequencies = plain_frequencies(theta, dims);
  if (type == "linear") {
    for (float& f : out->frequencies) f /= static_cast<float>(factor_of(rope));
  } else if (type == "llama3") {
    scale_llama3(*out, rope);
  } else if (type == "yarn") {
    scale_yarn(*out, rope, theta, dims, keys.max_position_embeddings);
  } else if (type == "longrope") {
    scale_longrope(*out, rope, hf, keys.max_position_embeddings);
  } else if (type == "dynamic" && rope.get("alpha")) {  // Hunyuan's: once and for all
    const double d = static_cast<double>(dims);
    out->frequencies = plain_frequencies(theta * std::pow(rope.number_or("alpha", 1), d / (d - 2)), dims);
  } else if (type == "dynamic") {
    out->original_length = keys.max_position_embeddings;
    out->dynamic_factor = factor_of(rope);
    out->theta = theta;
  } else if (type != "default" && type != "mrope") {
    rope.wrong(rope.get("rope_type") ? "rope_type" : "type",
               "default, linear, dynamic, yarn, longrope, llama3, proportional or mrope: loraine does not build others");
  }
  return out;
}

}  // namespace loraine
