// One entry for each architecture that is read. To check one against llama.cpp: the names are gguf.constants.TENSOR_NAMES, the transforms
// are those of its class in llama.cpp's conversion/.
#include <fmt/format.h>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf_keys.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine {
namespace {

using enum GgufForm;

// Layers.
constexpr GgufName kSandwich[] = {{"post_attention_norm", "post_attention_layernorm"},
                                  {"ffn_norm", "pre_feedforward_layernorm"},
                                  {"post_ffw_norm", "post_feedforward_layernorm"}};
constexpr GgufName kSecondNorm[] = {{"post_attention_norm", "post_attention_layernorm"}};
constexpr GgufName kGateUp[] = {{"ffn_up", "mlp.gate_up_proj"}};
constexpr GgufName kPhi3[] = {{"attn_qkv", "self_attn.qkv_proj"}, {"ffn_up", "mlp.gate_up_proj"}};
constexpr GgufName kGlm4[] = {
    {"post_attention_norm", "post_self_attn_layernorm"}, {"post_ffw_norm", "post_mlp_layernorm"}, {"ffn_up", "mlp.gate_up_proj"}};
constexpr GgufName kHunyuan[] = {{"attn_q_norm", "self_attn.query_layernorm"}, {"attn_k_norm", "self_attn.key_layernorm"}};
constexpr GgufName kStarcoder2[] = {{"ffn_up", "mlp.c_fc"}, {"ffn_down", "mlp.c_proj"}};
constexpr GgufName kStableLm[] = {{"attn_q_norm", "self_attn.q_layernorm.norms.{}"}, {"attn_k_norm", "self_attn.k_layernorm.norms.{}"}};
constexpr GgufName kApertus[] = {{"attn_norm", "attention_layernorm"}, {"ffn_norm", "feedforward_layernorm"}};
constexpr GgufName kPhi2[] = {{"attn_output", "self_attn.dense"}, {"ffn_up", "mlp.fc1"}, {"ffn_down", "mlp.fc2"}};
constexpr GgufName kGptNeox[] = {{"attn_qkv", "attention.query_key_value", by_head},
                                 {"attn_output", "attention.dense"},
                                 {"ffn_up", "mlp.dense_h_to_4h"},
                                 {"ffn_down", "mlp.dense_4h_to_h"}};
constexpr GgufName kMuseGlimmerTop[] = {{"output_norm", "model.norm", unshifted}};
constexpr GgufName kMuseGlimmer[] = {
    {"attn_gate", "self_attn.gate_proj"}, {"attn_q_norm.weight", "", left_out}, {"attn_k_norm.weight", "", left_out}};
// Outside layers.
constexpr GgufName kPhi2Top[] = {{"output_norm", "model.final_layernorm"}};
constexpr GgufName kGptNeoxTop[] = {
    {"token_embd", "gpt_neox.embed_in"}, {"output_norm", "gpt_neox.final_layer_norm"}, {"output", "embed_out"}};

// Experts, stacked in the file, one by one at Hugging Face.
constexpr GgufName kExperts[] = {{"ffn_gate_inp", "mlp.gate"},
                                 {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
                                 {"ffn_up_exps", "mlp.experts.{}.up_proj"},
                                 {"ffn_down_exps", "mlp.experts.{}.down_proj"},
                                 {"ffn_gate_up_exps", "mlp.experts.{}.gate_proj|mlp.experts.{}.up_proj", halves}};
constexpr GgufName kMixtral[] = {{"ffn_gate_inp", "block_sparse_moe.gate"},
                                 {"ffn_gate_exps", "block_sparse_moe.experts.{}.w1"},
                                 {"ffn_up_exps", "block_sparse_moe.experts.{}.w3"},
                                 {"ffn_down_exps", "block_sparse_moe.experts.{}.w2"},
                                 {"ffn_gate_up_exps", "block_sparse_moe.experts.{}.w1|block_sparse_moe.experts.{}.w3", halves},
                                 {"exp_probs_b.bias", "block_sparse_moe.e_score_correction_bias"}};
constexpr GgufName kSharedExpert[] = {{"ffn_gate_inp_shexp", "mlp.shared_expert_gate", one_row},
                                      {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
                                      {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
                                      {"ffn_down_shexp", "mlp.shared_expert.down_proj"}};
constexpr GgufName kSharedExperts[] = {{"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
                                       {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
                                       {"ffn_down_shexp", "mlp.shared_experts.down_proj"}};
constexpr GgufName kSharedMlp[] = {{"ffn_gate_shexp", "mlp.shared_mlp.gate_proj"},
                                   {"ffn_up_shexp", "mlp.shared_mlp.up_proj"},
                                   {"ffn_down_shexp", "mlp.shared_mlp.down_proj"}};
constexpr GgufName kCorrection[] = {{"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"}};
constexpr GgufName kErnieMoe[] = {{"exp_probs_b.bias", "mlp.moe_statics.e_score_correction_bias", one_row}};
constexpr GgufName kHunyuanMoe[] = {{"ffn_gate_inp", "mlp.gate.wg"}};
constexpr GgufName kGraniteMoe[] = {{"ffn_gate_inp", "block_sparse_moe.router.layer"},
                                    {"ffn_gate_exps", "block_sparse_moe.input_linear", first_half},
                                    {"ffn_up_exps", "block_sparse_moe.input_linear", second_half},
                                    {"ffn_gate_up_exps", "block_sparse_moe.input_linear"},
                                    {"ffn_down_exps", "block_sparse_moe.output_linear"},
                                    {"ffn_gate_shexp", "shared_mlp.input_linear", first_half},
                                    {"ffn_up_shexp", "shared_mlp.input_linear", second_half},
                                    {"ffn_down_shexp", "shared_mlp.output_linear"}};
constexpr GgufName kNextToken[] = {
    {"nextn.eh_proj", "eh_proj"}, {"nextn.embed_tokens", "embed_tokens"},         {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},     {"nextn.shared_head_head", "shared_head.head"}, {"nextn.shared_head_norm", "shared_head.norm"}};

constexpr GgufName kNextTokenLeft[] = {{"nextn.eh_proj.weight", "", left_out},
                                       {"nextn.embed_tokens.weight", "", left_out},
                                       {"nextn.enorm.weight", "", left_out},
                                       {"nextn.hnorm.weight", "", left_out},
                                       {"nextn.shared_head_head.weight", "", left_out},
                                       {"nextn.shared_head_norm.weight", "", left_out}};
constexpr GgufName kHyV3[] = {
    {"ffn_gate_inp", "mlp.router.gate"}, {"exp_probs_b", "mlp.expert_bias"}, {"exp_probs_b.bias", "mlp.expert_bias"}};
constexpr GgufName kGptOss[] = {{"post_attention_norm", "post_attention_layernorm"},
                                {"ffn_gate_inp", "mlp.router"},
                                {"ffn_gate_exps.weight", "mlp.experts.gate_up_proj", even_columns},
                                {"ffn_up_exps.weight", "mlp.experts.gate_up_proj", odd_columns},
                                {"ffn_gate_exps.bias", "mlp.experts.gate_up_proj_bias", even_columns},
                                {"ffn_up_exps.bias", "mlp.experts.gate_up_proj_bias", odd_columns},
                                {"ffn_down_exps.weight", "mlp.experts.down_proj", transposed},
                                {"ffn_down_exps.bias", "mlp.experts.down_proj_bias"}};
// Llama 4: [E, in, gate | up] at Hugging Face.
constexpr GgufName kLlama4[] = {{"ffn_gate", "feed_forward.gate_proj"},
                                {"ffn_up", "feed_forward.up_proj"},
                                {"ffn_down", "feed_forward.down_proj"},
                                {"ffn_gate_inp", "feed_forward.router"},
                                {"ffn_gate_exps.weight", "feed_forward.experts.gate_up_proj", left_columns},
                                {"ffn_up_exps.weight", "feed_forward.experts.gate_up_proj", right_columns},
                                {"ffn_down_exps.weight", "feed_forward.experts.down_proj", transposed},
                                {"ffn_gate_shexp", "feed_forward.shared_expert.gate_proj"},
                                {"ffn_up_shexp", "feed_forward.shared_expert.up_proj"},
                                {"ffn_down_shexp", "feed_forward.shared_expert.down_proj"}};
constexpr GgufName kMistral4[] = {{"ffn_gate_inp", "mlp.gate"},
                                  {"ffn_gate_up_exps.weight", "mlp.experts.gate_up_proj"},
                                  {"ffn_gate_exps.weight", "mlp.experts.gate_up_proj", first_half},
                                  {"ffn_up_exps.weight", "mlp.experts.gate_up_proj", second_half},
                                  {"ffn_down_exps.weight", "mlp.experts.down_proj"}};

// Latent attention.
constexpr GgufName kLatent[] = {{"attn_q_a", "self_attn.q_a_proj"},
                                {"attn_q_a_norm", "self_attn.q_a_layernorm"},
                                {"attn_q_b", "self_attn.q_b_proj"},
                                {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
                                {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
                                {"attn_kv_b", "self_attn.kv_b_proj"},
                                {"attn_k_b", "self_attn.kv_b_proj", keys_of_heads},
                                {"attn_v_b", "self_attn.kv_b_proj", values_of_heads}};

constexpr GgufName kGemma4[] = {{"layer_output_scale.weight", "layer_scalar"},
                                {"inp_gate", "per_layer_input_gate"},
                                {"proj", "per_layer_projection"},
                                {"post_norm", "post_per_layer_input_norm"},
                                {"pre_ffw_norm_2", "pre_feedforward_layernorm_2"},
                                {"post_ffw_norm_1", "post_feedforward_layernorm_1"},
                                {"post_ffw_norm_2", "post_feedforward_layernorm_2"},
                                {"ffn_gate_inp.scale", "router.scale"},
                                {"ffn_gate_inp", "router.proj"},
                                {"ffn_down_exps.scale", "router.per_expert_scale"},
                                {"ffn_gate_up_exps.weight", "experts.gate_up_proj"},
                                {"ffn_gate_exps.weight", "experts.gate_up_proj", first_half},
                                {"ffn_up_exps.weight", "experts.gate_up_proj", second_half},
                                {"ffn_down_exps.weight", "experts.down_proj"}};
constexpr GgufName kGemma4Top[] = {{"per_layer_token_embd", "model.embed_tokens_per_layer"},
                                   {"per_layer_model_proj", "model.per_layer_model_projection"},
                                   {"per_layer_proj_norm", "model.per_layer_projection_norm"}};
constexpr GgufName kGemma3n[] = {{"inp_gate", "per_layer_input_gate"},
                                 {"proj", "per_layer_projection"},
                                 {"post_norm", "post_per_layer_input_norm"},
                                 {"altup_correct_coef", "altup.correction_coefs"},
                                 {"altup_correct_scale.weight", "altup.correct_output_scale"},
                                 {"altup_predict_coef", "altup.prediction_coefs"},
                                 {"altup_router", "altup.modality_router"},
                                 {"altup_router_norm", "altup.router_norm"},
                                 {"laurel_l", "laurel.linear_left"},
                                 {"laurel_r", "laurel.linear_right"},
                                 {"laurel_post_norm", "laurel.post_laurel_norm"}};
constexpr GgufName kGemma3nTop[] = {{"per_layer_token_embd", "model.embed_tokens_per_layer"},
                                    {"per_layer_model_proj", "model.per_layer_model_projection"},
                                    {"per_layer_proj_norm", "model.per_layer_projection_norm"},
                                    {"altup_proj", "model.altup_projections.{}"},
                                    {"altup_unembd_proj", "model.altup_unembed_projections.{}"}};

// Short convolutions.
constexpr GgufName kLfm2[] = {{"shortconv.conv", "conv.conv", channel},
                              {"shortconv.in_proj", "conv.in_proj"},
                              {"shortconv.out_proj", "conv.out_proj"},
                              {"attn_norm", "operator_norm"},
                              {"ffn_norm", "ffn_norm"},
                              {"attn_output", "self_attn.out_proj"},
                              {"attn_q_norm", "self_attn.q_layernorm"},
                              {"attn_k_norm", "self_attn.k_layernorm"},
                              {"ffn_gate", "feed_forward.w1"},
                              {"ffn_up", "feed_forward.w3"},
                              {"ffn_down", "feed_forward.w2"},
                              {"ffn_gate_inp", "feed_forward.gate"},
                              {"exp_probs_b.bias", "feed_forward.expert_bias"},
                              {"ffn_gate_exps", "feed_forward.experts.{}.w1"},
                              {"ffn_up_exps", "feed_forward.experts.{}.w3"},
                              {"ffn_down_exps", "feed_forward.experts.{}.w2"}};
constexpr GgufName kLfm2Top[] = {{"token_embd_norm", "model.embedding_norm"}, {"output_norm", "model.embedding_norm"}};

// The gated delta rule.
constexpr GgufName kDeltaRule[] = {{"post_attention_norm", "post_attention_layernorm"},
                                   {"ssm_a", "linear_attn.A_log", log_negative},
                                   {"ssm_dt.bias", "linear_attn.dt_bias", value_heads},
                                   {"ssm_norm", "linear_attn.norm", unshifted},
                                   {"ssm_out", "linear_attn.out_proj", value_head_columns}};
constexpr GgufName kQwen35[] = {{"attn_qkv", "linear_attn.in_proj_qkv", keys_value_heads},
                                {"attn_gate", "linear_attn.in_proj_z", value_heads},
                                {"ssm_beta", "linear_attn.in_proj_b", value_heads},
                                {"ssm_alpha", "linear_attn.in_proj_a", value_heads},
                                {"ssm_conv1d.weight", "linear_attn.conv1d.weight", channel_value_heads}};
constexpr GgufName kQwen3Next[] = {{"attn_qkv", "linear_attn.in_proj_qkvz", grouped_qkv},
                                   {"attn_gate", "linear_attn.in_proj_qkvz", grouped_z},
                                   {"ssm_ba", "linear_attn.in_proj_ba"},
                                   {"ssm_conv1d", "linear_attn.conv1d", channel}};

// Kimi Delta Attention.
constexpr GgufName kKimiLinear[] = {{"ssm_conv1d_q", "self_attn.q_conv1d", channel},
                                    {"ssm_conv1d_k", "self_attn.k_conv1d", channel},
                                    {"ssm_conv1d_v", "self_attn.v_conv1d", channel},
                                    {"ssm_f_a", "self_attn.f_a_proj"},
                                    {"ssm_f_b", "self_attn.f_b_proj"},
                                    {"ssm_g_a", "self_attn.g_a_proj"},
                                    {"ssm_g_b", "self_attn.g_b_proj"},
                                    {"ssm_beta", "self_attn.b_proj"},
                                    {"ssm_a", "self_attn.A_log", log_negative_apart},
                                    {"ssm_dt.bias", "self_attn.dt_bias"},
                                    {"ssm_norm", "self_attn.o_norm"},
                                    {"exp_probs_b.bias", "block_sparse_moe.gate.e_score_correction_bias"},
                                    {"ffn_gate_shexp", "block_sparse_moe.shared_experts.gate_proj"},
                                    {"ffn_up_shexp", "block_sparse_moe.shared_experts.up_proj"},
                                    {"ffn_down_shexp", "block_sparse_moe.shared_experts.down_proj"}};
// Mamba.
constexpr GgufName kJamba[] = {{"ssm_in", "mamba.in_proj"},
                               {"ssm_conv1d.weight", "mamba.conv1d.weight", channel},
                               {"ssm_conv1d.bias", "mamba.conv1d.bias"},
                               {"ssm_x", "mamba.x_proj"},
                               {"ssm_dt", "mamba.dt_proj"},
                               {"ssm_dt_norm", "mamba.dt_layernorm"},
                               {"ssm_b_norm", "mamba.b_layernorm"},
                               {"ssm_c_norm", "mamba.c_layernorm"},
                               {"ssm_a", "mamba.A_log", log_negatives},
                               {"ssm_d", "mamba.D"},
                               {"ssm_out", "mamba.out_proj"},
                               {"ffn_norm", "pre_ff_layernorm"},
                               {"ffn_gate", "feed_forward.gate_proj"},
                               {"ffn_up", "feed_forward.up_proj"},
                               {"ffn_down", "feed_forward.down_proj"},
                               {"ffn_gate_inp", "feed_forward.router"},
                               {"ffn_gate_exps", "feed_forward.experts.{}.gate_proj"},
                               {"ffn_up_exps", "feed_forward.experts.{}.up_proj"},
                               {"ffn_down_exps", "feed_forward.experts.{}.down_proj"}};

// Mamba-2.
constexpr GgufName kMamba[] = {{"ssm_a", "mamba.A_log", log_negative},
                               {"ssm_d", "mamba.D", flat},
                               {"ssm_dt.bias", "mamba.dt_bias"},
                               {"ssm_conv1d.weight", "mamba.conv1d.weight", channel},
                               {"ssm_conv1d.bias", "mamba.conv1d.bias"},
                               {"ssm_norm", "mamba.norm", flat},
                               {"ssm_in", "mamba.in_proj"},
                               {"ssm_out", "mamba.out_proj"}};
constexpr GgufName kGraniteHybrid[] = {{"ffn_gate", "shared_mlp.input_linear", first_half},
                                       {"ffn_up", "shared_mlp.input_linear", second_half},
                                       {"ffn_down", "shared_mlp.output_linear"}};
constexpr GgufName kFalconH1[] = {{"ffn_norm", "pre_ff_layernorm.weight"},  // its name has no ".weight"
                                  {"ffn_norm.weight", "pre_ff_layernorm.weight"},
                                  {"ffn_gate", "feed_forward.gate_proj"},
                                  {"ffn_up", "feed_forward.up_proj"},
                                  {"ffn_down", "feed_forward.down_proj"}};
constexpr GgufName kFinalNormTop[] = {{"output_norm", "model.final_layernorm"}};
constexpr GgufName kNemotronH[] = {{"attn_norm", "norm"},
                                   {"attn_q", "mixer.q_proj"},
                                   {"attn_k", "mixer.k_proj"},
                                   {"attn_v", "mixer.v_proj"},
                                   {"attn_output", "mixer.o_proj"},
                                   {"ffn_up", "mixer.up_proj"},
                                   {"ffn_down", "mixer.down_proj"},
                                   {"ffn_gate_inp", "mixer.gate"},
                                   {"exp_probs_b.bias", "mixer.gate.e_score_correction_bias"},
                                   {"ffn_up_exps", "mixer.experts.{}.up_proj"},
                                   {"ffn_down_exps", "mixer.experts.{}.down_proj"},
                                   {"ffn_up_shexp", "mixer.shared_experts.up_proj"},
                                   {"ffn_down_shexp", "mixer.shared_experts.down_proj"},
                                   {"ssm_a", "mixer.A_log", log_negative},
                                   {"ssm_d", "mixer.D", flat},
                                   {"ssm_dt.bias", "mixer.dt_bias"},
                                   {"ssm_conv1d.weight", "mixer.conv1d.weight", channel},
                                   {"ssm_conv1d.bias", "mixer.conv1d.bias"},
                                   {"ssm_norm", "mixer.norm", flat},
                                   {"ssm_in", "mixer.in_proj"},
                                   {"ssm_out", "mixer.out_proj"}};
constexpr GgufName kNemotronHTop[] = {{"token_embd", "backbone.embeddings"}, {"output_norm", "backbone.norm_f"}};

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() {
  static const GgufArchitecture kAll[] = {
      // Llama 1 to 3, Mistral, InternLM 3; with experts, Mixtral.
      {"llama", "llama", "LlamaForCausalLM", {kMixtral}, llama_keys, {.pairs = true}},
      {"mistral3", "mistral", "MistralForCausalLM", {}, mistral3_keys, {.pairs = true}},  // Ministral 3 by its temperature
      {"qwen2", "qwen2", "Qwen2ForCausalLM", {}, qwen2_keys},
      {"qwen2vl", "qwen2", "Qwen2ForCausalLM", {}, qwen2_keys},
      {"qwen3", "qwen3", "Qwen3ForCausalLM", {}, qwen3_keys},
      {"qwen3vl", "qwen3", "Qwen3ForCausalLM", {}, qwen3_keys},
      {"gemma", "gemma", "GemmaForCausalLM", {}, gemma_keys, {.norms_plus_one = true}},
      {"gemma2", "gemma2", "Gemma2ForCausalLM", {kSandwich}, gemma2_keys, {.norms_plus_one = true}},
      {"gemma3", "gemma3_text", "Gemma3ForCausalLM", {kSandwich}, gemma3_keys, {.norms_plus_one = true}},
      {"phi3", "phi3", "Phi3ForCausalLM", {kPhi3}, phi3_keys},
      {"phi2", "phi", "PhiForCausalLM", {kPhi2}, phi2_keys, {.layer_norm = "layer_norm_eps", .top = kPhi2Top}},
      {"granite", "granite", "GraniteForCausalLM", {}, granite_keys, {.pairs = true}},
      {"granite_swa", "granite_swa", "GraniteSwaForCausalLM", {}, granite_swa_keys, {.pairs = true}},
      {"olmo", "olmo", "OlmoForCausalLM", {}, olmo_keys, {.pairs = true, .layer_norm = "layer_norm_eps"}},
      {"olmo2", "olmo2", "Olmo2ForCausalLM", {kSandwich}, olmo2_keys},  // OLMo 3 by its windows
      {"smollm3", "smollm3", "SmolLM3ForCausalLM", {}, smollm3_keys, {.pairs = true}},
      {"command-r", "cohere", "CohereForCausalLM", {}, command_r_keys, {.layer_norm = "layer_norm_eps"}},
      {"cohere2", "cohere2", "Cohere2ForCausalLM", {}, cohere2_keys, {.layer_norm = "layer_norm_eps"}},
      {"chatglm", "glm", "GlmForCausalLM", {kGateUp}, glm4_keys},
      {"glm4", "glm4", "Glm4ForCausalLM", {kGlm4}, glm4_keys},
      {"ernie4_5", "ernie4_5", "Ernie4_5ForCausalLM", {}, ernie4_5_keys},
      {"hunyuan-dense", "hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", {kHunyuan}, hunyuan_keys},
      {"seed_oss", "seed_oss", "SeedOssForCausalLM", {kSecondNorm}, seed_oss_keys},
      {"exaone4", "exaone4", "Exaone4ForCausalLM", {kSandwich}, exaone4_keys},
      {"starcoder2", "starcoder2", "Starcoder2ForCausalLM", {kStarcoder2}, starcoder2_keys, {.layer_norm = "norm_epsilon"}},
      {"stablelm", "stablelm", "StableLmForCausalLM", {kStableLm}, stablelm_keys, {.layer_norm = "layer_norm_eps"}},
      {"nemotron", "nemotron", "NemotronForCausalLM", {}, nemotron_keys, {.norms_plus_one = true, .layer_norm = "norm_eps"}},
      {"apertus", "apertus", "ApertusForCausalLM", {kApertus}, apertus_keys},
      {"arcee", "arcee", "ArceeForCausalLM", {}, arcee_keys, {.pairs = true}},
      {"gptneox",
       "gpt_neox",
       "GPTNeoXForCausalLM",
       {kGptNeox},
       gptneox_keys,
       {.layer_norm = "layer_norm_eps", .top = kGptNeoxTop, .layers = "gpt_neox.layers"}},
      {"muse-glimmer",
       "muse_glimmer_text",
       "MuseGlimmerForCausalLM",
       {kMuseGlimmer, kSandwich},
       muse_glimmer_keys,
       {.pairs = true, .norms_plus_one = true, .top = kMuseGlimmerTop}},

      {"qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM", {kExperts, kSharedExpert}, qwen2moe_keys},
      {"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", {kExperts}, qwen3moe_keys},
      {"qwen3vlmoe", "qwen3_moe", "Qwen3MoeForCausalLM", {kExperts}, qwen3moe_keys},
      {"olmoe", "olmoe", "OlmoeForCausalLM", {kExperts}, olmoe_keys},
      {"granitemoe", "granitemoe", "GraniteMoeForCausalLM", {kGraniteMoe}, granitemoe_keys, {.pairs = true}},
      {"glm4moe", "glm4_moe", "Glm4MoeForCausalLM", {kExperts, kSharedExperts, kCorrection, kSecondNorm, kNextToken}, glm4moe_keys},
      {"dots1", "dots1", "Dots1ForCausalLM", {kExperts, kSharedExperts, kCorrection}, dots1_keys},
      {"ernie4_5-moe", "ernie4_5_moe", "Ernie4_5_MoeForCausalLM", {kExperts, kSharedExperts, kErnieMoe}, ernie4_5_moe_keys},
      {"hunyuan-moe", "hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM", {kHunyuanMoe, kHunyuan, kExperts, kSharedMlp}, hunyuan_moe_keys},
      {"minimax-m2", "minimax_m2", "MiniMaxM2ForCausalLM", {kMixtral}, minimax_m2_keys},
      {"hy_v3", "hy_v3", "HYV3ForCausalLM", {kHyV3, kExperts, kSharedMlp}, hy_v3_keys},
      {"phimoe", "phimoe", "PhimoeForCausalLM", {kMixtral}, phimoe_keys},
      {"llama4", "llama4_text", "Llama4ForCausalLM", {kLlama4}, llama4_keys},
      {"gpt-oss", "gpt_oss", "GptOssForCausalLM", {kGptOss}, gpt_oss_keys},
      {"deepseek2",
       "deepseek_v3",
       "DeepseekV3ForCausalLM",
       {kLatent, kExperts, kSharedExperts, kCorrection, kNextToken},
       deepseek2_keys,
       {.latent = true}},
      {"mistral4", "mistral4", "Mistral4ForCausalLM", {kLatent, kMistral4, kSharedExperts}, mistral4_keys, {.latent = true}},
      {"minicpm3", "minicpm3", "MiniCPM3ForCausalLM", {kLatent}, minicpm3_keys, {.latent = true}},
      {"gemma4", "gemma4_text", "Gemma4ForCausalLM", {kGemma4, kSandwich}, gemma4_keys, {.layers_differ = true, .top = kGemma4Top}},
      {"gemma3n", "gemma3n_text", "Gemma3nForCausalLM", {kGemma3n, kSandwich}, gemma3n_keys, {.top = kGemma3nTop}},

      {"lfm2", "lfm2", "Lfm2ForCausalLM", {kLfm2}, lfm2_keys, {.top = kLfm2Top, .rms_norm = "norm_eps"}},
      {"lfm2moe", "lfm2_moe", "Lfm2MoeForCausalLM", {kLfm2}, lfm2moe_keys, {.top = kLfm2Top, .rms_norm = "norm_eps"}},
      {"qwen35",
       "qwen3_5_text",
       "Qwen3_5ForCausalLM",
       {kQwen35, kDeltaRule, kNextTokenLeft},
       qwen35_keys,
       {.norms_plus_one = true, .tiled_value_heads = true}},
      {"qwen35moe",
       "qwen3_5_moe_text",
       "Qwen3_5MoeForCausalLM",
       {kQwen35, kDeltaRule, kExperts, kSharedExpert, kNextTokenLeft},
       qwen35moe_keys,
       {.norms_plus_one = true, .tiled_value_heads = true}},
      {"qwen3next",
       "qwen3_next",
       "Qwen3NextForCausalLM",
       {kQwen3Next, kDeltaRule, kExperts, kSharedExpert, kNextTokenLeft},
       qwen3next_keys,
       {.norms_plus_one = true}},
      {"kimi-linear", "kimi_linear", "KimiLinearForCausalLM", {kKimiLinear, kLatent, kMixtral}, kimi_linear_keys, {.latent = true}},
      {"jamba", "jamba", "JambaForCausalLM", {kJamba}, jamba_keys, {.top = kFinalNormTop}},
      {"granitehybrid",
       "granitemoehybrid",
       "GraniteMoeHybridForCausalLM",
       {kMamba, kGraniteMoe, kGraniteHybrid},
       granitehybrid_keys,
       {.pairs = true}},
      {"falcon-h1", "falcon_h1", "FalconH1ForCausalLM", {kMamba, kFalconH1}, falcon_h1_keys, {.top = kFinalNormTop}},
      {"nemotron_h",
       "nemotron_h",
       "NemotronHForCausalLM",
       {kNemotronH},
       nemotron_h_keys,
       {.pairs = true, .layer_norm = "layer_norm_epsilon", .top = kNemotronHTop, .layers = "backbone.layers"}},
      {"nemotron_h_moe",
       "nemotron_h",
       "NemotronHForCausalLM",
       {kNemotronH},
       nemotron_h_keys,
       {.pairs = true, .layer_norm = "layer_norm_epsilon", .top = kNemotronHTop, .layers = "backbone.layers"}},
  };
  return kAll;
}

const GgufArchitecture& gguf_architecture(const GgufFile& file) {
  const auto name = file.text("general.architecture");
  if (!name) throw Error(ErrorKind::bad_data, file.path + ": has no general.architecture");
  std::string known;
  for (const GgufArchitecture& each : gguf_architectures()) {
    if (*name == each.name) return each;
    known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  throw Error(ErrorKind::bad_data, fmt::format("{}: is of the architecture {}, expected one of {}", file.path, in_quotes(*name), known),
              "give the model as a Hugging Face folder");
}

}  // namespace loraine
