// The table of families and what they share: sizes, rope with its scalings, sliding windows.
#include "loraine/model/families/families.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "loraine/core/error.h"

namespace loraine {

void ConfigReader::wrong(const char* key, const std::string& expected) const {
  std::string found = hf_.contains(key) ? hf_[key].dump().substr(0, 80) : "absent";
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, expected {}", file_, key, found, expected));
}
const nlohmann::json* ConfigReader::get(const char* key) const {
  auto it = hf_.find(key);
  return it == hf_.end() || it->is_null() ? nullptr : &*it;
}
int64_t ConfigReader::positive_or(const char* key, int64_t otherwise) const {
  const nlohmann::json* value = get(key);
  if (!value) return otherwise;
  if (!value->is_number_integer() || value->get<int64_t>() < 1 || value->get<int64_t>() > (1ll << 31)) wrong(key, "a whole number above 0");
  return value->get<int64_t>();
}
int64_t ConfigReader::positive(const char* key) const {
  if (!get(key)) wrong(key, "a whole number above 0");
  return positive_or(key, 0);
}
double ConfigReader::number_or(const char* key, double otherwise) const {
  const nlohmann::json* value = get(key);
  if (!value) return otherwise;
  if (!value->is_number()) wrong(key, "a number");
  return value->get<double>();
}
bool ConfigReader::flag_or(const char* key, bool otherwise) const {
  const nlohmann::json* value = get(key);
  if (!value) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

namespace {

// Inverse frequencies of rope with its scalings: default, linear, llama3 (Hugging Face's modeling_rope_utils formulas).
std::vector<float> rope_frequencies(const ConfigReader& hf, int64_t head_dim) {
  const nlohmann::json* scaling = hf.get("rope_parameters");  // transformers 5 spelling; rope_scaling and rope_theta before
  if (!scaling) scaling = hf.get("rope_scaling");
  static const nlohmann::json kNone = nlohmann::json::object();
  if (scaling && !scaling->is_object()) hf.wrong("rope_scaling", "an object");
  ConfigReader rope(scaling ? *scaling : kNone, hf.file());
  double theta = rope.number_or("rope_theta", hf.number_or("rope_theta", 10000.0));
  if (!(theta > 0)) hf.wrong("rope_theta", "a number above 0");
  std::string type = "default";
  for (const char* key : {"type", "rope_type"})
    if (const nlohmann::json* value = rope.get(key)) {
      if (!value->is_string()) hf.wrong("rope_scaling", "a rope_type that is a text");
      type = value->get<std::string>();
    }
  std::vector<float> frequencies(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] =
        1.0f / static_cast<float>(std::pow(static_cast<float>(theta), static_cast<float>(2 * i) / static_cast<float>(head_dim)));
  if (type == "default") return frequencies;
  double factor = rope.number_or("factor", 0);
  if (!(factor >= 1)) hf.wrong("rope_scaling", "a factor of 1 or more");
  if (type == "linear") {
    for (float& f : frequencies) f /= static_cast<float>(factor);
    return frequencies;
  }
  if (type != "llama3") hf.wrong("rope_scaling", "rope_type default, linear or llama3: loraine does not build '" + type + "' yet");
  double low = rope.number_or("low_freq_factor", 1), high = rope.number_or("high_freq_factor", 4);
  double old_length = static_cast<double>(rope.positive("original_max_position_embeddings"));
  if (!(high > low)) hf.wrong("rope_scaling", "high_freq_factor above low_freq_factor");
  for (float& f : frequencies) {
    double wavelength = 2 * std::numbers::pi / f;
    if (wavelength > old_length / low) f = static_cast<float>(f / factor);
    else if (wavelength >= old_length / high) {
      double smooth = (old_length / wavelength - low) / (high - low);
      f = static_cast<float>((1 - smooth) * f / factor + smooth * f);
    }
  }
  return frequencies;
}

void read_token_ids(ModelConfig& config, const ConfigReader& hf) {
  if (const nlohmann::json* bos = hf.get("bos_token_id"); bos && bos->is_number_integer()) config.bos_token_id = bos->get<int32_t>();
  if (const nlohmann::json* eos = hf.get("eos_token_id")) {
    if (eos->is_number_integer()) config.eos_token_ids = {eos->get<int32_t>()};
    else if (eos->is_array())
      for (const auto& id : *eos)
        if (id.is_number_integer()) config.eos_token_ids.push_back(id.get<int32_t>());
  }
}

}  // namespace

ModelConfig decoder_config(const ConfigReader& hf) {
  ModelConfig c;
  c.vocab_size = hf.positive("vocab_size");
  c.hidden_size = hf.positive("hidden_size");
  c.intermediate_size = hf.positive("intermediate_size");
  c.num_hidden_layers = hf.positive("num_hidden_layers");
  c.num_attention_heads = hf.positive("num_attention_heads");
  c.num_key_value_heads = hf.positive_or("num_key_value_heads", c.num_attention_heads);
  if (c.num_hidden_layers > 10000) hf.wrong("num_hidden_layers", "at most 10000");
  if (c.num_attention_heads % c.num_key_value_heads)
    hf.wrong("num_key_value_heads", fmt::format("a divisor of num_attention_heads {}", c.num_attention_heads));
  if (!hf.get("head_dim") && c.hidden_size % c.num_attention_heads)
    hf.wrong("hidden_size", fmt::format("a multiple of num_attention_heads {}, or an explicit head_dim", c.num_attention_heads));
  c.head_dim = hf.positive_or("head_dim", c.hidden_size / c.num_attention_heads);
  if (c.head_dim % 2) hf.wrong("head_dim", "an even number");
  c.max_position_embeddings = hf.positive_or("max_position_embeddings", 2048);
  c.rms_norm_eps = static_cast<float>(hf.number_or("rms_norm_eps", 1e-6));
  c.tie_word_embeddings = hf.flag_or("tie_word_embeddings", false);
  if (const nlohmann::json* act = hf.get("hidden_act"); act && *act != "silu") hf.wrong("hidden_act", "\"silu\"");
  c.window.assign(static_cast<size_t>(c.num_hidden_layers), 0);
  c.inverse_frequencies = rope_frequencies(hf, c.head_dim);
  read_token_ids(c, hf);
  return c;
}

void sliding_window(ModelConfig& config, const ConfigReader& hf, int64_t first_sliding_layer) {
  const nlohmann::json* window = hf.get("sliding_window");
  if (!window) return;
  int64_t size = hf.positive("sliding_window");
  const nlohmann::json* types = hf.get("layer_types");
  for (size_t layer = 0; layer < config.window.size(); ++layer) {
    bool sliding = static_cast<int64_t>(layer) >= first_sliding_layer;
    if (types) {
      if (!types->is_array() || types->size() != config.window.size())
        hf.wrong("layer_types", fmt::format("a list of {} types", config.window.size()));
      sliding = (*types)[layer] == "sliding_attention";
    }
    if (sliding) config.window[layer] = size;
  }
}

ModelConfig model_config(const nlohmann::json& hf, const std::string& file) {
  struct Family {
    const char* model_type;
    ModelConfig (*config)(const ConfigReader&);
  };
  static constexpr Family kFamilies[] = {
      {"llama", llama_config}, {"mistral", mistral_config}, {"qwen2", qwen2_config}, {"qwen3", qwen3_config}};
  ConfigReader reader(hf, file);
  const nlohmann::json* type = reader.get("model_type");
  if (!type || !type->is_string()) reader.wrong("model_type", "a text");
  std::string known;
  for (const Family& family : kFamilies) {
    if (*type == family.model_type) {
      ModelConfig config = family.config(reader);
      config.model_type = family.model_type;
      return config;
    }
    known += std::string(known.empty() ? "" : ", ") + family.model_type;
  }
  reader.wrong("model_type", "one of " + known);
}

}  // namespace loraine
