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
const nlohmann::json* ConfigReader::given(const char* key, const std::string& expected) const {
  auto it = hf_.find(key);
  if (it == hf_.end()) return nullptr;
  if (it->is_null()) wrong(key, expected);
  return &*it;
}
int64_t ConfigReader::positive_or(const char* key, int64_t otherwise) const {
  const nlohmann::json* value = given(key, "a whole number above 0");
  if (!value) return otherwise;
  if (!value->is_number_integer() || value->get<int64_t>() < 1 || value->get<int64_t>() > (1ll << 31)) wrong(key, "a whole number above 0");
  return value->get<int64_t>();
}
int64_t ConfigReader::positive(const char* key) const {
  if (!get(key)) wrong(key, "a whole number above 0");
  return positive_or(key, 0);
}
double ConfigReader::number_or(const char* key, double otherwise) const {
  const nlohmann::json* value = given(key, "a number");
  if (!value) return otherwise;
  if (!value->is_number()) wrong(key, "a number");
  return value->get<double>();
}
bool ConfigReader::flag_or(const char* key, bool otherwise) const {
  const nlohmann::json* value = given(key, "true or false");
  if (!value) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

namespace {

// Inverse frequencies of rope with its scalings: default, linear, llama3 (Hugging Face's modeling_rope_utils formulas).
std::vector<float> rope_frequencies(const ConfigReader& hf, int64_t head_dim) {
  const char* key = hf.get("rope_parameters") ? "rope_parameters" : "rope_scaling";  // transformers 5 spelling, and the one before
  const nlohmann::json* scaling = hf.get(key);
  static const nlohmann::json kNone = nlohmann::json::object();
  if (scaling && !scaling->is_object()) hf.wrong(key, "an object");
  ConfigReader rope(scaling ? *scaling : kNone, hf.file() + ": " + key);
  const ConfigReader& with_theta = rope.get("rope_theta") ? rope : hf;
  const double theta = with_theta.get("rope_theta") ? with_theta.number_or("rope_theta", 0) : 10000.0;
  if (!(theta > 0)) with_theta.wrong("rope_theta", "a number above 0");
  std::string type = "default";
  for (const char* name : {"type", "rope_type"})
    if (const nlohmann::json* value = rope.get(name)) {
      if (*value != "default" && *value != "linear" && *value != "llama3")
        rope.wrong(name, "\"default\", \"linear\" or \"llama3\": loraine does not build others yet");
      type = value->get<std::string>();
    }
  std::vector<float> frequencies(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] =
        1.0f / static_cast<float>(std::pow(static_cast<float>(theta), static_cast<float>(2 * i) / static_cast<float>(head_dim)));
  if (type == "default") return frequencies;
  double factor = rope.number_or("factor", 0);
  if (!(factor >= 1)) rope.wrong("factor", "a number of 1 or more");
  if (type == "linear") {
    for (float& f : frequencies) f /= static_cast<float>(factor);
    return frequencies;
  }
  double low = rope.number_or("low_freq_factor", 1), high = rope.number_or("high_freq_factor", 4);
  double old_length = static_cast<double>(rope.positive("original_max_position_embeddings"));
  if (!(high > low)) rope.wrong("high_freq_factor", "a number above low_freq_factor");
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
  c.num_key_value_heads = hf.get("num_key_value_heads") ? hf.positive("num_key_value_heads") : c.num_attention_heads;
  if (c.num_hidden_layers > 10000) hf.wrong("num_hidden_layers", "at most 10000");
  if (c.num_attention_heads % c.num_key_value_heads)
    hf.wrong("num_key_value_heads", fmt::format("a divisor of num_attention_heads {}", c.num_attention_heads));
  if (!hf.get("head_dim") && c.hidden_size % c.num_attention_heads)
    hf.wrong("hidden_size", fmt::format("a multiple of num_attention_heads {}, or an explicit head_dim", c.num_attention_heads));
  c.head_dim = hf.get("head_dim") ? hf.positive("head_dim") : c.hidden_size / c.num_attention_heads;
  if (c.head_dim % 2) hf.wrong("head_dim", "an even number");
  c.max_position_embeddings = hf.positive_or("max_position_embeddings", 2048);
  c.rms_norm_eps = static_cast<float>(hf.number_or("rms_norm_eps", 1e-6));
  c.tie_word_embeddings = hf.flag_or("tie_word_embeddings", false);
  if (const nlohmann::json* act = hf.given("hidden_act", "\"silu\""); act && *act != "silu") hf.wrong("hidden_act", "\"silu\"");
  c.window.assign(static_cast<size_t>(c.num_hidden_layers), 0);
  c.inverse_frequencies = rope_frequencies(hf, c.head_dim);
  read_token_ids(c, hf);
  return c;
}

void sliding_window(ModelConfig& config, const ConfigReader& hf, int64_t first_sliding_layer) {
  constexpr int64_t kWhenAbsent = 4096;  // of all families that have windows; null is none
  if (hf.given_as_null("sliding_window")) return;
  int64_t size = hf.positive_or("sliding_window", kWhenAbsent);
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
