// Kinds of layers and limits, each word checked.
#include "loraine/model/families/hybrid.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace loraine {

std::vector<bool> recurrent_layers(const Decoder& d, const std::vector<std::string>& recurrent,
                                   const std::function<bool(int64_t layer)>& otherwise) {
  std::vector<bool> all(static_cast<size_t>(d.config.num_hidden_layers));
  const nlohmann::json* types = d.hf.get("layer_types");
  if (types && (!types->is_array() || types->size() != all.size()))
    d.hf.wrong("layer_types", fmt::format("a list of {} types", all.size()));
  for (size_t layer = 0; layer < all.size(); ++layer) {
    if (!types) {
      all[layer] = otherwise(static_cast<int64_t>(layer));
      continue;
    }
    const nlohmann::json& type = (*types)[layer];
    all[layer] = std::ranges::any_of(recurrent, [&](const std::string& name) { return type == name; });
    if (!all[layer] && type != "full_attention" && type != "attention")
      d.hf.wrong("layer_types", fmt::format("full_attention or {} for layer {}", recurrent.front(), layer));
  }
  return all;
}

TimeStepLimits limits_or(const ConfigReader& hf, const char* key, const TimeStepLimits& otherwise) {
  const nlohmann::json* value = hf.get(key);
  if (!value) return otherwise;
  const auto number = [&](const nlohmann::json& one) {
    const bool named = one == "Infinity" || (one.is_object() && one.contains("__float__") && one["__float__"] == "Infinity");
    if (named) return std::numeric_limits<float>::infinity();
    if (!one.is_number()) hf.wrong(key, "two numbers, the second one may be infinite");
    return one.get<float>();
  };
  if (!value->is_array() || value->size() != 2) hf.wrong(key, "two numbers, the second one may be infinite");
  const TimeStepLimits limits{number((*value)[0]), number((*value)[1])};
  if (!(limits.low <= limits.high)) hf.wrong(key, "a lower limit and a higher one");
  return limits;
}

Mamba2Config read_mamba(const Decoder& d) {
  const ConfigReader& hf = d.hf;
  Mamba2Config out;
  out.hidden_size = d.config.hidden_size;
  out.heads = hf.positive_or("mamba_n_heads", 128);
  const int64_t width = hf.get("mamba_d_ssm") ? hf.positive("mamba_d_ssm") : hf.positive_or("mamba_expand", 2) * out.hidden_size;
  const nlohmann::json* head = hf.get("mamba_d_head");
  out.head_dim = head && !head->is_string() ? hf.positive("mamba_d_head") : width / out.heads;  // or "auto"
  if (out.width() != width) hf.wrong("mamba_n_heads", fmt::format("a number of heads of {} that makes {} channels", out.head_dim, width));
  out.groups = hf.positive_or("mamba_n_groups", 1);
  if (out.heads % out.groups) hf.wrong("mamba_n_groups", fmt::format("a divisor of mamba_n_heads {}", out.heads));
  out.state = hf.positive_or("mamba_d_state", 256);
  out.taps = hf.positive_or("mamba_d_conv", 4);
  out.conv_bias = hf.flag_or("mamba_conv_bias", true);
  out.in_bias = out.out_bias = hf.flag_or("mamba_proj_bias", false);
  out.norm_eps = d.norm.eps;
  const TimeStepLimits dt = limits_or(hf, "time_step_limit", {0, std::numeric_limits<float>::infinity()});
  out.dt_min = dt.low;
  out.dt_max = dt.high;
  return out;
}

}  // namespace loraine
