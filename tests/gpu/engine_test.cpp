// The engine on the GPU against the CPU's: tokens of several requests at once with their own adapters or none, beams, shared beginnings,
// pages that are given back; the same tokens in every order.
#include "loraine/generate/engine.h"

#include <random>

#include "loraine/core/error.h"
#include "loraine/model/attach.h"
#include "loraine/model/gpu/gpu_base.h"
#include "tests/support/any_model.h"
#include "tests/support/gpu_check.h"

namespace loraine::gpu_engine_test {
namespace {

constexpr int64_t kTokens = 61;

nlohmann::json small(const char* type, const nlohmann::json& own = {}) {
  nlohmann::json config = {{"model_type", type},      {"vocab_size", kTokens},    {"hidden_size", 24},
                           {"intermediate_size", 40}, {"num_hidden_layers", 2},   {"num_attention_heads", 4},
                           {"head_dim", 8},           {"num_key_value_heads", 2}, {"max_position_embeddings", 256}};
  if (!own.is_null()) config.update(own);
  return config;
}

AdapterSet random_adapter(const Model& model, int64_t r, unsigned seed, bool dora = false) {
  LoraConfig config;
  config.r = r, config.lora_alpha = 2 * static_cast<double>(r);
  config.target_modules = {kAllLinear};
  config.use_dora = dora;
  name_targets(config, model);
  AdapterSet set = attach_adapter(model, config, false);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.3f);
  for (const Parameter& p : set.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = normal(random) + (p.name.ends_with("vector") ? 1.0f : 0.0f);
  Context ctx;
  set.refresh(ctx);
  return set;
}

std::vector<int32_t> prompt_of(int64_t length, int32_t salt) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>((i * 7 + salt * 13 + i * i * salt) % kTokens));
  return ids;
}

GenerateOptions options_of(int64_t count, bool sampled = false, int64_t beams = 1) {
  GenerateOptions o;
  o.max_new_tokens = count;
  o.do_sample = sampled;
  o.temperature = 1.5;
  o.top_p = 0.9;
  o.repetition_penalty = 1.2;
  o.seed = static_cast<uint64_t>(count);
  o.num_beams = beams;
  return o;
}

struct Job {
  std::vector<int32_t> prompt;
  const AdapterSet* adapter = nullptr;
  GenerateOptions options;
  std::optional<std::string> prefix_key = {};
};

struct Run {
  std::vector<int32_t> ids;  // of all jobs, each ended by −1
  EngineLoad load;
};

Run run(const Model& model, const std::vector<Job>& jobs, int64_t capacity, int64_t sequences, GpuBase* gpu) {
  int64_t columns = 8;
  for (const Job& job : jobs)
    if (job.adapter) columns = std::max(columns, rank_columns(*job.adapter));
  Engine engine(model, capacity, columns, sequences, gpu);
  Context ctx;
  std::vector<int64_t> numbers;
  for (const Job& job : jobs) {
    Request request{job.prompt, job.adapter, job.options, {}};
    request.prefix_key = job.prefix_key;
    numbers.push_back(engine.submit(std::move(request)));
  }
  while (engine.step(ctx)) {}
  Run out;
  out.load = engine.load();
  for (const int64_t number : numbers) {
    for (const int32_t id : engine.take(number)) out.ids.push_back(id);
    out.ids.push_back(-1);
  }
  return out;
}

Run same_as_the_cpu(const Model& model, const std::vector<Job>& jobs, int64_t capacity, int64_t sequences) {
  const Run cpu = run(model, jobs, capacity, sequences, nullptr);
  EngineLoad load;
  const std::vector<int32_t> gpu = in_all_orders([&](GpuStream&) {
    GpuBase base(model);
    const Run one = run(model, jobs, capacity, sequences, &base);
    load = one.load;
    return one.ids;
  });
  EXPECT_EQ(gpu, cpu.ids) << model.config.model_type;
  EXPECT_EQ(load.reused, cpu.load.reused);
  return {gpu, load};
}

TEST(GpuEngine, TokensAreThoseOfTheCpu) {
  for (const auto& config :
       {small("llama", {{"tie_word_embeddings", true}}), small("mistral", {{"sliding_window", 5}}), small("qwen3"), small("cohere")}) {
    const Model model = any_model(config);
    const AdapterSet narrow = random_adapter(model, 1, 1), wide = random_adapter(model, 2, 2);
    const std::vector<Job> jobs = {{prompt_of(5, 1), nullptr, options_of(6)},
                                   {prompt_of(70, 2), &narrow, options_of(4)},
                                   {prompt_of(9, 3), &wide, options_of(5, true)}};
    same_as_the_cpu(model, jobs, 128, 3);
  }
}

TEST(GpuEngine, Bf16) {
  const Model model = any_model(small("llama"), {true});
  const AdapterSet set = random_adapter(model, 2, 3);
  same_as_the_cpu(model, {{prompt_of(12, 1), &set, options_of(4)}}, 64, 1);
}

TEST(GpuEngine, PackedBases) {
  for (const Quantisation how : {Quantisation{Dtype::NF4, true}, {Dtype::INT8}}) {
    const Model model = any_model(small("qwen3"), {false, how});
    const AdapterSet set = random_adapter(model, 2, 3);
    same_as_the_cpu(model, {{prompt_of(12, 1), &set, options_of(4)}, {prompt_of(5, 2), nullptr, options_of(4)}}, 64, 2);
  }
}

TEST(GpuEngine, DoraBesideLora) {
  const Model model = any_model(small("llama", {{"attention_bias", true}}));
  const AdapterSet dora = random_adapter(model, 2, 1, true), lora = random_adapter(model, 2, 2);
  same_as_the_cpu(
      model, {{prompt_of(12, 1), &dora, options_of(4)}, {prompt_of(5, 2), &lora, options_of(4)}, {prompt_of(7, 3), nullptr, options_of(4)}},
      64, 3);
}

TEST(GpuEngine, Beams) {
  const Model model = any_model(small("qwen2"));
  same_as_the_cpu(model, {{prompt_of(9, 4), nullptr, options_of(5, false, 3)}}, 3 * 64, 1);
}

TEST(GpuEngine, BeginningsThatAreFoundInTheCache) {
  const Model model = any_model(small("llama"));
  std::vector<int32_t> longer = prompt_of(66, 5);
  std::vector<Job> jobs = {{longer, nullptr, options_of(2), "base"}};
  longer.push_back(7);
  jobs.push_back({longer, nullptr, options_of(3), "base"});
  EXPECT_GT(same_as_the_cpu(model, jobs, 256, 1).load.reused, 0);
}

TEST(GpuEngine, PagesThatAreGivenBack) {
  const Model model = any_model(small("llama"));
  const std::vector<Job> jobs = {{prompt_of(60, 6), nullptr, options_of(8)}, {prompt_of(61, 7), nullptr, options_of(8)}};
  EXPECT_GT(same_as_the_cpu(model, jobs, 128, 2).load.preempted, 0);
}

TEST(GpuEngine, WhatDoesNotFitIsRefused) {
  if (!open_gpu().emulated) GTEST_SKIP() << "a card's memory is what it is";
  const Model model = any_model(small("llama"));
  GpuBase base(model);
  setenv("LORAINE_GPU_BYTES", "100000", 1);
  EXPECT_THROW(Engine(model, 128, 4, 2, &base), Error);
  unsetenv("LORAINE_GPU_BYTES");
}

}  // namespace
}  // namespace loraine::gpu_engine_test
