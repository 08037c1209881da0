// The list of architectures: one function per Hugging Face model_type, each in its own file.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "loraine/model/config.h"

namespace loraine {

// Reads checked values of config.json; errors name file and key.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& hf, std::string file) : hf_(hf), file_(std::move(file)) {}
  int64_t positive(const char* key) const;                        // required, 1 … 2^31
  int64_t positive_or(const char* key, int64_t otherwise) const;  // absent gives `otherwise`; null is a wrong value, as to transformers
  double number_or(const char* key, double otherwise) const;
  bool flag_or(const char* key, bool otherwise) const;
  const nlohmann::json* get(const char* key) const;                                 // nullptr when absent or null
  const nlohmann::json* given(const char* key, const std::string& expected) const;  // nullptr when absent; null is wrong
  bool given_as_null(const char* key) const { return hf_.contains(key) && hf_[key].is_null(); }
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;
  const std::string& file() const { return file_; }

 private:
  const nlohmann::json& hf_;
  std::string file_;
};

ModelConfig decoder_config(const ConfigReader& hf);  // what all families share: sizes, norms, rope, ties
void sliding_window(ModelConfig& config, const ConfigReader& hf, int64_t first_sliding_layer);  // window from sliding_window / layer_types

ModelConfig llama_config(const ConfigReader& hf);
ModelConfig mistral_config(const ConfigReader& hf);
ModelConfig qwen2_config(const ConfigReader& hf);
ModelConfig qwen3_config(const ConfigReader& hf);

}  // namespace loraine
