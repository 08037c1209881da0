// The decoder on the GPU against the CPU's: losses, gradients of the adapter, updates; the same bits in every order of threads, blocks,
// copies and streams; what is refused by name.
#include <cmath>
#include <random>

#include "loraine/core/error.h"
#include "loraine/model/attach.h"
#include "loraine/model/gpu/gpu_answers.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/train/gpu/gpu_losses.h"
#include "loraine/train/gpu/gpu_training.h"
#include "loraine/train/loss.h"
#include "loraine/train/optimizers/recipe.h"
#include "tests/support/any_model.h"
#include "tests/support/gpu_check.h"

namespace loraine::gpu_decoder_test {
namespace {

constexpr int64_t kTokens = 61;

nlohmann::json small(const char* type, const nlohmann::json& own = {}) {
  nlohmann::json config = {{"model_type", type},      {"vocab_size", kTokens},    {"hidden_size", 24},
                           {"intermediate_size", 40}, {"num_hidden_layers", 2},   {"num_attention_heads", 4},
                           {"head_dim", 8},           {"num_key_value_heads", 2}, {"max_position_embeddings", 64}};
  if (!own.is_null()) config.update(own);
  return config;
}

Batch batch_of_lengths(const std::vector<int64_t>& lengths, int32_t salt) {
  Batch batch;
  for (const int64_t length : lengths) {
    const int64_t start = batch.rows();
    batch.sequences.push_back({start, length, start, length});
    for (int64_t t = 0; t < length; ++t) {
      batch.tokens.push_back(static_cast<int32_t>((t * 7 + salt * 13 + start) % kTokens));
      batch.positions.push_back(static_cast<int32_t>(t));
      batch.labels.push_back(t % 3 == 1 ? kIgnoreLabel : static_cast<int32_t>((t * 5 + salt) % kTokens));
    }
  }
  batch.adapter_rows = {{0, batch.rows(), 0}};
  return batch;
}

AdapterSet random_adapter(const Model& model, double dropout, bool dora = false) {
  LoraConfig config;
  config.r = 3, config.lora_alpha = 6, config.lora_dropout = dropout;
  config.target_modules = {kAllLinear};
  config.use_dora = dora;
  name_targets(config, model);
  AdapterSet set = attach_adapter(model, config, true);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 0.1f);
  for (const Parameter& p : set.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = normal(random) + (p.name.ends_with("vector") ? 1.0f : 0.0f);
  Context ctx;
  set.refresh(ctx);
  return set;
}

std::vector<float> gradients_of(const AdapterSet& set) {
  std::vector<float> all;
  for (const Parameter& p : set.parameters()) all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
  return all;
}
std::vector<float> values_of(const AdapterSet& set) {
  std::vector<float> all;
  for (const Parameter& p : set.parameters()) all.insert(all.end(), p.value.f32(), p.value.f32() + p.value.numel());
  return all;
}

struct Result {  // of two micro-batches
  std::vector<double> losses;
  std::vector<float> gradients;
};

const float kScale = 0.1f;

Result on_cpu(const Model& model, AdapterSet& set, const std::vector<Batch>& batches, const TokenLoss& token) {
  Result result;
  for (const Parameter& p : set.parameters()) std::fill_n(p.gradient.f32(), p.gradient.numel(), 0.0f);
  Context ctx;
  for (const Batch& batch : batches) {
    ++ctx.step;
    const int64_t T = batch.rows();
    Arena dry;
    plan_activations(model, T, true, {&set}, dry);
    Arena memory(dry.peak()), scratch(std::max(scratch_bytes(model, T, true, {&set}), loss_scratch_bytes(model, T, &set)) + (1u << 20));
    Activations all = plan_activations(model, T, true, {&set}, memory);
    Pass pass{&all, nullptr, {&set}, &scratch, true};
    decoder_forward(ctx, model, batch, pass);
    std::vector<float> d(static_cast<size_t>(T * model.config.hidden_size));
    const Tensor d_hidden(d.data(), Dtype::F32, {T, model.config.hidden_size});
    LossOptions options{&set, true, token};
    const LossSums sums = loss_and_head_gradient(ctx, model, batch, all.hidden.row_range(0, T), d_hidden, kScale, options, scratch);
    result.losses.insert(result.losses.end(), sums.tokens.begin(), sums.tokens.end());
    decoder_backward(ctx, model, batch, pass, set, d_hidden);
  }
  result.gradients = gradients_of(set);
  return result;
}

// In all orders, whose bits are the same.
Result on_gpu(const Model& model, AdapterSet& set, const std::vector<Batch>& batches, const TokenLoss& token,
              Recompute recompute = Recompute::none, bool joined = true) {
  std::vector<double> losses;
  const std::vector<float> gradients = in_all_orders([&](GpuStream& stream) {
    losses.clear();
    const std::vector<Parameter> parameters = set.parameters();
    const auto host = [&](Tensor Parameter::*which) {
      return [&parameters, which](const std::string& name) { return (*std::ranges::find(parameters, name, &Parameter::name)).*which; };
    };
    const GpuModel base(model, stream, joined ? &set : nullptr);
    GpuAdapter adapter(set, stream);
    adapter.put(GpuAdapter::kValues, host(&Parameter::value));
    base.join(stream, adapter);
    GpuDecoder decoder(base, adapter, 40, stream, recompute);
    Context ctx;
    for (const Batch& batch : batches) {
      ++ctx.step;
      decoder.forward(ctx, batch, true);
      const GpuLosses one = decoder.losses(token, kScale, false);
      losses.insert(losses.end(), one.losses.begin(), one.losses.end());
      decoder.backward();
    }
    adapter.fetch(GpuAdapter::kGradients, host(&Parameter::gradient));
    return gradients_of(set);
  });
  return {losses, gradients};
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, worst = 0;
  for (const float value : b) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return worst / largest;
}

void compare(const nlohmann::json& config, const LoadOptions& options, double dropout = 0, const TokenLoss& token = {}, bool dora = false) {
  const bool bf16 = options.bf16;
  SCOPED_TRACE(config.dump() + (bf16 ? " bf16" : ""));
  const Model model = any_model(config, options);
  ASSERT_EQ(gpu_lacks(model.config), "");
  AdapterSet set = random_adapter(model, dropout, dora);
  const std::vector<Batch> batches = {batch_of_lengths({11, 1, 7}, 1), batch_of_lengths({5, 16}, 2)};
  const Result cpu = on_cpu(model, set, batches, token), gpu = on_gpu(model, set, batches, token);
  ASSERT_EQ(cpu.losses.size(), gpu.losses.size());
  for (size_t i = 0; i < cpu.losses.size(); ++i) EXPECT_NEAR(gpu.losses[i], cpu.losses[i], bf16 ? (dora ? 0.1 : 0.05) : 1e-4);
  EXPECT_LT(apart(gpu.gradients, cpu.gradients), bf16 ? 0.05 : 1e-5);
  testing::Test::RecordProperty(config["model_type"].get<std::string>() + (bf16 ? "_bf16" : ""),
                                std::to_string(1e9 * apart(gpu.gradients, cpu.gradients)));  // billionths
}

TEST(GpuDecoder, FamiliesEqualTheCpu) {
  compare(small("llama", {{"attention_bias", true}, {"mlp_bias", true}}), {false});
  compare(small("llama", {{"tie_word_embeddings", true}, {"hidden_act", "gelu_pytorch_tanh"}}), {false});
  compare(small("mistral", {{"sliding_window", 5}}), {false});
  compare(small("qwen2"), {false});
  compare(small("qwen3"), {false});
  compare(small("phi3", {{"pad_token_id", 0}}), {false});
}

TEST(GpuDecoder, FamiliesWithOtherNormsScalesAndCaps) {
  const nlohmann::json gemma2 = {
      {"attn_logit_softcapping", 5.0}, {"final_logit_softcapping", 3.0}, {"sliding_window", 6}, {"query_pre_attn_scalar", 12}};
  compare(small("gemma2", gemma2), {false});
  compare(small("gemma2", gemma2), {true});
  compare(small("granite",
                {{"embedding_multiplier", 3.0}, {"residual_multiplier", 0.7}, {"attention_multiplier", 0.2}, {"logits_scaling", 2.0}}),
          {false});
  compare(small("olmo2"), {false});
  compare(small("cohere", {{"logit_scale", 0.3}}), {false});  // LayerNorm, attention and MLP side by side
  compare(small("cohere", {{"logit_scale", 0.3}}), {true});
  compare(small("phi", {{"num_key_value_heads", 4}}), {false});  // the same with biases, of the head too
  compare(small("starcoder2", {{"sliding_window", 7}}), {false});
}

TEST(GpuDecoder, Bf16) {
  compare(small("llama"), {true});
  compare(small("qwen3", {{"head_dim", 64}, {"hidden_size", 64}}), {true});  // attention on the matrix units
}

// Codes in device memory, unpacked for each product: with the bits that the CPU multiplies.
TEST(GpuDecoder, PackedBases) {
  const nlohmann::json config = small("qwen3");
  for (const Quantisation how : {Quantisation{Dtype::NF4, true}, {Dtype::FP4, false}, {Dtype::INT8}}) {
    compare(config, {false, how});
    compare(config, {true, how});
  }
  const Model full = any_model(config), packed = any_model(config, {false, Quantisation{Dtype::NF4}});
  EXPECT_LT(GpuModel::shapes(packed).bytes(), GpuModel::shapes(full).bytes());
}

// A site with a part that stays as it is, and parts that are rows of one tensor of codes.
TEST(GpuDecoder, PartsOfPackedSites) {
  Model model = any_model(small("llama", {{"attention_bias", true}}), {false, Quantisation{Dtype::NF4}});
  const Model full = any_model(small("llama", {{"attention_bias", true}}));
  Parts parts = model.layers[0]->branches[0].mixer->parts(), whole = full.layers[0]->branches[0].mixer->parts();
  const WeightPart& plain = whole.sites.at(0)->weight.parts.at(1);
  parts.sites.at(0)->weight.parts.at(1).weight = plain.weight;
  WeightPart& q = parts.sites.at(0)->weight.parts.at(0);
  std::vector<float> values(60 * 24);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i));
  const QuantisedWeight joined = quantise(Tensor(values.data(), Dtype::F32, {60, 24}), {Dtype::NF4, true}, Dtype::F32);
  q.weight = joined.weight.row_range(20, q.weight.rows());  // which begins within a block
  AdapterSet set = random_adapter(model, 0);
  const std::vector<Batch> batches = {batch_of_lengths({11, 1, 7}, 1)};
  const Result cpu = on_cpu(model, set, batches, {}), gpu = on_gpu(model, set, batches, {});
  EXPECT_LT(apart(gpu.gradients, cpu.gradients), 1e-5);
}

TEST(GpuDecoder, DropoutAndOtherLosses) {
  compare(small("qwen2"), {false}, 0.3);
  compare(small("llama"), {false}, 0, {.smoothing = 0.1f});
  compare(small("llama"), {false}, 0, {.weight = TokenWeight::probability});
}

TEST(GpuDecoder, Dora) {
  const nlohmann::json config = small("llama", {{"attention_bias", true}, {"mlp_bias", true}});
  for (const double dropout : {0.0, 0.3}) {
    compare(config, {}, dropout, {}, true);
    compare(config, {true}, dropout, {}, true);
  }
  compare(small("qwen3"), {false, Quantisation{Dtype::NF4}}, 0, {}, true);
  const Model model = any_model(config);
  AdapterSet set = random_adapter(model, 0.3, true);
  const std::vector<Batch> batches = {batch_of_lengths({11, 1, 7}, 1)};
  const Result kept = on_gpu(model, set, batches, {});
  for (const Recompute level : {Recompute::mlp, Recompute::block})
    EXPECT_EQ(on_gpu(model, set, batches, {}, level).gradients, kept.gradients);
}

TEST(GpuDecoder, AnAdapterBesideTheBaseIsTheSameAsOneProduct) {
  for (const double dropout : {0.0, 0.3}) {
    const Model model = any_model(small("qwen3"));
    AdapterSet set = random_adapter(model, dropout);
    const std::vector<Batch> batches = {batch_of_lengths({11, 1, 7}, 1)};
    const Result one = on_gpu(model, set, batches, {}), two = on_gpu(model, set, batches, {}, Recompute::none, false);
    EXPECT_LT(apart(one.gradients, two.gradients), 1e-5);
    ASSERT_EQ(one.losses.size(), two.losses.size());
    for (size_t i = 0; i < one.losses.size(); ++i) EXPECT_NEAR(one.losses[i], two.losses[i], 1e-4);
  }
}

TEST(GpuDecoder, WhatIsComputedOnceMoreHasTheSameBits) {
  for (const bool bf16 : {false, true}) {
    const Model model = any_model(small("qwen3"), {bf16});
    AdapterSet set = random_adapter(model, 0.3);
    const std::vector<Batch> batches = {batch_of_lengths({11, 1, 7}, 1)};
    const Result kept = on_gpu(model, set, batches, {});
    size_t before = GpuDecoder::bytes(model, set, 40);
    for (const Recompute level : {Recompute::mlp, Recompute::block}) {
      EXPECT_EQ(on_gpu(model, set, batches, {}, level).gradients, kept.gradients);
      const size_t less = GpuDecoder::bytes(model, set, 40, level);
      EXPECT_LT(less, before);
      before = less;
    }
  }
}

void compare_updates(const LoadOptions& options, bool dora, std::optional<double> of_b) {
  SCOPED_TRACE(dora ? "DoRA" : "LoRA");
  const Model model = any_model(small("qwen3"), options);
  TrainConfig config;
  config.weight_decay = 0.1, config.max_grad_norm = 0.05, config.loraplus_lr_ratio = of_b;
  const std::vector<Batch> batches = {batch_of_lengths({11, 7}, 3), batch_of_lengths({4, 9}, 5)};
  const auto run = [&](bool gpu) {
    AdapterSet set = random_adapter(model, 0, dora);
    std::vector<Parameter> parameters = set.parameters();
    Recipe recipe = recipe_of(config, model.config, parameters, 0);
    Optimizer optimizer(std::move(parameters), std::move(recipe));
    if (!gpu) {
      Context ctx;
      for (int step = 0; step < 3; ++step) {
        on_cpu(model, set, batches, {});
        optimizer.step(ctx, 1e-2, optimizer.gradient_norm(ctx), config.max_grad_norm);
        set.refresh(ctx);
      }
      return values_of(set);
    }
    Context ctx;
    ctx.step = 1;
    GpuTraining training(config, model, set, optimizer, {40});
    training.put();
    for (int step = 0; step < 3; ++step) {
      training.zero_gradients();
      for (const Batch& batch : batches) {
        training.forward(ctx, batch, true);
        training.losses_later({}, kScale, 2);
        training.backward();
      }
      const GpuTraining::Updated updated = training.update(1e-2, step + 1);
      EXPECT_TRUE(std::isfinite(updated.norm) && updated.values_finite);
      EXPECT_GT(updated.loss, 1);
    }
    training.fetch();
    std::vector<float> all = values_of(set);
    for (const OptimizerState& state : optimizer.states())
      all.insert(all.end(), state.values.f32(), state.values.f32() + state.values.numel());
    return all;
  };
  const std::vector<float> cpu = run(false);
  std::vector<float> gpu = in_all_orders([&](GpuStream&) { return run(true); });
  gpu.resize(cpu.size());
  EXPECT_LT(apart(gpu, cpu), 1e-5);
}

TEST(GpuDecoder, UpdatesEqualTheCpu) {
  compare_updates({false}, false, {});
  compare_updates({false}, true, 4.0);
  compare_updates({false, Quantisation{Dtype::NF4}}, false, 4.0);
}

TEST(GpuDecoder, PlannedMemoryIsWhatIsTaken) {
  if (!open_gpu().emulated) GTEST_SKIP() << "a card's own memory is not counted to the byte";
  const Model model = any_model(small("qwen3")), packed = any_model(small("qwen3"), {false, Quantisation{Dtype::NF4}});
  constexpr size_t kProductRoom = size_t{32} << 20;  // of the library: on a card, and planned here too
  for (const Model* of : {&model, &packed})
    for (const bool dora : {false, true})
      for (const Recompute level : {Recompute::none, Recompute::mlp, Recompute::block}) {
        SCOPED_TRACE(std::string(of == &packed ? "packed " : "") + (dora ? "DoRA" : "LoRA"));
        const AdapterSet set = random_adapter(*of, 0.1, dora);
        TrainConfig config;
        std::vector<Parameter> parameters = set.parameters();
        Recipe recipe = recipe_of(config, of->config, parameters, 0);
        Optimizer optimizer(std::move(parameters), std::move(recipe));
        for (const int64_t side_rows : {0, 24}) {
          const GpuTraining::Bytes planned = GpuTraining::bytes(*of, set, {40, level, side_rows});
          const size_t before = free_gpu_bytes();
          const GpuTraining training(config, *of, set, optimizer, {40, level, side_rows});
          EXPECT_EQ(before - free_gpu_bytes() + kProductRoom * (side_rows > 0 ? 2 : 1), planned.all());
        }
      }
  GpuBase base(model);
  const size_t before = free_gpu_bytes();
  const GpuAnswers answers(base, 40, 6, 8, 3, 8);
  EXPECT_EQ(before - free_gpu_bytes(), GpuAnswers::bytes(base, 40, 6, 8, 3, 8));
}

TEST(GpuDecoder, WhatHasNoCodeIsNamed) {
  const auto lacks = [](const nlohmann::json& config) { return gpu_lacks(model_config(config, "config.json")); };
  EXPECT_EQ(lacks(small("gpt2", {{"n_embd", 24}, {"n_head", 4}, {"n_layer", 2}, {"n_positions", 64}})),
            "layers other than attention and dense MLPs (experts, recurrent and latent ones)");
  EXPECT_EQ(lacks(small("gpt_neox", {{"num_key_value_heads", 4}})), "q, k and v of one matrix by heads");
  EXPECT_EQ(lacks(small("qwen3_moe", {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}})),
            "layers other than attention and dense MLPs (experts, recurrent and latent ones)");
  EXPECT_EQ(lacks(small("olmo", {{"clip_qkv", 0.5}})), "clipped q, k and v");
  EXPECT_EQ(lacks(small("llama", {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}})),
            "rotations that depend on the length of a sequence");
}

TEST(GpuDecoder, SharedRowsAreRefused) {
  const Model model = any_model(small("llama"));
  const AdapterSet set = random_adapter(model, 0);
  GpuStream stream;
  const GpuModel base(model, stream);
  const GpuAdapter adapter(set, stream);
  GpuDecoder decoder(base, adapter, 40, stream);
  Batch batch = batch_of_lengths({6, 4}, 1);
  batch.sequences[1].parent = 0, batch.sequences[1].kv_length = 6;
  EXPECT_THROW(decoder.forward({}, batch, true), Error);
}

}  // namespace
}  // namespace loraine::gpu_decoder_test
