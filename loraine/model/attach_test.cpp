// Trained tensors in the place of the base's, LoRA on embedding and head: gradients of all of them against differences of the loss along
// random directions; rows of several sets in one batch; tied embeddings.
#include "loraine/model/attach.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/core/error.h"
#include "loraine/model/decoder.h"
#include "loraine/model/load.h"
#include "loraine/model/mixers/attention.h"
#include "loraine/model/mixers/mlp.h"
#include "tests/support/any_model.h"

namespace loraine::attach_test {
namespace {

constexpr int64_t kRows = 23, kVocab = 37, kHidden = 32;

// Random weights under Hugging Face's names, the biases that the config has among them.
class RandomWeights : public TensorSource {
 public:
  explicit RandomWeights(const ModelConfig& c) {
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      all_.push_back({name, Dtype::F32, shape, "F32", "random"});
    };
    const auto linear = [&](const std::string& name, int64_t out, int64_t in, bool bias) {
      add(name + ".weight", {out, in});
      if (bias) add(name + ".bias", {out});
    };
    add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
    add("model.norm.weight", {c.hidden_size});
    if (!c.tie_word_embeddings) add("lm_head.weight", {c.vocab_size, c.hidden_size});
    for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
      const std::string p = "model.layers." + std::to_string(layer) + ".", attention = p + "self_attn.", mlp = p + "mlp.";
      add(p + "input_layernorm.weight", {c.hidden_size});
      add(p + "post_attention_layernorm.weight", {c.hidden_size});
      const std::vector<BranchConfig>& branches = c.layers[static_cast<size_t>(layer)].branches;
      const auto& a = dynamic_cast<const AttentionConfig&>(*branches[0].mixer);
      const auto& m = dynamic_cast<const MlpConfig&>(*branches[1].mixer);
      if (a.q_norm.kind != NormKind::none)
        for (const char* name : {"q_norm.weight", "k_norm.weight"}) add(attention + name, {a.head_dim});
      linear(attention + "q_proj", a.q_size(), c.hidden_size, a.q_bias);
      linear(attention + "k_proj", a.kv_size(), c.hidden_size, a.k_bias);
      linear(attention + "v_proj", a.kv_size(), c.hidden_size, a.v_bias);
      linear(attention + "o_proj", c.hidden_size, a.q_size(), a.output_bias);
      linear(mlp + "gate_proj", m.intermediate_size, c.hidden_size, m.bias);
      linear(mlp + "up_proj", m.intermediate_size, c.hidden_size, m.bias);
      linear(mlp + "down_proj", c.hidden_size, m.intermediate_size, m.bias);
    }
    std::ranges::sort(all_, {}, &TensorInfo::name);
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>{}(info.name)));
    std::normal_distribution<float> normal(info.name.find("norm") == std::string::npos ? 0.0f : 1.0f, 0.15f);
    for (int64_t i = 0; i < out.numel(); ++i) out.f32()[i] = normal(random);
  }

 private:
  std::vector<TensorInfo> all_;
};

Model make_model(const char* type, bool tied, std::optional<Quantisation> quantisation = {}) {
  ModelFiles files;
  files.path = "random";
  files.config = {{"model_type", type},          {"vocab_size", kVocab},     {"hidden_size", kHidden},   {"intermediate_size", 48},
                  {"num_hidden_layers", 2},      {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 8},
                  {"tie_word_embeddings", tied}, {"attention_bias", true},   {"mlp_bias", true}};
  files.tensors = std::make_unique<RandomWeights>(model_config(files.config, "random"));
  return load_model(files, {.quantisation = quantisation});
}

// Loss Σ r · logits over all rows; with `gradients` those of the set are added up.
struct Probe {
  const Model& model;
  std::vector<float> r = std::vector<float>(static_cast<size_t>(kRows * kVocab)), logits = r;
  Batch batch;

  explicit Probe(const Model& m) : model(m) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 1);
    for (float& v : r) v = normal(random);
    for (int32_t t = 0; t < kRows; ++t) {
      batch.tokens.push_back(t * 5 % 11);
      batch.positions.push_back(t < 14 ? t : t - 14);
    }
    batch.sequences = {{0, 14, 0, 14}, {14, kRows - 14, 14, kRows - 14}};
  }
  double loss(AdapterSet& set, bool gradients, Recompute recompute = Recompute::none) {
    const std::vector<const AdapterSet*> sets = {&set};
    batch.adapter_rows = {{0, kRows, 0}};
    Arena dry;
    plan_activations(model, kRows, true, sets, dry, recompute);
    Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, true, sets) + head_scratch_bytes(model, kRows, &set));
    Activations activations = plan_activations(model, kRows, true, sets, memory, recompute);
    Pass pass{&activations, nullptr, sets, &scratch, true};
    Context ctx;
    set.refresh(ctx);
    decoder_forward(ctx, model, batch, pass);
    Buffer columns_memory(static_cast<size_t>(kRows * 64) * sizeof(float));
    Tensor columns(columns_memory.data(), Dtype::F32, {kRows, set.head() ? set.head()->saved_width() : 1});
    head_logits(ctx, model, Tensor(logits.data(), Dtype::F32, {kRows, kVocab}), activations.hidden, &set, scratch, columns);
    double sum = 0;
    for (size_t i = 0; i < r.size(); ++i) sum += static_cast<double>(r[i]) * logits[i];
    if (!gradients) return sum;
    std::vector<float> d(static_cast<size_t>(kRows * kHidden));
    const Tensor d_hidden(d.data(), Dtype::F32, {kRows, kHidden});
    head_backward(ctx, model, &set, d_hidden, Tensor(r.data(), Dtype::F32, {kRows, kVocab}), activations.hidden, columns, scratch);
    decoder_backward(ctx, model, batch, pass, set, d_hidden);
    return sum;
  }
};

std::vector<float> values(const Tensor& t) { return {t.f32(), t.f32() + t.numel()}; }

// Every parameter's gradient along random signs, and along itself, against the difference of the loss.
void check_gradients(const Model& model, AdapterSet& set, double tolerance = 3e-3) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);  // thousands of parallel regions of a few microseconds each
  Probe probe(model);
  probe.loss(set, true);
  std::mt19937 random(3);
  const std::vector<Parameter> parameters = set.parameters();
  double largest = 0;
  for (const Parameter& p : parameters)
    for (float g : values(p.gradient)) largest = std::max(largest, static_cast<double>(std::abs(g)));
  for (const Parameter& p : parameters) {
    const std::vector<float> kept = values(p.value), gradient = values(p.gradient);
    double size = 0;
    for (float g : gradient) size += static_cast<double>(g) * g;
    for (bool along_itself : {false, true}) {
      std::vector<double> direction;
      for (float g : gradient) direction.push_back(along_itself ? g / std::max(std::sqrt(size), 1e-12) : (random() & 1 ? 1.0 : -1.0));
      const double h = along_itself ? 4e-3 : 4e-3 / std::sqrt(static_cast<double>(kept.size()));
      const auto moved = [&](double by) {
        for (size_t i = 0; i < kept.size(); ++i) p.value.f32()[i] = static_cast<float>(kept[i] + by * direction[i]);
        return probe.loss(set, false);
      };
      const double difference = (moved(h) - moved(-h)) / (2 * h);
      moved(0);
      double expected = 0, length = 0;
      for (size_t i = 0; i < gradient.size(); ++i) expected += gradient[i] * direction[i], length += direction[i] * direction[i];
      EXPECT_NEAR(difference, expected, tolerance * std::max(std::sqrt(size * length), 0.05 * largest)) << p.name;
    }
    EXPECT_GT(size, 0) << p.name << " gets no gradient";
  }
  omp_set_num_threads(threads);
}

ChooseTensor all_names() {
  return [](const std::string& name) { return name; };
}

TEST(Attach, GradientsOfAllTensorsOfTheBase) {
  for (const char* type : {"llama", "qwen3"})
    for (bool tied : {false, true}) {
      const Model model = make_model(type, tied);
      AdapterSet set;
      attach_dense(set, model, all_names(), true, true);
      EXPECT_EQ(set.parameters().size(), model.source->tensors().size());
      check_gradients(model, set);
    }
}

// Streams beside each other, inputs per layer from a table, experts beside an MLP.
nlohmann::json gemma(const char* type, const nlohmann::json& own) {
  nlohmann::json config = {{"model_type", type},
                           {"vocab_size", kVocab},
                           {"hidden_size", kHidden},
                           {"intermediate_size", 40},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"head_dim", 8},
                           {"sliding_window", 6},
                           {"num_kv_shared_layers", 0},
                           {"layer_types", {"sliding_attention", "full_attention"}},
                           {"final_logit_softcapping", nullptr}};
  config.update(own);
  return config;
}
nlohmann::json gemma3n() {
  return gemma("gemma3n_text", {{"hidden_size_per_layer_input", 8},
                                {"vocab_size_per_layer_input", 9},
                                {"altup_num_inputs", 3},
                                {"laurel_rank", 8},
                                {"activation_sparsity_pattern", {0.6, 0.0}}});
}

TEST(Attach, GradientsOfAllTensorsOfGemmas) {
  const nlohmann::json experts = {{"enable_moe_block", true}, {"num_experts", 2}, {"top_k_experts", 2}, {"moe_intermediate_size", 12}};
  for (const nlohmann::json& config :
       {gemma3n(), gemma("gemma4_text", {{"hidden_size_per_layer_input", 8}}), gemma("gemma4_text", experts)}) {
    const Model model = any_model(config);
    AdapterSet set;
    attach_dense(set, model, all_names(), true, true);
    size_t trained = 0;
    for (const TensorInfo& info : model.source->tensors()) trained += !info.name.ends_with("scalar");
    EXPECT_EQ(set.parameters().size(), trained) << config;
    check_gradients(model, set, 1e-2);  // scores that nothing divides bend the loss
  }
}

TEST(Attach, AllLinearNamesNoNumberAlone) {
  const Model model = any_model(gemma3n());
  LoraConfig lora;
  set_targets(lora, "all");
  name_all_linear(lora, model.sites(), false);
  for (const std::string& name : lora.target_modules) EXPECT_NE(name.find_first_not_of("0123456789"), name.npos) << name;
  for (const char* name : {"altup_projections.0", "altup_unembed_projections.1", "modality_router", "per_layer_model_projection"})
    EXPECT_NE(std::ranges::find(lora.target_modules, name), lora.target_modules.end()) << name;
}

TEST(Attach, ATableBesideTheEmbeddingCounts) {
  const Model model = any_model(gemma3n());
  int64_t all = 0;
  for (const TensorInfo& info : model.source->tensors()) all += Tensor(nullptr, Dtype::F32, info.shape).numel();
  EXPECT_EQ(model.parameter_count(), all);
}

TEST(Attach, FreezingStopsTheBackwardWhereNothingIsTrained) {
  const Model model = make_model("qwen3", false);
  AdapterSet all;
  attach_dense(all, model, all_names(), true, true);
  Probe probe(model);
  probe.loss(all, true);
  for (const char* only : {"model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.q_proj.bias", "lm_head.weight",
                           "model.norm.weight", "model.layers.0.self_attn.q_norm.weight", "model.embed_tokens.weight"}) {
    AdapterSet one;
    attach_dense(
        one, model, [&](const std::string& name) { return name == only ? name : ""; }, true, true);
    ASSERT_EQ(one.parameters().size(), 1u) << only;
    probe.loss(one, true);
    for (const Parameter& p : all.parameters())
      if (p.name == only) { EXPECT_EQ(values(p.gradient), values(one.parameters()[0].gradient)) << only; }
  }
}

TEST(Attach, GradientsOfAdaptersOnEmbeddingHeadAndBiases) {
  for (bool tied : {false, true}) {
    Model model = make_model("llama", tied);
    LoraConfig config;
    config.r = 3;
    config.lora_alpha = 6;
    set_targets(config, "embed_tokens,lm_head,q_proj,up_proj");
    config.modules_to_save = {"norm", "o_proj"};
    config.bias = "all";
    AdapterSet set = attach_adapter(model, config, true);
    start_adapter(set, model, config, 5);
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0, 0.2f);
    for (const Parameter& p : set.parameters())
      if (p.name.find("lora_") != std::string::npos)
        for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = normal(random);
    std::vector<std::string> names;
    for (const Parameter& p : set.parameters()) names.push_back(p.name);
    const auto has = [&](const std::string& name) { return std::ranges::find(names, "base_model.model." + name) != names.end(); };
    for (const char* name : {"lm_head.lora_A.weight", "model.embed_tokens.lora_embedding_A", "model.embed_tokens.lora_embedding_B",
                             "model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.1.self_attn.o_proj.weight",
                             "model.layers.1.self_attn.o_proj.bias", "model.layers.0.self_attn.q_proj.base_layer.bias",
                             "model.layers.0.self_attn.k_proj.bias", "model.layers.0.mlp.up_proj.base_layer.bias"})
      EXPECT_TRUE(has(name)) << name;
    ASSERT_EQ(set.beside.size(), 2u);
    EXPECT_EQ(unties(model, set), tied);
    check_gradients(model, set);
  }
}

void fill_with_noise(const AdapterSet& set) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.2f);
  for (const Parameter& p : set.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = normal(random);
}

TEST(Attach, GradientsOfBiasesOfB) {
  const Model model = make_model("llama", false);
  for (const bool dropout : {false, true}) {
    LoraConfig config;
    config.r = 3;
    config.lora_bias = true;
    config.lora_dropout = dropout ? 0.3 : 0;
    // The logits that are probed are those of a head without dropout.
    set_targets(config, dropout ? "q_proj,v_proj,down_proj" : "q_proj,v_proj,down_proj,lm_head");
    AdapterSet set = attach_adapter(model, config, true);
    fill_with_noise(set);
    EXPECT_EQ(set.parameters().size(), dropout ? 3u * 6 : 3u * 7);
    check_gradients(model, set);
  }
}

TEST(Attach, GradientsOfRowsOfTokens) {
  for (const bool tied : {false, true})
    for (const bool own_head : {false, true}) {
      const Model model = make_model("llama", tied);
      LoraConfig config;
      config.r = 2;
      set_targets(config, "q_proj");
      config.trainable_tokens = {{"", {10, 0, 30}}};
      if (own_head) config.trainable_tokens = {{"embed_tokens", {10, 0}}, {"lm_head", {7, 10}}};
      AdapterSet set = attach_adapter(model, config, true);
      ASSERT_EQ(set.token_rows.size(), own_head ? 2u : 1u);
      EXPECT_EQ(unties(model, set), tied && own_head);
      EXPECT_EQ(set.parameters().size(), 4u + set.token_rows.size());  // the tables themselves are none
      fill_with_noise(set);
      if (!tied && !own_head) {  // a token that is not in the batch learns nothing
        Probe probe(model);
        probe.loss(set, true);
        const Tensor gradient = set.token_rows[0].rows.gradient.row_range(2, 1);
        EXPECT_TRUE(std::all_of(gradient.f32(), gradient.f32() + kHidden, [](float g) { return g == 0; }));
        std::fill_n(set.token_rows[0].rows.gradient.f32(), set.token_rows[0].rows.gradient.numel(), 0.0f);
        for (const Parameter& p : set.parameters()) std::fill_n(p.gradient.f32(), p.gradient.numel(), 0.0f);
      }
      check_gradients(model, set);
    }
}

TEST(Attach, RefusesRowsOfTokensThatAreNotThere) {
  const Model model = make_model("llama", false);
  LoraConfig config;
  set_targets(config, "q_proj");
  for (const std::vector<int64_t>& ids : {std::vector<int64_t>{kVocab}, {-1}, {3, 4, 3}}) {
    config.trainable_tokens = {{"", ids}};
    EXPECT_THROW(attach_adapter(model, config, true), Error);
  }
  config.trainable_tokens = {{"norm", {1}}};
  EXPECT_THROW(attach_adapter(model, config, true), Error);
  config.trainable_tokens = {{"", {1}}};
  config.modules_to_save = {"embed_tokens"};
  EXPECT_THROW(attach_adapter(model, config, true), Error);
}

// aLoRA: gradients, and rows before the last invocation with the bits of the base; a sequence without one is the base's.
TEST(Attach, AnAdapterIsOnFromItsInvocationOn) {
  const Model model = make_model("llama", false);
  for (const double dropout : {0.0, 0.3}) {
    LoraConfig config;
    config.r = 3;
    config.lora_alpha = 6;
    config.lora_dropout = dropout;
    set_targets(config, "all");
    AdapterSet none = attach_adapter(model, config, true);
    config.alora_invocation_tokens = {0, 5};  // the first sequence has it at 0 and at 11, the second nowhere
    AdapterSet set = attach_adapter(model, config, true);
    fill_with_noise(set);
    Probe probe(model);
    probe.loss(none, false);  // B is zero: the base
    const std::vector<float> base = probe.logits;
    probe.loss(set, false);
    for (int64_t row = 0; row < kRows; ++row) {
      double apart = 0;
      for (int64_t i = row * kVocab; i < (row + 1) * kVocab; ++i)
        apart = std::max(apart, static_cast<double>(std::abs(probe.logits[static_cast<size_t>(i)] - base[static_cast<size_t>(i)])));
      if (row < 11 || row >= 14) EXPECT_LT(apart, 1e-5) << row;
      else EXPECT_GT(apart, 1e-3) << row;
    }
    check_gradients(model, set);
  }
  EXPECT_THROW(
      {
        Model merged = make_model("llama", false);
        LoraConfig config;
        set_targets(config, "all");
        config.alora_invocation_tokens = {1};
        merge_into_base(merged, attach_adapter(merged, config, false));
      },
      Error);
}

TEST(Attach, BiasOfAdaptedLayersOnly) {
  const Model model = make_model("llama", false);
  LoraConfig config;
  set_targets(config, "q_proj");
  config.bias = "lora_only";
  AdapterSet set = attach_adapter(model, config, true);
  EXPECT_EQ(set.parameters().size(), 6u);  // A, B and one bias per layer
}

TEST(Attach, RecomputingGivesTheSameBits) {
  const Model model = make_model("qwen3", false);
  std::vector<std::vector<float>> found;
  for (Recompute recompute : {Recompute::none, Recompute::block}) {
    AdapterSet set;
    attach_dense(set, model, all_names(), true, true);
    Probe probe(model);
    probe.loss(set, true, recompute);
    found.emplace_back();
    for (const Parameter& p : set.parameters())
      for (float g : values(p.gradient)) found.back().push_back(g);
  }
  EXPECT_EQ(found[0], found[1]);
}

TEST(Attach, RowsOfSeveralSetsAndOfTheBaseInOneBatch) {
  const Model model = make_model("qwen3", false);
  AdapterSet a, b;
  attach_dense(a, model, all_names(), false, true);
  attach_dense(
      b, model, [](const std::string& name) { return name.find("norm") != std::string::npos || name.ends_with("q_proj.bias") ? name : ""; },
      false, true);
  for (const AdapterSet* set : {&a, &b})
    for (const Parameter& p : set->parameters())
      for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] *= set == &a ? 1.25f : 0.75f;
  Probe probe(model);
  const auto hidden = [&](std::vector<AdapterRows> rows) {
    const std::vector<const AdapterSet*> sets = {&a, &b};
    probe.batch.adapter_rows = std::move(rows);
    Arena dry;
    plan_activations(model, kRows, false, sets, dry);
    Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, false, sets));
    Activations activations = plan_activations(model, kRows, false, sets, memory);
    Pass pass{&activations, nullptr, sets, &scratch, false};
    Context ctx;
    decoder_forward(ctx, model, probe.batch, pass);
    return values(activations.hidden);
  };
  probe.batch.sequences = {{0, 8, 0, 8}, {8, 6, 8, 6}, {14, kRows - 14, 14, kRows - 14}};
  const auto part = [](const std::vector<float>& all, int64_t first, int64_t count) {
    return std::vector<float>(all.begin() + first * kHidden, all.begin() + (first + count) * kHidden);
  };
  const auto mixed = hidden({{0, 8, 0}, {14, kRows - 14, 1}}), with_a = hidden({{0, kRows, 0}}), with_b = hidden({{0, kRows, 1}}),
             base = hidden({});
  const auto near = [](const std::vector<float>& x, const std::vector<float>& y) {
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(x[i] - y[i])));
    return worst;
  };
  EXPECT_LT(near(part(mixed, 0, 8), part(with_a, 0, 8)), 1e-5);
  EXPECT_LT(near(part(mixed, 8, 6), part(base, 8, 6)), 1e-5);
  EXPECT_LT(near(part(mixed, 14, kRows - 14), part(with_b, 14, kRows - 14)), 1e-5);
  EXPECT_GT(near(with_a, base), 1e-2);
  EXPECT_GT(near(with_b, base), 1e-2);
}

TEST(Attach, RefusesUnknownModules) {
  const Model model = make_model("llama", false);
  LoraConfig config;
  set_targets(config, "q_proj");
  config.modules_to_save = {"embeddings"};
  EXPECT_THROW(attach_adapter(model, config, true), Error);
}

// Trained biases take the site's weights along as views: those of the base as the start left it.
TEST(Attach, TrainedBiasesLieOverAChangedBase) {
  for (const char* init : {"pissa", "olora", "loftq"}) {
    double losses[2];
    for (const std::string bias : {"none", "all"}) {
      Model model = make_model("llama", false);
      LoraConfig config;
      config.r = 4;
      config.lora_alpha = 4;
      set_targets(config, "all");
      config.init_lora_weights = init;
      config.bias = bias;
      AdapterSet set = attach_adapter(model, config, true);
      start_adapter(set, model, config, 3);
      losses[bias == "all"] = Probe(model).loss(set, false);
    }
    EXPECT_NEAR(losses[0], losses[1], 1e-4) << init;
  }
}

// Codes are made of the weights in the files, not of what quantising them before has left.
TEST(Attach, LoftqOverCodesIsLoftqInFull) {
  for (const int64_t bits : {4, 8}) {
    LoraConfig config;
    config.r = 4;
    config.lora_alpha = 4;
    config.init_lora_weights = "loftq";
    config.loftq_bits = bits;
    config.loftq_iter = 2;
    set_targets(config, "all");
    Model full = make_model("llama", false), codes = make_model("llama", false, Quantisation{bits == 4 ? Dtype::NF4 : Dtype::INT8, true});
    AdapterSet one = attach_adapter(full, config, true), other = attach_adapter(codes, config, true);
    start_adapter(one, full, config, 3);
    start_adapter(other, codes, config, 3);
    const std::vector<Parameter> in_full = one.parameters(), in_codes = other.parameters();
    ASSERT_EQ(in_full.size(), in_codes.size());
    for (size_t i = 0; i < in_full.size(); ++i)
      EXPECT_TRUE(std::equal(in_full[i].value.f32(), in_full[i].value.f32() + in_full[i].value.numel(), in_codes[i].value.f32()))
          << in_full[i].name;
    EXPECT_NEAR(Probe(full).loss(one, false), Probe(codes).loss(other, false), 1e-4);
    EXPECT_LT(codes.weight_bytes(), full.weight_bytes());
  }
}

}  // namespace
}  // namespace loraine::attach_test
