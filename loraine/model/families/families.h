// The list of architectures: one function per Hugging Face model_type, families that are near each other in one file.
#pragma once
#include "loraine/model/config.h"
#include "loraine/model/families/config_reader.h"

namespace loraine {

ModelConfig llama_config(const ConfigReader& hf);
ModelConfig mistral_config(const ConfigReader& hf);
ModelConfig ministral3_config(const ConfigReader& hf);
ModelConfig qwen2_config(const ConfigReader& hf);
ModelConfig qwen3_config(const ConfigReader& hf);
ModelConfig smollm3_config(const ConfigReader& hf);
ModelConfig arcee_config(const ConfigReader& hf);
ModelConfig apertus_config(const ConfigReader& hf);
ModelConfig seed_oss_config(const ConfigReader& hf);
ModelConfig helium_config(const ConfigReader& hf);
ModelConfig phi3_config(const ConfigReader& hf);
ModelConfig phi_config(const ConfigReader& hf);
ModelConfig gemma_config(const ConfigReader& hf);
ModelConfig gemma2_config(const ConfigReader& hf);
ModelConfig gemma3_config(const ConfigReader& hf);
ModelConfig gemma3n_config(const ConfigReader& all);
ModelConfig gemma4_config(const ConfigReader& hf);
ModelConfig granite_config(const ConfigReader& hf);
ModelConfig granite_swa_config(const ConfigReader& hf);
ModelConfig granitemoehybrid_config(const ConfigReader& hf);
ModelConfig olmo_config(const ConfigReader& hf);
ModelConfig olmo2_config(const ConfigReader& hf);
ModelConfig exaone4_config(const ConfigReader& hf);
ModelConfig cohere_config(const ConfigReader& hf);
ModelConfig cohere2_config(const ConfigReader& hf);
ModelConfig glm_config(const ConfigReader& hf);
ModelConfig glm4_config(const ConfigReader& hf);
ModelConfig ernie4_5_config(const ConfigReader& hf);
ModelConfig hunyuan_v1_dense_config(const ConfigReader& hf);
ModelConfig nemotron_config(const ConfigReader& hf);
ModelConfig starcoder2_config(const ConfigReader& hf);
ModelConfig stablelm_config(const ConfigReader& hf);
ModelConfig gpt_neox_config(const ConfigReader& hf);
ModelConfig qwen2_moe_config(const ConfigReader& hf);
ModelConfig qwen3_moe_config(const ConfigReader& hf);
ModelConfig qwen3_vl_moe_config(const ConfigReader& hf);
ModelConfig mixtral_config(const ConfigReader& hf);
ModelConfig olmoe_config(const ConfigReader& hf);
ModelConfig phimoe_config(const ConfigReader& hf);
ModelConfig minimax_m2_config(const ConfigReader& hf);
ModelConfig gpt_oss_config(const ConfigReader& hf);
ModelConfig granitemoe_config(const ConfigReader& hf);
ModelConfig glm4_moe_config(const ConfigReader& hf);
ModelConfig dots1_config(const ConfigReader& hf);
ModelConfig ernie4_5_moe_config(const ConfigReader& hf);
ModelConfig hunyuan_v1_moe_config(const ConfigReader& hf);
ModelConfig hy_v3_config(const ConfigReader& hf);
ModelConfig llama4_config(const ConfigReader& hf);
ModelConfig gpt2_config(const ConfigReader& hf);
ModelConfig muse_glimmer_config(const ConfigReader& hf);
ModelConfig lfm2_config(const ConfigReader& hf);
ModelConfig qwen3_5_config(const ConfigReader& hf);
ModelConfig lfm2_moe_config(const ConfigReader& hf);
ModelConfig qwen3_5_moe_config(const ConfigReader& hf);
ModelConfig qwen3_next_config(const ConfigReader& hf);
ModelConfig olmo_hybrid_config(const ConfigReader& hf);
ModelConfig jamba_config(const ConfigReader& hf);
ModelConfig bamba_config(const ConfigReader& hf);
ModelConfig falcon_h1_config(const ConfigReader& hf);
ModelConfig nemotron_h_config(const ConfigReader& hf);
ModelConfig deepseek_v2_config(const ConfigReader& hf);
ModelConfig deepseek_v3_config(const ConfigReader& hf);
ModelConfig mistral4_config(const ConfigReader& hf);
ModelConfig youtu_config(const ConfigReader& hf);
ModelConfig minicpm3_config(const ConfigReader& hf);
ModelConfig kimi_linear_config(const ConfigReader& hf);
ModelConfig minimax_config(const ConfigReader& hf);

}  // namespace loraine
