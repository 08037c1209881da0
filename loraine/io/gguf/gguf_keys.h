// config.json in the making: what the functions of the architectures (gguf_family_keys.cpp) read and set.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "loraine/io/files/json_file.h"
#include "loraine/io/gguf/gguf_architecture.h"

namespace loraine {

struct GgufKeys {
  const GgufFile& file;
  const TensorSource& tensors;
  const GgufArchitecture& architecture;
  Json config = {};
  uint64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  double theta = 10000;

  [[noreturn]] void refuse(const std::string& what) const;
  // Of "<architecture>.<key>"; nullopt when absent.
  std::optional<double> number(const std::string& key) const;
  std::optional<uint64_t> size(const std::string& key) const;
  std::optional<bool> flag(const std::string& key) const;
  bool has(const std::string& tensor) const { return tensors.find(tensor) != nullptr; }
  // The tensor of layer 0, or of the first layer that has it.
  const TensorInfo* first(const std::string& tensor) const;
  bool has_in_layers(const std::string& tensor) const { return first(tensor) != nullptr; }

  void set_type(const char* model_type, const char* model_class);
  // config[name] from the key, where the file has it.
  void copy_number(const std::string& key, const char* name);
  void copy_size(const std::string& key, const char* name);
  // sliding_window and layer_types: by attention.sliding_window_pattern, else every `pattern`th layer is full. False where nothing slides.
  bool windows(uint64_t pattern);
};

// rope_scaling of config.json: by the tensors rope_freqs or rope_factors_long/short, or by the keys; null when nothing is scaled.
Json gguf_rope_scaling(const GgufKeys& keys);

void llama_keys(GgufKeys&);
void mistral3_keys(GgufKeys&);
void qwen2_keys(GgufKeys&);
void qwen3_keys(GgufKeys&);
void gemma_keys(GgufKeys&);
void gemma2_keys(GgufKeys&);
void gemma3_keys(GgufKeys&);
void phi3_keys(GgufKeys&);
void phi2_keys(GgufKeys&);
void granite_keys(GgufKeys&);
void granite_swa_keys(GgufKeys&);
void olmo_keys(GgufKeys&);
void olmo2_keys(GgufKeys&);
void smollm3_keys(GgufKeys&);
void command_r_keys(GgufKeys&);
void cohere2_keys(GgufKeys&);
void glm4_keys(GgufKeys&);
void ernie4_5_keys(GgufKeys&);
void hunyuan_keys(GgufKeys&);
void seed_oss_keys(GgufKeys&);
void exaone4_keys(GgufKeys&);
void starcoder2_keys(GgufKeys&);
void stablelm_keys(GgufKeys&);
void nemotron_keys(GgufKeys&);
void apertus_keys(GgufKeys&);
void arcee_keys(GgufKeys&);
void gptneox_keys(GgufKeys&);
void muse_glimmer_keys(GgufKeys&);

void qwen2moe_keys(GgufKeys&);
void qwen3moe_keys(GgufKeys&);
void olmoe_keys(GgufKeys&);
void granitemoe_keys(GgufKeys&);
void glm4moe_keys(GgufKeys&);
void ernie4_5_moe_keys(GgufKeys&);
void hunyuan_moe_keys(GgufKeys&);
void dots1_keys(GgufKeys&);
void minimax_m2_keys(GgufKeys&);
void hy_v3_keys(GgufKeys&);
void phimoe_keys(GgufKeys&);
void llama4_keys(GgufKeys&);
void gpt_oss_keys(GgufKeys&);
void deepseek2_keys(GgufKeys&);
void mistral4_keys(GgufKeys&);
void minicpm3_keys(GgufKeys&);
void gemma4_keys(GgufKeys&);
void gemma3n_keys(GgufKeys&);

void lfm2_keys(GgufKeys&);
void lfm2moe_keys(GgufKeys&);
void qwen35_keys(GgufKeys&);
void qwen35moe_keys(GgufKeys&);
void qwen3next_keys(GgufKeys&);
void kimi_linear_keys(GgufKeys&);
void jamba_keys(GgufKeys&);
void granitehybrid_keys(GgufKeys&);
void falcon_h1_keys(GgufKeys&);
void nemotron_h_keys(GgufKeys&);

// What several architectures with experts share; `experts` and `width` are config.json's names of their number and of their width.
void gguf_expert_sizes(GgufKeys& keys, const char* experts, const char* width);
// Those of latent attention.
void gguf_latent_sizes(GgufKeys& keys);

}  // namespace loraine
