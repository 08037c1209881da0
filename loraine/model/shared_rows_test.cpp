// Sequences that share the rows they begin with against the same sequences side by side: hidden states, gradients of adapters, levels of
// recomputing and threads; which families share, and up to which length.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "tests/support/any_model.h"
#include "tests/support/apart.h"
#include "tests/support/formula_model.h"

namespace loraine::shared_rows_test {
namespace {

constexpr int64_t kColumns = 32, kTokens = 61;

nlohmann::json small(const char* type, const nlohmann::json& own) {
  nlohmann::json config = {{"model_type", type},      {"vocab_size", kTokens},    {"hidden_size", kColumns},
                           {"intermediate_size", 40}, {"num_hidden_layers", 3},   {"num_attention_heads", 4},
                           {"head_dim", 8},           {"num_key_value_heads", 2}, {"max_position_embeddings", 64}};
  if (!own.is_null()) config.update(own);
  return config;
}

std::vector<nlohmann::json> sharing_families() {
  const nlohmann::json slides = {"sliding_attention", "full_attention", "sliding_attention"};
  return {
      small("llama", {{"attention_bias", true}, {"mlp_bias", true}}),
      small("mistral", {{"sliding_window", 5}}),
      small("qwen3", {}),
      small("gpt2", {{"n_embd", kColumns}, {"n_head", 4}, {"n_layer", 3}, {"n_positions", 64}}),
      small("cohere", {{"use_qk_norm", true}}),
      small("gemma2",
            {{"attn_logit_softcapping", 5.0}, {"final_logit_softcapping", 3.0}, {"sliding_window", 6}, {"query_pre_attn_scalar", 12}}),
      small("gemma3n_text", {{"layer_types", {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}},
                             {"num_hidden_layers", 4},
                             {"intermediate_size", {40, 24, 40, 40}},
                             {"sliding_window", 6},
                             {"num_kv_shared_layers", 2},
                             {"hidden_size_per_layer_input", 8},
                             {"vocab_size_per_layer_input", 50},
                             {"altup_num_inputs", 3},
                             {"laurel_rank", 8},
                             {"activation_sparsity_pattern", {0.9, 0.0, 0.6, 0.0}}}),
      small("olmo3", {{"layer_types", slides}, {"sliding_window", 6}}),
      small("gpt_oss", {{"num_local_experts", 4}, {"num_experts_per_tok", 4}, {"sliding_window", 6}, {"intermediate_size", 12}}),
      small("qwen3_moe", {{"num_experts", 4}, {"num_experts_per_tok", 4}, {"moe_intermediate_size", 12}, {"norm_topk_prob", true}}),
      small("llama4_text", {{"num_local_experts", 1},
                            {"num_experts_per_tok", 1},
                            {"intermediate_size", 12},
                            {"intermediate_size_mlp", 40},
                            {"interleave_moe_layer_step", 2},
                            {"attention_chunk_size", 7},
                            {"no_rope_layers", {1, 1, 0}},
                            {"attn_temperature_tuning", true},
                            {"floor_scale", 4}}),
      small("youtu", {{"kv_lora_rank", 12}, {"qk_nope_head_dim", 8}, {"qk_rope_head_dim", 4}, {"v_head_dim", 6}, {"q_lora_rank", 20}}),
  };
}

// Sequences of so many tokens; the first `shared` are those of sequence `parent`.
struct Branching {
  int64_t length, shared = 0, parent = -1;
};
const std::vector<Branching> kBranches = {{23}, {9}, {27, 17, 0}, {21, 20, 0}, {25, 22, 2}, {14, 3, 1}};

int32_t token_of(size_t which, int64_t t) {
  const Branching& b = kBranches[which];
  if (t < b.shared) return token_of(static_cast<size_t>(b.parent), t);
  return static_cast<int32_t>((t * 7 + static_cast<int64_t>(which) * 13 + 5) % kTokens);
}

// The tree, or every sequence whole; `rows`: the row of the tree of each row. Where one is there again its gradient is none.
struct Laid {
  Batch batch;
  std::vector<int64_t> rows;
};
Laid laid(bool shared) {
  Laid out;
  std::vector<std::vector<int64_t>> of_tree;
  int64_t next = 0;
  for (size_t which = 0; which < kBranches.size(); ++which) {
    const Branching& b = kBranches[which];
    std::vector<int64_t>& rows = of_tree.emplace_back();
    for (int64_t t = 0; t < b.length; ++t)
      rows.push_back(t < b.shared ? of_tree[static_cast<size_t>(b.parent)][static_cast<size_t>(t)] : next++);
    const int64_t first = shared ? b.shared : 0, start = out.batch.rows();
    for (int64_t t = first; t < b.length; ++t) {
      out.batch.tokens.push_back(token_of(which, t));
      out.batch.positions.push_back(static_cast<int32_t>(t));
      out.rows.push_back(rows[static_cast<size_t>(t)]);
    }
    Sequence& s = out.batch.sequences.emplace_back(Sequence{start, b.length - first, start, b.length});
    if (shared) s.parent = b.parent;
  }
  out.batch.adapter_rows = {{0, out.batch.rows(), 0}};
  return out;
}

struct Given {
  std::vector<float> hidden, gradients;
};

Given run_laid(const Model& model, const Laid& in, Recompute recompute = Recompute::none) {
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
  const int64_t rows = in.batch.rows();
  const std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, rows, true, sets, dry, recompute);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, rows, true, sets));
  Activations activations = plan_activations(model, rows, true, sets, memory, recompute);
  Pass pass{&activations, nullptr, sets, &scratch, true};
  decoder_forward(ctx, model, in.batch, pass);
  Given out;
  out.hidden.resize(static_cast<size_t>(rows * kColumns));
  convert_rows(ctx, Tensor(out.hidden.data(), Dtype::F32, {rows, kColumns}), activations.hidden);
  std::vector<float> d(static_cast<size_t>(rows * kColumns));
  std::vector<bool> seen(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t of_tree = in.rows[static_cast<size_t>(row)];
    if (seen[static_cast<size_t>(of_tree)]) continue;
    seen[static_cast<size_t>(of_tree)] = true;
    for (int64_t c = 0; c < kColumns; ++c)
      d[static_cast<size_t>(row * kColumns + c)] = noise(static_cast<size_t>(of_tree * kColumns + c), 5);
  }
  decoder_backward(ctx, model, in.batch, pass, adapter, Tensor(d.data(), Dtype::F32, {rows, kColumns}));
  adapter.finish_gradients(ctx);
  for (const Parameter& p : adapter.parameters())
    out.gradients.insert(out.gradients.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
  return out;
}

std::vector<float> spread(const std::vector<float>& hidden, const std::vector<int64_t>& rows) {
  std::vector<float> out;
  for (const int64_t row : rows) out.insert(out.end(), hidden.begin() + row * kColumns, hidden.begin() + (row + 1) * kColumns);
  return out;
}

TEST(SharedRows, AreAsSeparateOnes) {
  const Laid tree = laid(true), apart = laid(false);
  EXPECT_EQ(tree.batch.rows(), 57);
  EXPECT_EQ(apart.batch.rows(), 119);
  for (const nlohmann::json& config : sharing_families()) {
    const Model model = any_model(config);
    EXPECT_GE(shares_up_to(model), 64) << config.dump();
    const Given shared = run_laid(model, tree), separate = run_laid(model, apart);
    EXPECT_LT(loraine::apart(spread(shared.hidden, apart.rows), separate.hidden), 1e-6) << config.dump();
    EXPECT_LT(loraine::apart(shared.gradients, separate.gradients), 2e-6) << config.dump();
  }
}

// Each is as near to the f32 one as the other.
TEST(SharedRows, AreAsSeparateOnesWithinTheRoundingOfBfloat) {
  const Laid tree = laid(true), apart = laid(false);
  for (const nlohmann::json& config : sharing_families()) {
    const Given exact = run_laid(any_model(config), apart);
    const Model model = any_model(config, {true});
    const Given shared = run_laid(model, tree), separate = run_laid(model, apart);
    EXPECT_LT(loraine::apart(spread(shared.hidden, apart.rows), exact.hidden), 1.5 * loraine::apart(separate.hidden, exact.hidden) + 1e-3)
        << config.dump();
    EXPECT_LT(loraine::apart(shared.gradients, exact.gradients), 1.5 * loraine::apart(separate.gradients, exact.gradients) + 1e-3)
        << config.dump();
  }
}

TEST(SharedRows, RecomputingAndThreadsChangeNoBit) {
  const int threads = omp_get_max_threads();
  const Laid tree = laid(true);
  for (const nlohmann::json& config : sharing_families())
    for (const bool bf16 : {false, true}) {
      const Model model = any_model(config, {bf16});
      const Given kept = run_laid(model, tree);
      for (const Recompute recompute : {Recompute::mlp, Recompute::block}) {
        const Given again = run_laid(model, tree, recompute);
        EXPECT_EQ(kept.hidden, again.hidden) << config.dump();
        EXPECT_EQ(kept.gradients, again.gradients) << config.dump();
      }
      for (const int n : {1, 3}) {
        omp_set_num_threads(n);
        const Given other = run_laid(model, tree);
        EXPECT_EQ(kept.hidden, other.hidden) << config.dump();
        EXPECT_EQ(kept.gradients, other.gradients) << config.dump();
      }
      omp_set_num_threads(threads);
    }
}

TEST(SharedRows, FamiliesThatCannotShareSaySo) {
  const nlohmann::json factors = {1.0, 1.5, 2.0, 2.5};
  const Model stateful =
      any_model(small("lfm2", {{"layer_types", {"conv", "full_attention", "conv"}}, {"block_multiple_of", 8}, {"conv_bias", true}}));
  EXPECT_EQ(shares_up_to(stateful), 0);
  EXPECT_THROW(run_laid(stateful, laid(true)), Error);
  const nlohmann::json scaling = {{"type", "longrope"}, {"long_factor", factors}, {"short_factor", factors}};
  const Model by_length = any_model(small("phi3", {{"original_max_position_embeddings", 26}, {"rope_scaling", scaling}}));
  EXPECT_EQ(shares_up_to(by_length), 26);
  EXPECT_THROW(run_laid(by_length, laid(true)), Error);
}

}  // namespace
}  // namespace loraine::shared_rows_test
