// What holds for every family: packed sequences are as those alone, decoding is as the whole forward, recomputing and any number of threads
// change no bit, bf16 and 4-bit bases are near. Each configuration is small and has all that its family varies.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "tests/support/any_model.h"
#include "tests/support/apart.h"
#include "tests/support/formula_model.h"
#include "tests/support/sanitized.h"

namespace loraine::every_family_test {
namespace {

constexpr int64_t kWidth = 32, kVocabulary = 61;
constexpr int64_t kLengths[] = {23, 14};

nlohmann::json family(const char* type, const nlohmann::json& own) {
  nlohmann::json config = {{"model_type", type},      {"vocab_size", kVocabulary}, {"hidden_size", kWidth},
                           {"intermediate_size", 40}, {"num_hidden_layers", 3},    {"num_attention_heads", 4},
                           {"head_dim", 8},           {"num_key_value_heads", 2},  {"max_position_embeddings", 64}};
  if (!own.is_null()) config.update(own);
  return config;
}

// Keys of Mamba-2, and a layer of attention in the middle.
nlohmann::json mamba(const nlohmann::json& own) {
  nlohmann::json config = {{"layer_types", {"mamba", "attention", "mamba"}},
                           {"mamba_n_heads", 8},
                           {"mamba_d_head", 8},
                           {"mamba_n_groups", 2},
                           {"mamba_d_state", 16}};
  if (!own.is_null()) config.update(own);
  return config;
}

// Experts beside a gated MLP.
nlohmann::json experts_of(nlohmann::json config) {
  config.update({{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}, {"shared_expert_intermediate_size", 16}});
  return config;
}

nlohmann::json with(nlohmann::json config, const nlohmann::json& more) {
  config.update(more);
  return config;
}

std::vector<nlohmann::json> configurations() {
  const nlohmann::json delta = {{"layer_types", {"linear_attention", "full_attention", "linear_attention"}},
                                {"linear_num_key_heads", 2},
                                {"linear_num_value_heads", 4},
                                {"linear_key_head_dim", 8},
                                {"linear_value_head_dim", 16},
                                {"partial_rotary_factor", 0.5}};
  const nlohmann::json slides = {"sliding_attention", "full_attention", "sliding_attention"};
  const nlohmann::json yarn = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8}, {"llama_4_scaling_beta", 0.1}};
  const nlohmann::json proportional = {{"full_attention", {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}}},
                                       {"sliding_attention", {{"rope_theta", 10000.0}}}};
  const nlohmann::json latent = {
      {"kv_lora_rank", 12}, {"qk_nope_head_dim", 8}, {"qk_rope_head_dim", 4}, {"v_head_dim", 6}, {"q_lora_rank", 20}};
  const nlohmann::json deep_yarn = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8}, {"mscale", 1.0}, {"mscale_all_dim", 0.7}};
  const nlohmann::json sparse = {
      {"n_routed_experts", 8}, {"num_experts_per_tok", 3},   {"moe_intermediate_size", 12}, {"n_group", 4},
      {"topk_group", 2},       {"first_k_dense_replace", 1}, {"n_shared_experts", 2},       {"routed_scaling_factor", 1.5}};
  const nlohmann::json factors = {1.0, 1.5, 2.0, 2.5};
  return {
      family("llama", {{"attention_bias", true}, {"mlp_bias", true}}),
      family("mistral", {{"sliding_window", 5}}),
      family("ministral3", {{"rope_parameters", yarn}}),
      family("qwen2", {}),
      family("qwen3", {}),
      family("smollm3", {{"no_rope_layers", {1, 0, 1}}}),
      family("arcee", {}),
      family("apertus", {}),
      family("seed_oss", {}),
      family("helium", {}),
      family("ernie4_5", {}),
      family("hunyuan_v1_dense", {{"rope_scaling", {{"type", "dynamic"}, {"alpha", 1000.0}}}}),
      family("phi3", {{"sliding_window", 7}}),
      family("phi3", {{"original_max_position_embeddings", 16},
                      {"rope_scaling", {{"type", "longrope"}, {"long_factor", factors}, {"short_factor", factors}}}}),
      family("phi", {{"num_key_value_heads", 4}}),
      family("gemma", {}),
      family("gemma2",
             {{"attn_logit_softcapping", 5.0}, {"final_logit_softcapping", 3.0}, {"sliding_window", 6}, {"query_pre_attn_scalar", 12}}),
      family("gemma3_text", {{"layer_types", slides}, {"sliding_window", 6}, {"query_pre_attn_scalar", 12}}),
      family("gemma4_text", {{"layer_types", slides},
                             {"sliding_window", 6},
                             {"global_head_dim", 16},
                             {"attention_k_eq_v", true},
                             {"num_global_key_value_heads", 1},
                             {"final_logit_softcapping", 30.0},
                             {"rope_parameters", proportional}}),
      family("gemma4_text",
             {{"layer_types", {"sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"}},
              {"num_hidden_layers", 5},
              {"sliding_window", 6},
              {"per_layer_config", {{"01", {{"head_dim", 16}}}, {"04", {{"head_dim", 16}}}}},
              {"num_kv_shared_layers", 3},
              {"use_double_wide_mlp", true},
              {"hidden_size_per_layer_input", 8},
              {"rope_parameters", proportional}}),
      family("gemma3n_text", {{"layer_types", {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}},
                              {"num_hidden_layers", 4},
                              {"intermediate_size", {40, 24, 40, 40}},
                              {"sliding_window", 6},
                              {"num_kv_shared_layers", 2},
                              {"hidden_size_per_layer_input", 8},
                              {"vocab_size_per_layer_input", 50},
                              {"altup_num_inputs", 3},
                              {"laurel_rank", 8},
                              {"activation_sparsity_pattern", {0.9, 0.0, 0.6, 0.0}}}),
      family("gemma4_text", {{"layer_types", slides},
                             {"sliding_window", 6},
                             {"rope_parameters", proportional},
                             {"enable_moe_block", true},
                             {"num_experts", 4},
                             {"top_k_experts", 2},
                             {"moe_intermediate_size", 12}}),
      family("granite",
             {{"embedding_multiplier", 3.0}, {"residual_multiplier", 0.7}, {"attention_multiplier", 0.2}, {"logits_scaling", 2.0}}),
      family("granite_swa",
             {{"layer_types", slides}, {"sliding_window", 6}, {"layer_rope_theta", {10000.0, 0, 5000.0}}, {"residual_multiplier", 0.7}}),
      family("olmo", {{"clip_qkv", 0.5}}),
      family("olmo2", {}),
      family("olmo3", {{"layer_types", slides}, {"sliding_window", 6}}),
      family("exaone4", {{"layer_types", slides}, {"sliding_window", 6}}),
      family("cohere", {{"use_qk_norm", true}}),
      family("cohere2", {{"layer_types", slides}, {"sliding_window", 6}}),
      family("glm", {{"attention_bias", true}}),
      family("glm4", {}),
      family("nemotron", {}),
      family("starcoder2", {{"sliding_window", 7}}),
      family("stablelm", {{"use_qkv_bias", true}, {"partial_rotary_factor", 0.5}}),
      family("stablelm", {{"use_parallel_residual", true}, {"qk_layernorm", true}, {"partial_rotary_factor", 0.5}}),
      family("gpt_neox", {{"num_key_value_heads", 4}, {"rotary_pct", 0.5}}),
      family("gpt2", {{"n_embd", kWidth}, {"n_head", 4}, {"n_layer", 3}, {"n_positions", 32}, {"scale_attn_by_inverse_layer_idx", true}}),
      family("qwen2_moe", {{"num_experts", 4},
                           {"num_experts_per_tok", 2},
                           {"moe_intermediate_size", 12},
                           {"shared_expert_intermediate_size", 16},
                           {"mlp_only_layers", {1}}}),
      family("qwen3_moe", {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}, {"norm_topk_prob", true}}),
      family("qwen3_vl_moe_text", {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}}),
      family("mixtral", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}}),
      family("olmoe", {{"num_experts", 4}, {"num_experts_per_tok", 3}}),
      family("phimoe", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"attention_bias", true}, {"lm_head_bias", true}}),
      family("minimax_m2", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"rotary_dim", 4}}),
      family("gpt_oss", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"sliding_window", 6}, {"intermediate_size", 12}}),
      family("granitemoe", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"residual_multiplier", 0.7}}),
      family("granitemoeshared", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"shared_intermediate_size", 16}}),
      family("glm4_moe", {{"n_routed_experts", 8},
                          {"num_experts_per_tok", 3},
                          {"moe_intermediate_size", 12},
                          {"n_group", 4},
                          {"topk_group", 2},
                          {"first_k_dense_replace", 1},
                          {"routed_scaling_factor", 1.5},
                          {"use_qk_norm", true}}),
      family("dots1", {{"n_routed_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}, {"n_shared_experts", 2}}),
      family("ernie4_5_moe", {{"moe_num_experts", 4}, {"moe_k", 2}, {"moe_intermediate_size", 12}}),
      family("hunyuan_v1_moe", {{"num_experts", 4}, {"moe_topk", {2, 2, 2}}}),
      family("hy_v3", {{"num_experts", 4},
                       {"num_experts_per_tok", 2},
                       {"moe_intermediate_size", 12},
                       {"mlp_layer_types", {"dense", "sparse", "sparse"}}}),
      family("llama4_text", {{"num_local_experts", 4},
                             {"num_experts_per_tok", 1},
                             {"intermediate_size", 12},
                             {"intermediate_size_mlp", 40},
                             {"interleave_moe_layer_step", 2},
                             {"attention_chunk_size", 7},
                             {"no_rope_layers", {1, 1, 0}},
                             {"attn_temperature_tuning", true},
                             {"floor_scale", 4}}),
      family("muse_glimmer_text", {{"layer_types", slides}, {"sliding_window", 6}, {"layer_rope_theta", {10000.0, 0, 5000.0}}}),
      family("lfm2", {{"layer_types", {"conv", "full_attention", "conv"}}, {"block_multiple_of", 8}, {"conv_bias", true}}),
      family("olmo_hybrid", delta),
      family("jamba", {{"attn_layer_period", 3},
                       {"attn_layer_offset", 1},
                       {"num_experts", 4},
                       {"num_experts_per_tok", 2},
                       {"mamba_d_state", 6},
                       {"mamba_dt_rank", 6}}),
      family("lfm2_moe", {{"layer_types", {"conv", "full_attention", "conv"}},
                          {"num_dense_layers", 1},
                          {"num_experts", 4},
                          {"num_experts_per_tok", 2},
                          {"moe_intermediate_size", 12}}),
      family("qwen3_5_text", delta),
      family("qwen3_5_moe_text", experts_of(delta)),
      family("qwen3_next", experts_of(delta)),
      family("granitemoehybrid", mamba({{"shared_intermediate_size", 24}, {"residual_multiplier", 0.7}})),
      family("granitemoehybrid", mamba({{"shared_intermediate_size", 24}, {"num_local_experts", 4}, {"num_experts_per_tok", 2}})),
      family("bamba", mamba({})),
      family("falcon_h1", mamba({{"mamba_d_ssm", 48},
                                 {"mamba_n_heads", 6},
                                 {"mamba_rms_norm", true},
                                 {"mamba_norm_before_gate", false},
                                 {"ssm_in_multiplier", 1.2},
                                 {"ssm_out_multiplier", 0.6},
                                 {"ssm_multipliers", {0.9, 0.8, 1.1, 0.7, 1.2}},
                                 {"attention_in_multiplier", 0.9},
                                 {"attention_out_multiplier", 0.8},
                                 {"key_multiplier", 0.7},
                                 {"mlp_multipliers", {0.9, 0.7}}})),
      family("falcon_h1", mamba({{"mamba_d_ssm", 64}})),
      family("nemotron_h",
             {{"hybrid_override_pattern", "M*-"}, {"mamba_num_heads", 6}, {"mamba_head_dim", 8}, {"n_groups", 2}, {"ssm_state_size", 16}}),
      family("nemotron_h", {{"hybrid_override_pattern", "EME"},
                            {"mamba_num_heads", 4},
                            {"mamba_head_dim", 8},
                            {"n_groups", 1},
                            {"ssm_state_size", 16},
                            {"n_routed_experts", 4},
                            {"num_experts_per_tok", 2},
                            {"moe_intermediate_size", 12}}),
      family("youtu", latent),
      family("deepseek_v2", with(with(latent, sparse), {{"q_lora_rank", nullptr}, {"topk_method", "group_limited_greedy"}})),
      family("deepseek_v3", with(with(latent, sparse), {{"rope_parameters", deep_yarn}})),
      family("mistral4", with(with(latent, sparse), {{"rope_parameters", yarn}, {"first_k_dense_replace", 0}})),
      family("minicpm3", with(latent, {{"q_lora_rank", nullptr}, {"scale_emb", 6}, {"scale_depth", 1.4}, {"dim_model_base", 16}})),
      family("kimi_linear", with(latent, {{"q_lora_rank", nullptr},
                                          {"layer_types", {"linear_attention", "full_attention", "linear_attention"}},
                                          {"linear_num_heads", 4},
                                          {"linear_head_dim", 8},
                                          {"num_experts", 4},
                                          {"num_experts_per_token", 2},
                                          {"moe_intermediate_size", 12},
                                          {"num_shared_experts", 1}})),
      family("minimax", {{"layer_types", {"linear_attention", "full_attention", "linear_attention"}},
                         {"num_local_experts", 4},
                         {"num_experts_per_tok", 2},
                         {"linear_attn_alpha_factor", 1.3},
                         {"linear_attn_beta_factor", 0.7},
                         {"full_attn_alpha_factor", 0.9},
                         {"full_attn_beta_factor", 1.2},
                         {"mlp_alpha_factor", 0.8}}),
  };
}

std::string text_of(const nlohmann::json& config) { return config.dump(); }

AdapterSet random_adapter(const Model& model) {
  LoraConfig lora;
  lora.r = 4;
  lora.lora_alpha = 8;
  set_targets(lora, model.experts().empty() ? "all" : "all,experts");
  name_targets(lora, model);
  AdapterSet adapter = attach_adapter(model, lora, true);
  for (const Parameter& p : adapter.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = noise(static_cast<size_t>(i), p.name.size());
  Context ctx;
  adapter.refresh(ctx);
  return adapter;
}

int32_t token(int64_t sequence, int64_t t) { return static_cast<int32_t>((t * 7 + sequence * 13 + 5) % kVocabulary); }

Batch batch_of(std::initializer_list<int64_t> sequences) {
  Batch batch;
  for (const int64_t which : sequences) {
    const int64_t start = batch.rows(), length = kLengths[which];
    for (int64_t t = 0; t < length; ++t) {
      batch.tokens.push_back(token(which, t));
      batch.positions.push_back(static_cast<int32_t>(t));
    }
    batch.sequences.push_back({start, length, start, length});
  }
  batch.adapter_rows = {{0, batch.rows(), 0}};
  return batch;
}

struct Result {
  std::vector<float> hidden, gradients;
};

std::vector<float> floats(const Tensor& t) {
  Context ctx;
  std::vector<float> out(static_cast<size_t>(t.numel()));
  convert_rows(ctx, Tensor(out.data(), Dtype::F32, {t.rows(), t.cols()}), t);
  return out;
}

Result train(const Model& model, const Batch& batch, Recompute recompute = Recompute::none) {
  AdapterSet adapter = random_adapter(model);
  const int64_t rows = batch.rows();
  const std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, rows, true, sets, dry, recompute);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, rows, true, sets));
  Activations activations = plan_activations(model, rows, true, sets, memory, recompute);
  Pass pass{&activations, nullptr, sets, &scratch, true};
  Context ctx;
  decoder_forward(ctx, model, batch, pass);
  Result result;
  result.hidden = floats(activations.hidden);
  std::vector<float> d(static_cast<size_t>(rows * kWidth));
  for (size_t i = 0; i < d.size(); ++i) d[i] = noise(i, 5);
  decoder_backward(ctx, model, batch, pass, adapter, Tensor(d.data(), Dtype::F32, {rows, kWidth}));
  adapter.finish_gradients(ctx);
  for (const Parameter& p : adapter.parameters())
    result.gradients.insert(result.gradients.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
  return result;
}

// The hidden states of both sequences side by side through a cache: the first rows in pieces, then one by one.
std::vector<std::vector<float>> decode(const Model& model) {
  const AdapterSet adapter = random_adapter(model);
  const int64_t room = 32;
  const std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, room, false, sets, dry);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, room, false, sets));
  Activations activations = plan_activations(model, room, false, sets, memory);
  KvCache cache(model, 2 * room, 2);
  Pass pass{&activations, &cache, sets, &scratch, false};
  Context ctx;
  std::vector<std::vector<float>> hidden(2);
  int64_t done[2] = {0, 0};
  for (const int64_t piece : {7, 1, 4, 1, 1, 1, 8}) {
    Batch batch;
    for (int64_t which = 0; which < 2; ++which) {
      const int64_t count = std::min(piece, kLengths[which] - done[which]), start = batch.rows();
      if (count == 0) continue;
      for (int64_t t = done[which]; t < done[which] + count; ++t) {
        batch.tokens.push_back(token(which, t));
        batch.positions.push_back(static_cast<int32_t>(t));
      }
      batch.sequences.push_back({start, count, which * room, done[which] + count, 1 - which});
    }
    batch.adapter_rows = {{0, batch.rows(), 0}};
    decoder_forward(ctx, model, batch, pass);
    for (const Sequence& sequence : batch.sequences) {
      const size_t which = static_cast<size_t>(1 - sequence.slot);
      const std::vector<float> rows = floats(activations.hidden.row_range(sequence.start, sequence.length));
      hidden[which].insert(hidden[which].end(), rows.begin(), rows.end());
      done[which] += sequence.length;
    }
  }
  return hidden;
}

std::vector<float> sequence_of(const std::vector<float>& hidden, int64_t which) {
  const auto first = hidden.begin() + (which == 0 ? 0 : kLengths[0] * kWidth);
  return {first, first + kLengths[which] * kWidth};
}

TEST(EveryFamily, PackedSequencesAreAsAlone) {
  for (const nlohmann::json& config : configurations()) {
    const Model model = any_model(config);
    const Result both = train(model, batch_of({0, 1}));
    for (const int64_t which : {0, 1})
      EXPECT_LT(apart(sequence_of(both.hidden, which), train(model, batch_of({which})).hidden), 3e-5) << text_of(config);
  }
}

TEST(EveryFamily, EveryTensorHasOnePlace) {
  for (const nlohmann::json& config : configurations()) {
    const std::vector<TensorInfo> wanted = tensors_of(config, "config.json");
    for (size_t i = 1; i < wanted.size(); ++i) EXPECT_LT(wanted[i - 1].name, wanted[i].name) << text_of(config);
    const Model model = any_model(config);
    const std::vector<const Vector*> vectors = model.vectors();
    for (size_t i = 0; i < vectors.size(); ++i) {
      EXPECT_EQ(vectors[i]->index, static_cast<int64_t>(i)) << text_of(config);
      for (size_t j = 0; j < i; ++j) EXPECT_NE(vectors[i]->name, vectors[j]->name) << text_of(config);
    }
  }
}

TEST(EveryFamily, DecodingIsAsTheWholeForward) {
  for (const nlohmann::json& config : configurations()) {
    if (config.contains("rope_scaling") && config["rope_scaling"].value("type", "") == "longrope") continue;  // keys keep their angles
    const Model model = any_model(config);
    const Result whole = train(model, batch_of({0, 1}));
    const std::vector<std::vector<float>> pieces = decode(model);
    for (const int64_t which : {0, 1})
      EXPECT_LT(apart(pieces[static_cast<size_t>(which)], sequence_of(whole.hidden, which)), 3e-5) << text_of(config);
  }
}

TEST(EveryFamily, RecomputingAndThreadsChangeNoBit) {
  const int threads = omp_get_max_threads();
  for (const nlohmann::json& config : configurations())
    for (const bool bf16 : {false, true}) {
      const Model model = any_model(config, {bf16});
      const Batch batch = batch_of({0, 1});
      const Result kept = train(model, batch);
      for (const Recompute recompute : {Recompute::mlp, Recompute::block}) {
        if (kSanitized && recompute == Recompute::mlp) continue;
        const Result again = train(model, batch, recompute);
        EXPECT_EQ(kept.hidden, again.hidden) << text_of(config);
        EXPECT_EQ(kept.gradients, again.gradients) << text_of(config) << " bf16 " << bf16 << " level " << static_cast<int>(recompute);
      }
      omp_set_num_threads(1);
      const Result one = train(model, batch);
      omp_set_num_threads(threads);
      EXPECT_EQ(kept.hidden, one.hidden) << text_of(config);
      EXPECT_EQ(kept.gradients, one.gradients) << text_of(config);
    }
}

// The same with no more experts than a row takes: which they are would follow from roundings.
nlohmann::json without_choice(nlohmann::json config) {
  for (const char* taken : {"num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_k", "moe_topk"})
    for (const char* all : {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"})
      if (config.contains(taken) && config.contains(all)) config[all] = config[taken].is_array() ? config[taken][0] : config[taken];
  if (config.contains("n_group")) config["n_group"] = config["topk_group"] = 1;
  return config;
}

// The weights of any_model, drawn in one of several ways.
class DrawnWeights : public AnyWeights {
 public:
  DrawnWeights(const nlohmann::json& config, int draw) : AnyWeights(tensors_of(config, "config.json")), draw_(draw) {}
  void read(const TensorInfo& info, const Tensor& out) const override {
    TensorInfo other = info;
    if (draw_ > 0) other.name = std::to_string(draw_) + info.name;
    AnyWeights::read(other, out);
  }

 private:
  int draw_;
};

Model drawn_model(const nlohmann::json& config, int draw, const LoadOptions& options) {
  ModelFiles files;
  files.path = "random";
  files.config = config;
  files.tensors = std::make_unique<DrawnWeights>(config, draw);
  return load_model(files, options);
}

// Some random models carry a rounding far (scores that nothing divides, norms over a few numbers near zero), so that the middle one of
// five is what tells.
TEST(EveryFamily, NarrowBasesAreNear) {
  if (kSanitized) GTEST_SKIP() << "precision is the plain build's; the other tests here touch the same memory";
  constexpr int kDraws = 5;
  const auto middle = [](std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
  };
  LoadOptions four_bits;
  four_bits.quantisation = {Dtype::NF4, true};
  for (const nlohmann::json& given : configurations()) {
    const nlohmann::json config = without_choice(given);
    const Batch batch = batch_of({0, 1});
    std::vector<double> hidden, gradients, quantised;
    for (int draw = 0; draw < kDraws; ++draw) {
      const Result f32 = train(drawn_model(config, draw, {}), batch), bf16 = train(drawn_model(config, draw, {true}), batch);
      hidden.push_back(apart(bf16.hidden, f32.hidden));
      gradients.push_back(apart(bf16.gradients, f32.gradients));
      quantised.push_back(apart(train(drawn_model(config, draw, four_bits), batch).hidden, f32.hidden));
    }
    const double far = config.contains("hidden_size_per_layer_input") ? 4 : config.contains("linear_key_head_dim") ? 10 : 1;
    EXPECT_LT(middle(hidden), 0.08 * far) << text_of(config);
    EXPECT_LT(middle(gradients), 0.4 * far) << text_of(config);
    EXPECT_GT(middle(quantised), 1e-4) << text_of(config);
    EXPECT_LT(middle(quantised), 0.9 * far) << text_of(config);
  }
}

}  // namespace
}  // namespace loraine::every_family_test
