// The table of families, and of the models that hold one of them beside a vision tower.
#include "loraine/model/families/families.h"

#include <algorithm>

#include "loraine/core/describe.h"
#include "loraine/model/families/decoder_parts.h"

namespace loraine {
namespace {

struct Family {
  const char* model_type;
  ModelConfig (*config)(const ConfigReader&);
};
constexpr Family kFamilies[] = {
    {"llama", llama_config},
    {"mistral", mistral_config},
    {"ministral", mistral_config},
    {"ministral3", ministral3_config},
    {"qwen2", qwen2_config},
    {"qwen2_vl_text", qwen2_config},
    {"qwen2_5_vl_text", qwen2_config},
    {"qwen3", qwen3_config},
    {"qwen3_vl_text", qwen3_config},
    {"internlm3", llama_config},
    {"smollm3", smollm3_config},
    {"arcee", arcee_config},
    {"apertus", apertus_config},
    {"seed_oss", seed_oss_config},
    {"helium", helium_config},
    {"phi3", phi3_config},
    {"phi", phi_config},
    {"gemma", gemma_config},
    {"gemma2", gemma2_config},
    {"gemma3_text", gemma3_config},
    {"gemma3n_text", gemma3n_config},
    {"gemma4_text", gemma4_config},
    {"granite", granite_config},
    {"granite_swa", granite_swa_config},
    {"granitemoehybrid", granitemoehybrid_config},
    {"olmo", olmo_config},
    {"olmo2", olmo2_config},
    {"olmo3", olmo2_config},
    {"exaone4", exaone4_config},
    {"cohere", cohere_config},
    {"cohere2", cohere2_config},
    {"glm", glm_config},
    {"glm4", glm4_config},
    {"ernie4_5", ernie4_5_config},
    {"hunyuan_v1_dense", hunyuan_v1_dense_config},
    {"nemotron", nemotron_config},
    {"starcoder2", starcoder2_config},
    {"stablelm", stablelm_config},
    {"gpt_neox", gpt_neox_config},
    {"gpt2", gpt2_config},
    {"qwen2_moe", qwen2_moe_config},
    {"qwen3_moe", qwen3_moe_config},
    {"qwen3_vl_moe_text", qwen3_vl_moe_config},
    {"mixtral", mixtral_config},
    {"olmoe", olmoe_config},
    {"phimoe", phimoe_config},
    {"minimax_m2", minimax_m2_config},
    {"gpt_oss", gpt_oss_config},
    {"granitemoe", granitemoe_config},
    {"granitemoeshared", granitemoe_config},
    {"glm4_moe", glm4_moe_config},
    {"dots1", dots1_config},
    {"ernie4_5_moe", ernie4_5_moe_config},
    {"hunyuan_v1_moe", hunyuan_v1_moe_config},
    {"hy_v3", hy_v3_config},
    {"llama4_text", llama4_config},
    {"muse_glimmer_text", muse_glimmer_config},
    {"lfm2", lfm2_config},
    {"lfm2_moe", lfm2_moe_config},
    {"qwen3_next", qwen3_next_config},
    {"qwen3_5_text", qwen3_5_config},
    {"qwen3_5_moe_text", qwen3_5_moe_config},
    {"olmo_hybrid", olmo_hybrid_config},
    {"jamba", jamba_config},
    {"bamba", bamba_config},
    {"falcon_h1", falcon_h1_config},
    {"nemotron_h", nemotron_h_config},
    {"deepseek_v2", deepseek_v2_config},
    {"deepseek_v3", deepseek_v3_config},
    {"kimi_k2", deepseek_v3_config},
    {"glm4_moe_lite", deepseek_v3_config},
    {"mistral4", mistral4_config},
    {"youtu", youtu_config},
    {"minicpm3", minicpm3_config},
    {"kimi_linear", kimi_linear_config},
    {"minimax", minimax_config},
};

// Models with a text part under text_config: what their files call it.
struct Nested {
  const char *model_type, *text, *in_files;  // text: its model_type where text_config names none
};
constexpr Nested kNested[] = {
    {"gemma3", "gemma3_text", "language_model.model."},
    {"gemma3n", "gemma3n_text", "model.language_model."},
    {"gemma4", "gemma4_text", "model.language_model."},
    {"mistral3", "mistral", "language_model.model."},
    {"llava", "llama", "language_model.model."},
    {"qwen2_vl", "qwen2", "model."},
    {"qwen2_5_vl", "qwen2", "model."},
    {"qwen3_vl", "qwen3", "model.language_model."},
    {"qwen3_vl_moe", "qwen3_vl_moe_text", "model.language_model."},
    {"muse_glimmer", "muse_glimmer_text", "model.language_model."},
    {"qwen3_5", "qwen3_5_text", "model.language_model."},
    {"qwen3_5_moe", "qwen3_5_moe_text", "model.language_model."},
    {"llama4", "llama4_text", "language_model.model."},
};

// The text part's keys, with those that the whole model decides.
nlohmann::json text_keys(const nlohmann::json& hf, const ConfigReader& reader, const Nested& outer) {
  const nlohmann::json* text = reader.get("text_config");
  nlohmann::json keys = text && text->is_object() ? *text : hf;  // Qwen 2 VL's first files have no text_config
  if (!keys.contains("model_type") || keys["model_type"] == outer.model_type) keys["model_type"] = outer.text;
  const auto tied = [](const nlohmann::json& from) { return from.contains("tie_word_embeddings") && from["tie_word_embeddings"] == true; };
  if (hf.contains("tie_word_embeddings") || keys.contains("tie_word_embeddings"))
    keys["tie_word_embeddings"] =
        hf.contains("tie_word_embeddings") && !std::string_view(outer.model_type).starts_with("qwen2") ? tied(hf) : tied(hf) || tied(keys);
  for (const char* key : {"image_token_id", "video_token_id"})
    if (hf.contains(key)) keys[key] = hf[key];
  for (const char* key : {"bos_token_id", "eos_token_id"})
    if ((!keys.contains(key) || keys[key].is_null()) && hf.contains(key)) keys[key] = hf[key];
  return keys;
}

const Family* family_of(const std::string& model_type) {
  const auto found = std::ranges::find_if(kFamilies, [&](const Family& family) { return model_type == family.model_type; });
  return found == std::end(kFamilies) ? nullptr : &*found;
}

[[noreturn]] void unknown(const ConfigReader& reader, const std::string& model_type) {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.push_back(family.model_type);
  for (const Nested& nested : kNested) names.push_back(nested.model_type);
  std::string known;
  for (const std::string& name : names)
    if (!name.ends_with("_text")) known += (known.empty() ? "" : ", ") + name;
  const std::string near = nearest_word(model_type, names);
  reader.wrong("model_type", "one of " + known + (near.empty() ? "" : "; the nearest is " + near));
}

}  // namespace

std::string ModelNames::in_files(const std::string& path) const {
  if (stored.empty()) return path;
  std::string name = path;
  for (const auto& [memory, files] : stored.front())
    if (!memory.starts_with('.') && path.starts_with(memory)) {
      name = files + path.substr(memory.size());
      break;
    }
  for (const auto& [memory, files] : stored.front()) {
    if (!memory.starts_with('.')) continue;
    const size_t at = name.find(memory), end = at + memory.size();
    if (at != name.npos && (end == name.size() || name[end] == '.')) name.replace(at, memory.size(), files);
  }
  return name;
}

ModelConfig model_config(const nlohmann::json& hf, const std::string& file) {
  ConfigReader reader(hf, file);
  const nlohmann::json* type = reader.get("model_type");
  if (!type || !type->is_string()) reader.wrong("model_type", "a text");
  for (const Nested& nested : kNested) {
    if (*type != nested.model_type) continue;
    const nlohmann::json keys = text_keys(hf, reader, nested);
    const ConfigReader text(keys, file + ": text_config");
    const Family* family = family_of(text.text_or("model_type", ""));
    if (!family) unknown(text, text.text_or("model_type", ""));
    ModelConfig config = family->config(text);
    config.model_type = nested.model_type;
    if (*type == "llama4") name_inside(config, "language_model.");
    else name_nested(config, nested.in_files);
    return config;
  }
  const Family* family = family_of(*type);
  if (!family) unknown(reader, *type);
  ModelConfig config = family->config(reader);
  config.model_type = *type;
  return config;
}

}  // namespace loraine
