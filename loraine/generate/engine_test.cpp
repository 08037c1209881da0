// Several sequences at once: each gets what it gets alone, bit for bit, whatever runs beside it; requests join, leave, wait and fail.
#include "loraine/generate/engine.h"

#include <gtest/gtest.h>

#include "loraine/adapters/attach.h"
#include "loraine/core/error.h"
#include "loraine/model/attach.h"
#include "loraine/model/int8.h"
#include "tests/support/formula_model.h"

namespace loraine::engine_test {
namespace {

AdapterSet make_adapter(const Model& model, int64_t rank, size_t seed, const char* targets = "all") {
  LoraConfig lora;
  lora.r = rank;
  lora.lora_alpha = 4 * static_cast<double>(rank);
  set_targets(lora, targets);
  AdapterSet set = attach_lora(model.sites(), lora, false);
  set.name = "adapter " + std::to_string(seed);
  for (const Parameter& p : set.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = noise(static_cast<size_t>(i) * 3 + seed, p.name.size() + 100 * seed);
  return set;
}

std::vector<int32_t> prompt_of(int64_t length, int32_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>((i * 7 + seed * 13 + i * i * seed) % kVocab));
  return ids;
}

struct Job {
  std::vector<int32_t> prompt;
  const AdapterSet* adapter;
  GenerateOptions options;
};

GenerateOptions tokens(int64_t count, bool sampled = false) {
  GenerateOptions o;
  o.max_new_tokens = count;
  o.do_sample = sampled;
  o.temperature = 1.5;
  o.top_p = 1;
  o.repetition_penalty = 1.3;  // greedy decoding of a random model would repeat itself
  o.seed = static_cast<uint64_t>(count);
  return o;
}

std::vector<Job> mixed_jobs(const std::vector<const AdapterSet*>& adapters) {
  std::vector<Job> jobs;
  for (int32_t i = 0; i < 9; ++i)
    jobs.push_back(
        {prompt_of(i == 4 ? 600 : 3 + 11 * i, i), adapters[static_cast<size_t>(i) % adapters.size()], tokens(20 + i, i % 3 == 2)});
  return jobs;
}

TEST(Engine, AnswersOfManyAreThoseOfEachAlone) {
  for (bool bf16 : {false, true}) {
    const Model model = make_model(bf16, false);
    const AdapterSet one = make_adapter(model, 4, 1), two = make_adapter(model, 11, 2, "q_proj,down_proj"),
                     wide = make_adapter(model, 90, 3);
    const std::vector<Job> jobs = mixed_jobs({&one, nullptr, &two, &wide});
    Context ctx;
    std::vector<std::vector<int32_t>> alone;
    for (const Job& job : jobs) {
      Engine engine(model, 800, rank_columns(wide));
      alone.push_back(engine.generate(ctx, job.prompt, job.adapter, job.options));
      EXPECT_EQ(alone.back().size(), static_cast<size_t>(job.options.max_new_tokens));
    }
    EXPECT_NE(alone[0], alone[4]);
    for (int64_t sequences : {2, 9}) {  // two at a time: the others wait for their turn
      Engine engine(model, 2000, rank_columns(wide), sequences);
      std::vector<int64_t> numbers;
      for (const Job& job : jobs) numbers.push_back(engine.submit({job.prompt, job.adapter, job.options, {}}));
      while (engine.step(ctx)) {}
      for (size_t i = 0; i < jobs.size(); ++i) EXPECT_EQ(engine.take(numbers[i]), alone[i]) << "request " << i << " of " << sequences;
    }
  }
}

// aLoRA: the answer is the adapter's from the invocation on, and what the base has read before it is not read again.
TEST(Engine, AnInvokedAdapterGoesOnFromTheRowsOfTheBase) {
  const Model model = make_model(false, false);
  AdapterSet set = make_adapter(model, 4, 1);
  set.invocation = {1, 2};
  std::vector<int32_t> prompt = prompt_of(200, 3), invoked = prompt;
  invoked.insert(invoked.end(), {1, 2, 9});
  Context ctx;
  const auto answer = [&](Engine& engine, const std::vector<int32_t>& ids, const AdapterSet* adapter, bool share) {
    Request request{ids, adapter, tokens(12), {}};
    if (share) {
      request.prefix_key = adapter ? "adapter" : "base";
      if (adapter) request.base_prefix_key = "base";
    }
    const int64_t number = engine.submit(std::move(request));
    while (engine.step(ctx)) {}
    const int64_t reused = engine.reused(number);
    return std::pair(engine.take(number), reused);
  };
  Engine alone(model, 800, rank_columns(set));
  EXPECT_EQ(answer(alone, prompt, &set, false).first, answer(alone, prompt, nullptr, false).first);  // not invoked
  const std::vector<int32_t> expected = answer(alone, invoked, &set, false).first;
  EXPECT_NE(expected, answer(alone, invoked, nullptr, false).first);
  Engine shared(model, 1600, rank_columns(set));
  answer(shared, prompt, nullptr, true);
  EXPECT_EQ(answer(shared, invoked, &set, true), std::pair(expected, int64_t{192}));
  EXPECT_EQ(answer(shared, invoked, &set, true), std::pair(expected, int64_t{192}));
  Engine first(model, 1600, rank_columns(set));
  answer(first, invoked, &set, true);
  EXPECT_EQ(answer(first, prompt, nullptr, true).second, 192);  // the other way round
}

// Whole tensors in the base's place, LoRA on embedding and head: beside each other and beside the base, each as if it were alone.
TEST(Engine, AdaptersWithTensorsAndHeadsOfTheirOwnRunTogether) {
  for (bool bf16 : {false, true}) {
    const Model model = make_model(bf16, false);
    LoraConfig outside, whole;
    set_targets(outside, "q_proj,embed_tokens,lm_head");
    set_targets(whole, "q_proj,up_proj");
    whole.modules_to_save = {"o_proj", "norm", "lm_head"};
    std::vector<AdapterSet> sets;
    for (const LoraConfig& config : {outside, whole}) {
      sets.push_back(attach_adapter(model, config, false));
      sets.back().name = "adapter " + std::to_string(sets.size());
      for (const Parameter& p : sets.back().parameters())
        for (int64_t i = 0; i < p.value.numel(); ++i)
          p.value.f32()[i] += noise(static_cast<size_t>(i) * 5 + sets.size(), p.name.size() + 10 * sets.size());
    }
    const AdapterSet plain = make_adapter(model, 4, 3);
    const std::vector<Job> jobs = mixed_jobs({&sets[0], nullptr, &sets[1], &plain});
    Context ctx;
    std::vector<std::vector<int32_t>> alone;
    for (const Job& job : jobs) {
      Engine engine(model, 800, rank_columns(plain));
      engine.reserve_rank_columns(job.adapter ? rank_columns(*job.adapter) : 1);
      alone.push_back(engine.generate(ctx, job.prompt, job.adapter, job.options));
    }
    Engine engine(model, 2000, std::max({rank_columns(sets[0]), rank_columns(sets[1]), rank_columns(plain)}), 9);
    std::vector<int64_t> numbers;
    for (const Job& job : jobs) numbers.push_back(engine.submit({job.prompt, job.adapter, job.options, {}}));
    while (engine.step(ctx)) {}
    for (size_t i = 0; i < jobs.size(); ++i) EXPECT_EQ(engine.take(numbers[i]), alone[i]) << "request " << i;
    Engine base(model, 800, 1);
    for (size_t i : {size_t{0}, size_t{2}})
      EXPECT_NE(alone[i], base.generate(ctx, jobs[i].prompt, nullptr, jobs[i].options)) << "request " << i;
  }
}

// What a row computes, to the bit: the logits' first ids would hide a small difference.
TEST(Engine, RowsOfADecodingStepHaveTheBitsThatTheyHaveAlone) {
  for (auto [bf16, int8] : {std::pair{false, false}, std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
    Model model = make_model(bf16, false);
    if (int8) blocks_to_int8(model);
    const AdapterSet one = make_adapter(model, 4, 1), two = make_adapter(model, 9, 2);
    const std::vector<const AdapterSet*> sets = {&one, &two};
    const int64_t rows = 13;
    Arena dry, memory, scratch(scratch_bytes(model, rows, false, sets));
    plan_activations(model, rows, false, sets, dry);
    memory = Arena(dry.peak());
    Activations activations = plan_activations(model, rows, false, sets, memory);
    Context ctx;
    auto hidden = [&](int64_t first, int64_t count) {  // of rows that are sequences of one token, adapters by third
      KvCache cache(model, rows);
      Batch batch;
      for (int64_t t = first; t < first + count; ++t) {
        batch.tokens.push_back(static_cast<int32_t>(3 * t + 1));
        batch.positions.push_back(static_cast<int32_t>(t));
        batch.sequences.push_back({t - first, 1, t, 1});
        if (t % 3 < 2) batch.adapter_rows.push_back({t - first, 1, static_cast<int>(t % 3)});
      }
      Pass pass{&activations, &cache, sets, &scratch, false};
      decoder_forward(ctx, model, batch, pass);
      std::vector<float> logits(static_cast<size_t>(count * kVocab));
      head_logits(ctx, model, Tensor(logits.data(), Dtype::F32, {count, kVocab}), activations.hidden.row_range(0, count), nullptr, scratch);
      return logits;
    };
    const std::vector<float> all = hidden(0, rows);
    for (int64_t t = 0; t < rows; ++t)
      EXPECT_EQ(hidden(t, 1), std::vector<float>(all.begin() + t * kVocab, all.begin() + (t + 1) * kVocab)) << "row " << t;
  }
}

// The same batch with other adapters on the other rows: a row of a long batch does not feel them either.
TEST(Engine, RowsOfAMixedBatchHaveTheBitsOfOneAdapterOverAll) {
  for (bool bf16 : {false, true}) {
    const Model model = make_model(bf16, false);
    const AdapterSet one = make_adapter(model, 4, 1), two = make_adapter(model, 9, 2);
    const std::vector<const AdapterSet*> sets = {&one, &two};
    const int64_t rows = 150;
    Arena dry, memory, scratch(scratch_bytes(model, rows, false, sets));
    plan_activations(model, rows, false, sets, dry);
    memory = Arena(dry.peak());
    Activations activations = plan_activations(model, rows, false, sets, memory);
    Context ctx;
    const int64_t starts[] = {0, 70, 80, 110, 150};
    auto run = [&](const std::vector<AdapterRows>& adapter_rows) {
      Batch batch;
      batch.adapter_rows = adapter_rows;
      for (size_t i = 0; i + 1 < std::size(starts); ++i) {
        batch.sequences.push_back({starts[i], starts[i + 1] - starts[i], starts[i], starts[i + 1] - starts[i]});
        for (int64_t t = starts[i]; t < starts[i + 1]; ++t) {
          batch.tokens.push_back(static_cast<int32_t>(t * 7 % kVocab));
          batch.positions.push_back(static_cast<int32_t>(t - starts[i]));
        }
      }
      Pass pass{&activations, nullptr, sets, &scratch, false};
      decoder_forward(ctx, model, batch, pass);
      std::vector<std::vector<char>> bytes;
      for (size_t i = 0; i + 1 < std::size(starts); ++i) {
        const Tensor part = activations.hidden.row_range(starts[i], starts[i + 1] - starts[i]);
        bytes.emplace_back(static_cast<char*>(part.data), static_cast<char*>(part.data) + part.bytes());
      }
      return bytes;
    };
    const auto base = run({}), first = run({{0, rows, 0}}), second = run({{0, rows, 1}});
    const auto mixed = run({{0, 70, 1}, {70, 10, 0}, {110, 40, 1}});
    EXPECT_EQ(mixed[0], second[0]);
    EXPECT_EQ(mixed[1], first[1]);
    EXPECT_EQ(mixed[2], base[2]);
    EXPECT_EQ(mixed[3], second[3]);
    EXPECT_NE(first[1], second[1]);
    EXPECT_NE(first[1], base[1]);
  }
}

TEST(Engine, RequestsJoinAndLeaveWhileOthersRun) {
  const Model model = make_model(false, false);
  const AdapterSet one = make_adapter(model, 4, 1);
  Context ctx;
  Engine engine(model, 400, rank_columns(one), 3);
  const std::vector<int32_t> first = engine.generate(ctx, prompt_of(9, 1), nullptr, tokens(30)),
                             second = engine.generate(ctx, prompt_of(40, 2), &one, tokens(15));
  std::vector<int32_t> heard;
  const int64_t a = engine.submit({prompt_of(9, 1), nullptr, tokens(30), [&](int32_t id) {
                                     heard.push_back(id);
                                     return true;
                                   }});
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(engine.step(ctx));
  EXPECT_EQ(heard, std::vector<int32_t>(first.begin(), first.begin() + 5));
  const int64_t b = engine.submit({prompt_of(40, 2), &one, tokens(15), {}}),
                dropped = engine.submit({prompt_of(5, 3), &one, tokens(50), {}});
  for (int i = 0; i < 4; ++i) engine.step(ctx);
  EXPECT_FALSE(engine.done(dropped));
  const std::vector<int32_t> part = engine.take(dropped);
  EXPECT_GT(part.size(), 1u);
  // While they run, another one is answered from beginning to end.
  EXPECT_EQ(engine.generate(ctx, prompt_of(40, 2), &one, tokens(15)), second);
  while (engine.step(ctx)) {}
  EXPECT_EQ(engine.take(a), first);
  EXPECT_EQ(heard, first);
  EXPECT_EQ(engine.take(b), second);
  EXPECT_THROW(engine.take(b), Error);
}

TEST(Engine, StopsWhenAskedAndWhenACallbackFails) {
  const Model model = make_model(false, false);
  Context ctx;
  Engine engine(model, 300, 1, 4);
  const std::vector<int32_t> whole = engine.generate(ctx, prompt_of(9, 1), nullptr, tokens(30));
  GenerateOptions stops = tokens(30);
  stops.stop_ids = {whole[7]};
  size_t at = 0;
  while (whole[at] != whole[7]) ++at;
  const int64_t stopped = engine.submit({prompt_of(9, 1), nullptr, stops, {}});
  size_t count = 0;
  const int64_t three = engine.submit({prompt_of(9, 1), nullptr, tokens(30), [&](int32_t) { return ++count < 3; }});
  const int64_t fails = engine.submit({prompt_of(9, 1), nullptr, tokens(30), [](int32_t) -> bool { throw std::runtime_error("no more"); }});
  const int64_t goes_on = engine.submit({prompt_of(9, 1), nullptr, tokens(30), {}});
  int failures = 0;
  for (bool left = true; left;) {
    try {
      left = engine.step(ctx);
    } catch (const std::runtime_error&) { ++failures; }
  }
  EXPECT_EQ(failures, 1);
  EXPECT_EQ(engine.take(stopped), std::vector<int32_t>(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(at) + 1));
  EXPECT_EQ(engine.take(three), std::vector<int32_t>(whole.begin(), whole.begin() + 3));
  EXPECT_EQ(engine.take(fails), std::vector<int32_t>(whole.begin(), whole.begin() + 1));
  EXPECT_EQ(engine.take(goes_on), whole);
}

TEST(Engine, RefusesWhatDoesNotFit) {
  const Model model = make_model(false, false);
  const AdapterSet wide = make_adapter(model, 8, 1);
  Context ctx;
  Engine engine(model, 50, 4);
  EXPECT_THROW(engine.submit({}), Error);
  EXPECT_THROW(engine.submit({prompt_of(50, 1), nullptr, tokens(5), {}}), Error);
  EXPECT_THROW(engine.submit({prompt_of(5, 1), &wide, tokens(5), {}}), Error);
  EXPECT_EQ(engine.generate(ctx, prompt_of(45, 1), nullptr, tokens(20)).size(), 5u);  // as much as the cache holds
  EXPECT_TRUE(engine.generate(ctx, prompt_of(45, 1), nullptr, tokens(0)).empty());
  const int64_t running = engine.submit({prompt_of(5, 1), nullptr, tokens(5), {}});
  engine.step(ctx);
  engine.reserve_rank_columns(rank_columns(wide));  // while one runs
  engine.take(running);
  EXPECT_EQ(engine.generate(ctx, prompt_of(5, 1), &wide, tokens(5)).size(), 5u);
}

TEST(Engine, RoomForAWiderAdapterComesBetweenSteps) {
  const Model model = make_model(false, false);
  const AdapterSet narrow = make_adapter(model, 2, 1), wide = make_adapter(model, 40, 2);
  Context ctx;
  Engine alone(model, 400, rank_columns(wide));
  const std::vector<int32_t> first = alone.generate(ctx, prompt_of(7, 1), &narrow, tokens(12)),
                             second = alone.generate(ctx, prompt_of(9, 2), &wide, tokens(12));
  Engine engine(model, 400, rank_columns(narrow), 4);
  const int64_t one = engine.submit({prompt_of(7, 1), &narrow, tokens(12), {}});
  for (int i = 0; i < 4; ++i) engine.step(ctx);
  engine.reserve_rank_columns(rank_columns(wide));
  const int64_t two = engine.submit({prompt_of(9, 2), &wide, tokens(12), {}});
  while (engine.step(ctx)) {}
  EXPECT_EQ(engine.take(one), first);
  EXPECT_EQ(engine.take(two), second);
}

TEST(Engine, WhoIsHeldWaitsAndLosesNothing) {
  const Model model = make_model(false, false);
  Context ctx;
  Engine engine(model, 400, 1, 4);
  const std::vector<int32_t> whole = engine.generate(ctx, prompt_of(7, 1), nullptr, tokens(12));
  int64_t given = 0;
  const int64_t held = engine.submit({prompt_of(7, 1), nullptr, tokens(12), [&](int32_t) { return ++given > 0; }});
  const int64_t other = engine.submit({prompt_of(8, 2), nullptr, tokens(12), {}});
  for (int i = 0; i < 3; ++i) engine.step(ctx);
  engine.hold(held, true);
  const int64_t before = given;
  while (engine.step(ctx)) {}
  EXPECT_EQ(given, before);
  EXPECT_TRUE(engine.done(other));
  EXPECT_FALSE(engine.done(held));
  engine.take(other);
  EXPECT_EQ(engine.load().running, 1);
  EXPECT_EQ(engine.load().rows, kKvPage);
  engine.hold(held, false);
  while (engine.step(ctx)) {}
  EXPECT_EQ(engine.take(held), whole);
}

TEST(Engine, LogprobsAreThoseOfTheRawLogits) {
  const Model model = make_model(false, false);
  Context ctx;
  Engine engine(model, 1200, 1, 4);
  GenerateOptions o = tokens(5);
  o.logprobs = 3;
  o.prompt_logprobs = 2;
  std::vector<TokenLogprobs> answer, prompt, scored;
  Request request{prompt_of(700, 1), nullptr, o, {}};  // two chunks
  request.on_logprobs = [&](const TokenLogprobs& one) { answer.push_back(one); };
  request.on_prompt_logprobs = [&](const TokenLogprobs& one) { prompt.push_back(one); };
  const int64_t number = engine.submit(request);
  while (engine.step(ctx)) {}
  std::vector<int32_t> ids = request.prompt;
  for (const int32_t id : engine.take(number)) ids.push_back(id);
  ASSERT_EQ(answer.size(), 5u);
  ASSERT_EQ(prompt.size(), 699u);
  // Scored as a prompt, the answer has the same figures: the penalties that chose it do not show.
  o.max_new_tokens = 0;
  o.prompt_logprobs = 3;
  request = {ids, nullptr, o, {}};
  request.on_prompt_logprobs = [&](const TokenLogprobs& one) { scored.push_back(one); };
  const int64_t again = engine.submit(request);
  while (engine.step(ctx)) {}
  EXPECT_TRUE(engine.take(again).empty());
  ASSERT_EQ(scored.size(), 704u);
  for (size_t i = 0; i < 699; ++i) EXPECT_NEAR(prompt[i].logprob, scored[i].logprob, 1e-4) << i;
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(answer[i].id, scored[699 + i].id);
    EXPECT_NEAR(answer[i].logprob, scored[699 + i].logprob, 1e-4);
    EXPECT_EQ(answer[i].top.size(), 3u);
    EXPECT_EQ(answer[i].rank, scored[699 + i].rank);
  }
}

TEST(Engine, WhatAPromptEndsWithForetellsItsIds) {
  const Model model = make_model(false, false);
  const AdapterSet set = make_adapter(model, 4, 1);
  Context ctx;
  GenerateOptions o = tokens(0);
  o.prompt_logprobs = 0;
  const std::vector<int32_t> prompt = prompt_of(300, 2);
  std::vector<std::vector<float>> alone;
  std::vector<float> told;
  {
    Engine engine(model, 1200, rank_columns(set), 4);
    Request request{prompt, &set, o, {}};
    request.on_prompt_hidden = [&](std::span<const float> hidden) { alone.emplace_back(hidden.begin(), hidden.end()); };
    request.on_prompt_logprobs = [&](const TokenLogprobs& one) { told.push_back(one.logprob); };
    engine.submit(request);
    while (engine.step(ctx)) {}
  }
  ASSERT_EQ(alone.size(), prompt.size());
  ASSERT_EQ(told.size(), prompt.size() - 1);
  Arena scratch(head_scratch_bytes(model, 1, &set));
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    std::vector<float> logits(static_cast<size_t>(kVocab));
    head_logits(ctx, model, Tensor(logits.data(), Dtype::F32, {1, kVocab}), Tensor(alone[i].data(), Dtype::F32, {1, kHidden}), &set,
                scratch);
    EXPECT_EQ(token_logprobs(logits, prompt[i + 1], 0).logprob, told[i]) << i;
  }
  // The same bits, each row once, beside others and where a small cache makes it start again.
  Engine engine(model, 400, rank_columns(set), 4);
  std::vector<std::vector<float>> beside;
  for (int32_t i = 0; i < 3; ++i) engine.submit({prompt_of(90 + i, i), i == 1 ? &set : nullptr, tokens(60), {}});
  for (int step = 0; step < 3; ++step) engine.step(ctx);
  Request request{prompt, &set, tokens(0), {}};
  request.on_prompt_hidden = [&](std::span<const float> hidden) { beside.emplace_back(hidden.begin(), hidden.end()); };
  engine.submit(request);
  while (engine.step(ctx)) {}
  EXPECT_EQ(beside, alone);
}

}  // namespace
}  // namespace loraine::engine_test
