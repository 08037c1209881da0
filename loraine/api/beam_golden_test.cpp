// Beam search gives what transformers' generate gives (tests/golden/make_beam_cases.py), alone and beside other requests.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

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

TEST(BeamSearch, AnswersAreThoseOfTransformers) {
  const Json cases = Json::parse(std::ifstream(kGolden + "beam_search.json"))["cases"];
  ModelFiles files = open_model_files(kGolden + "peft/llama/model");
  Model model = load_model(files);
  const AdapterSet lora = load_adapter(model, kGolden + "peft/llama/lora");
  Context ctx;
  Engine together(model, 4000, rank_columns(lora), 100);
  std::vector<int64_t> requests;
  size_t ended = 0;
  for (const Json& one : cases) {
    const auto prompt = one["prompt"].get<std::vector<int32_t>>(), answer = one["answer"].get<std::vector<int32_t>>();
    const AdapterSet* adapter = one["model"] == "lora" ? &lora : nullptr;
    Engine engine(model, 8 * kKvPage, rank_columns(lora));  // of at most 8 beams, each with a page of its own
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

}  // namespace
}  // namespace loraine::beam_golden_test
