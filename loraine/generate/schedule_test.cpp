// Whatever happens around a request (others come and go, pages run out, prompts are found in the cache or read for several at once, one is
// held or dropped), it gets the bits that it gets alone: random schedules, the logits of every token compared.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "loraine/generate/engine.h"
#include "loraine/model/attach.h"
#include "loraine/model/int8.h"
#include "tests/support/any_model.h"
#include "tests/support/formula_model.h"

namespace loraine::schedule_test {
namespace {

constexpr int32_t kWords = 61;

nlohmann::json small(const char* type, const nlohmann::json& own = nlohmann::json::object()) {
  nlohmann::json config = {{"model_type", type},      {"vocab_size", kWords},     {"hidden_size", 32},
                           {"intermediate_size", 40}, {"num_hidden_layers", 3},   {"num_attention_heads", 4},
                           {"head_dim", 8},           {"num_key_value_heads", 2}, {"max_position_embeddings", 512}};
  config.update(own);
  return config;
}

AdapterSet adapter_of(const Model& model, size_t seed) {
  LoraConfig lora;
  lora.r = 4;
  lora.lora_alpha = 8;
  set_targets(lora, "all");
  AdapterSet set = attach_adapter(model, lora, false);
  set.name = "adapter " + std::to_string(seed);
  for (const Parameter& p : set.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = noise(static_cast<size_t>(i) + seed, p.name.size() + 100 * seed);
  return set;
}

// The part's matrix in blocks of 32 whole numbers and a step of half precision (Q8_0).
void to_q8_0(WeightPart& part) {
  const Tensor w = part.weight;
  const int64_t blocks = w.numel() / 32;
  Buffer packed(static_cast<size_t>(bytes_of(Dtype::Q8_0, w.numel())));
  for (int64_t b = 0; b < blocks; ++b) {
    const float* in = w.f32() + 32 * b;
    char* out = static_cast<char*>(packed.data()) + 34 * b;
    const f16 step =
        f32_to_f16(std::fabs(*std::max_element(in, in + 32, [](float x, float y) { return std::fabs(x) < std::fabs(y); })) / 127);
    std::memcpy(out, &step, 2);
    for (int i = 0; i < 32; ++i) out[2 + i] = static_cast<char>(std::clamp(std::lround(in[i] / f16_to_f32(step)), -127l, 127l));
  }
  part.weight = Tensor(packed.data(), Dtype::Q8_0, {w.rows(), w.cols()});
  part.owned = std::move(packed);
}

struct Answer {
  std::vector<int32_t> ids;
  std::vector<float> logits;
};

// What may be asked of a model, and what it answers alone.
struct Asked {
  std::vector<Request> requests;
  std::vector<Answer> alone;
};

Asked questions(const Model& model, std::span<const AdapterSet> adapters, uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % static_cast<uint32_t>(n)); };
  std::vector<int32_t> common;
  for (int i = 0; i < 200; ++i) common.push_back(below(kWords));
  Asked asked;
  for (int32_t i = 0; i < 10; ++i) {
    Request request;
    const int32_t length = i == 0 ? 128 : i == 1 ? 64 : 1 + below(140), shared = below(2) ? std::min(length, below(200)) : 0;
    request.prompt.assign(common.begin(), common.begin() + shared);
    while (static_cast<int32_t>(request.prompt.size()) < length) request.prompt.push_back(below(kWords));
    if (const int32_t which = below(3); which < 2) request.adapter = &adapters[static_cast<size_t>(which)];
    if (below(4)) request.prefix_key = request.adapter ? request.adapter->name : "base";
    request.client = std::string(1, static_cast<char>('a' + below(3)));
    request.options.max_new_tokens = 1 + below(below(3) ? 10 : 110);
    request.options.do_sample = below(2);
    request.options.temperature = 1.5;
    request.options.top_p = 1;
    request.options.repetition_penalty = 1.2;
    request.options.seed = random();
    asked.requests.push_back(request);
  }
  Context ctx;
  for (Request request : asked.requests) {
    Answer& answer = asked.alone.emplace_back();
    Engine engine(model, 400, 64);
    request.on_logits = [&](std::span<const float> logits) { answer.logits.insert(answer.logits.end(), logits.begin(), logits.end()); };
    const int64_t number = engine.submit(request);
    while (engine.step(ctx)) {}
    answer.ids = engine.take(number);
  }
  return asked;
}

struct Seen {
  int64_t preempted = 0, reused = 0;
};

void run_schedule(const Model& model, const Asked& asked, uint32_t seed, Seen& seen) {
  std::mt19937 random(seed);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % static_cast<uint32_t>(n)); };
  Engine engine(model, 256, 64, 1 + below(6));
  Context ctx;
  struct Running {
    size_t question;
    int64_t number;
    Answer answer;
    bool held = false;
  };
  std::vector<std::unique_ptr<Running>> running;
  int32_t to_come = 3 + below(4);
  const auto check = [&](Running& one, bool whole) {
    one.answer.ids = engine.take(one.number);
    const Answer& want = asked.alone[one.question];
    if (whole) { EXPECT_EQ(one.answer.ids.size(), want.ids.size()) << "question " << one.question << ", schedule " << seed; }
    ASSERT_LE(one.answer.ids.size(), want.ids.size());
    EXPECT_TRUE(std::equal(one.answer.ids.begin(), one.answer.ids.end(), want.ids.begin()))
        << "question " << one.question << ", schedule " << seed;
    ASSERT_LE(one.answer.logits.size(), want.logits.size());
    EXPECT_TRUE(std::equal(one.answer.logits.begin(), one.answer.logits.end(), want.logits.begin()))
        << "question " << one.question << ", schedule " << seed;
  };
  for (int64_t steps = 0; to_come > 0 || !running.empty(); ++steps) {
    ASSERT_LT(steps, 5000) << "schedule " << seed << " does not end";
    while (to_come > 0 && (running.empty() || below(4) == 0)) {
      --to_come;
      const size_t question = static_cast<size_t>(below(static_cast<int32_t>(asked.requests.size())));
      for (int32_t copies = below(5) ? 1 : 3, leader = 0; copies > 0; --copies) {  // some ask for several answers at once
        auto one = std::make_unique<Running>(Running{question, 0, {}});
        Request request = asked.requests[question];
        request.same_prompt_as = leader;
        request.on_logits = [&answer = one->answer](std::span<const float> l) {
          answer.logits.insert(answer.logits.end(), l.begin(), l.end());
        };
        one->number = engine.submit(request);
        if (leader == 0) leader = static_cast<int32_t>(one->number);
        running.push_back(std::move(one));
      }
    }
    engine.step(ctx);
    for (auto& one : running) {
      if (one->held ? below(3) == 0 : below(40) == 0) engine.hold(one->number, one->held = !one->held);
      const bool done = engine.done(one->number), dropped = below(150) == 0;
      if (!done && !dropped) continue;
      check(*one, done);
      one = nullptr;
    }
    std::erase(running, nullptr);
  }
  const EngineLoad load = engine.load();
  EXPECT_EQ(load.rows, load.kept) << "pages that nobody has were not given back, schedule " << seed;
  EXPECT_EQ(load.running + load.waiting, 0);
  seen.preempted += load.preempted;
  seen.reused += load.reused;
}

Seen run_schedules(const Model& model, int count) {
  const AdapterSet adapters[] = {adapter_of(model, 1), adapter_of(model, 2)};
  Seen seen;
  Asked asked;
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    if (i % 20 == 0) asked = questions(model, adapters, static_cast<uint32_t>(i));
    run_schedule(model, asked, static_cast<uint32_t>(i), seen);
  }
  return seen;
}

TEST(Schedules, GiveEveryRequestTheBitsThatItGetsAlone) {
  const Seen seen = run_schedules(any_model(small("llama")), 80);
  EXPECT_GT(seen.preempted, 0);
  EXPECT_GT(seen.reused, 0);
}

TEST(Schedules, InBf16) { EXPECT_GT(run_schedules(any_model(small("qwen3"), {true}), 30).reused, 0); }

TEST(Schedules, WithWindows) {
  EXPECT_GT(run_schedules(any_model(small("mistral", {{"sliding_window", 37}, {"num_attention_heads", 10}})), 20).reused, 0);
}

TEST(Schedules, WithLatentAttention) {
  const nlohmann::json latent = {
      {"kv_lora_rank", 12}, {"qk_nope_head_dim", 8}, {"qk_rope_head_dim", 4}, {"v_head_dim", 6}, {"q_lora_rank", 20}};
  EXPECT_GT(run_schedules(any_model(small("youtu", latent)), 20).reused, 0);
}

// What the recurrent layers remember is not kept for other prompts.
TEST(Schedules, WithRecurrentLayers) {
  const nlohmann::json delta = {{"layer_types", {"linear_attention", "full_attention", "linear_attention"}},
                                {"linear_num_key_heads", 2},
                                {"linear_num_value_heads", 4},
                                {"linear_key_head_dim", 8},
                                {"linear_value_head_dim", 16}};
  const Seen seen = run_schedules(any_model(small("olmo_hybrid", delta)), 20);
  EXPECT_EQ(seen.reused, 0);
  const nlohmann::json mamba = {{"layer_types", {"mamba", "attention", "mamba"}},
                                {"mamba_n_heads", 8},
                                {"mamba_d_head", 8},
                                {"mamba_n_groups", 2},
                                {"mamba_d_state", 16}};
  run_schedules(any_model(small("bamba", mamba)), 10);
}

TEST(Schedules, WithExpertsAndWithIntegerProducts) {
  const nlohmann::json experts = {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}};
  EXPECT_EQ(run_schedules(any_model(small("qwen3_moe", experts)), 10).reused, 0);
  Model model = any_model(small("llama"));
  blocks_to_int8(model);
  EXPECT_EQ(run_schedules(model, 10).reused, 0);
}

// Layers in Q8_0 whose activations are rounded: no row feels another, so that prompts are shared.
TEST(Schedules, WithPackedIntegerProducts) {
  Model model = any_model(small("llama", {{"intermediate_size", 64}}));
  for (Weight* site : model.sites_to_change())
    for (WeightPart& part : site->parts) to_q8_0(part);
  EXPECT_GT(layers_to_integers(model), 0);
  EXPECT_GT(run_schedules(model, 20).reused, 0);
}

// Four answers of 210 rows in seven pages.
TEST(Schedules, WhoLosesItsPagesIsComputedOnceMore) {
  const Model model = any_model(small("llama"));
  const AdapterSet adapter = adapter_of(model, 1);
  Context ctx;
  std::vector<Request> requests(4);
  std::vector<std::vector<int32_t>> alone;
  for (size_t i = 0; i < requests.size(); ++i) {
    for (int32_t t = 0; t < 60; ++t) requests[i].prompt.push_back((t * 7 + static_cast<int32_t>(i) * 11) % kWords);
    requests[i].adapter = i % 2 ? &adapter : nullptr;
    requests[i].options.max_new_tokens = 150;
    requests[i].options.repetition_penalty = 1.3;
    Engine engine(model, 256, 64);
    alone.push_back(engine.generate(ctx, requests[i].prompt, requests[i].adapter, requests[i].options));
  }
  Engine engine(model, 256, 64, 4);
  std::vector<int64_t> numbers;
  for (const Request& request : requests) numbers.push_back(engine.submit(request));
  while (engine.step(ctx)) {}
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(engine.take(numbers[i]), alone[i]) << i;
  EXPECT_GT(engine.load().preempted, 0);
  EXPECT_EQ(engine.load().rows, 0);
}

}  // namespace
}  // namespace loraine::schedule_test
