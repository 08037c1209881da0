// Beam search gives what transformers' generate gives (tests/golden/make_beam_cases.py), alone and beside other requests.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/io/model_files.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"

namespace loraine::beam_golden_test {
namespace {

using Json = nlohmann::json;
const std::string kGolden = LORAINE_SOURCE_DIR "/tests/golden/";

GenerateOptions options_of(const Json& one) {
  GenerateOptions o;
  o.max_new_tokens = one["max_new_tokens"];
  o.num_beams = one["num_beams"];
  o.length_penalty = one["length_penalty"];
  o.repetition_penalty = one["repetition_penalty"];
  o.stop_ids = one["stop_ids"].get<std::vector<int32_t>>();
  o.stop_ids.push_back(o.stop_ids.front());  // twice is once
  return o;
}

// The cases of a file, over a model with its adapter.
void compare_with(const std::string& file, const std::string& folder) {
  SCOPED_TRACE(file);
  const Json cases = Json::parse(std::ifstream(kGolden + file))["cases"];
  ModelFiles files = open_model_files(kGolden + folder + "/model");
  Model model = load_model(files);
  const AdapterSet lora = load_adapter(model, kGolden + folder + "/lora");
  Context ctx;
  Engine together(model, 4000, rank_columns(lora), 100);
  std::vector<int64_t> requests;
  size_t ended = 0;
  for (const Json& one : cases) {
    const auto prompt = one["prompt"].get<std::vector<int32_t>>(), answer = one["answer"].get<std::vector<int32_t>>();
    const AdapterSet* adapter = one["model"] == "lora" ? &lora : nullptr;
    Engine engine(model, 8 * kKvPage, rank_columns(lora), seats_for(model, 1, 8));  // of at most 8 beams, each with a page of its own
    std::vector<int32_t> told;
    const std::vector<int32_t> got = engine.generate(ctx, prompt, adapter, options_of(one), [&](int32_t id) {
      told.push_back(id);
      return true;
    });
    EXPECT_EQ(got, answer) << one.dump();
    EXPECT_EQ(told, answer);
    ended += static_cast<size_t>(answer.size()) < one["max_new_tokens"].get<size_t>();
    requests.push_back(together.submit({prompt, adapter, options_of(one), {}}));
    requests.push_back(together.submit({prompt, adapter, {.max_new_tokens = 20}, {}}));  // greedy ones between them
  }
  EXPECT_GT(ended, 10u);
  while (together.step(ctx)) {}
  for (size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(together.take(requests[2 * i]), cases[i]["answer"].get<std::vector<int32_t>>());
}

TEST(BeamSearch, AnswersAreThoseOfTransformers) { compare_with("beam_search.json", "peft/llama"); }

// Short convolutions, Mamba 2 and the gated delta rule, each with attention.
TEST(BeamSearch, OverLayersWithStatesToo) {
  compare_with("beam_search_lfm2.json", "peft/lfm2");
  compare_with("beam_search_falcon_h1.json", "peft/falcon_h1");
  compare_with("beam_search_qwen3_5_text.json", "peft/qwen3_5_text");
}

TEST(BeamSearch, NeedsAStateForEachBeam) {
  ModelFiles files = open_model_files(kGolden + "peft/lfm2/model");
  Model model = load_model(files);
  EXPECT_EQ(seats_for(model, 3, 4), 12);
  EXPECT_EQ(seats_for(model, 3, 1), 3);
  Context ctx;
  Engine engine(model, 8 * kKvPage, 1, 3);
  GenerateOptions o;
  o.max_new_tokens = 8;
  const std::vector<int32_t> prompt = {3, 7, 11}, greedy = engine.generate(ctx, prompt, nullptr, o);
  o.num_beams = 1;
  EXPECT_EQ(engine.generate(ctx, prompt, nullptr, o), greedy);
  o.num_beams = 4;
  EXPECT_THROW(engine.generate(ctx, prompt, nullptr, o), Error);
  // Two searches of two beams over three states: one after the other, beside a greedy request, each as it is alone.
  o.num_beams = 2;
  const std::vector<int32_t> alone = engine.generate(ctx, prompt, nullptr, o);
  std::vector<int64_t> requests;
  for (int i = 0; i < 2; ++i) {
    requests.push_back(engine.submit({prompt, nullptr, o, {}}));
    requests.push_back(engine.submit({prompt, nullptr, {.max_new_tokens = 8}, {}}));
  }
  while (engine.step(ctx)) {}
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(engine.take(requests[i]), i % 2 == 0 ? alone : greedy);
}

}  // namespace
}  // namespace loraine::beam_golden_test
