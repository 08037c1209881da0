// What a beam search makes of its settings; that its answers are transformers' is api/beam_golden_test.cpp's.
#include "loraine/generate/beam_search.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"
#include "tests/support/formula_model.h"

namespace loraine::beam_search_test {
namespace {

TEST(BeamSearch, OneBeamMoreNeverFindsWorse) {  // with sums as scores and nothing that ends
  const Model model = make_model(false, false);
  Context ctx;
  GenerateOptions o;
  o.max_new_tokens = 12;
  o.length_penalty = 0;
  Engine engine(model, 2000, 1);
  const std::vector<int32_t> prompt = {1, 5, 9};
  const std::vector<int32_t> greedy = engine.generate(ctx, prompt, nullptr, o);
  o.num_beams = 32;
  EXPECT_EQ(engine.generate(ctx, prompt, nullptr, o).size(), greedy.size());
  o.num_beams = 33;
  EXPECT_THROW(engine.generate(ctx, prompt, nullptr, o), Error);
  o.num_beams = 4;
  EXPECT_THROW(engine.generate(ctx, std::vector<int32_t>(500, 1), nullptr, o), Error);  // four times that fills the cache
}

TEST(BeamSearch, SampledOnesFollowTheSeed) {
  const Model model = make_model(false, false);
  Context ctx;
  GenerateOptions o;
  o.max_new_tokens = 16;
  o.num_beams = 3;
  o.do_sample = true;
  o.temperature = 2;
  o.top_p = 1;
  Engine engine(model, 200, 1);
  const std::vector<int32_t> prompt = {1, 5, 9}, first = engine.generate(ctx, prompt, nullptr, o);
  EXPECT_EQ(engine.generate(ctx, prompt, nullptr, o), first);
  o.seed = 7;
  EXPECT_NE(engine.generate(ctx, prompt, nullptr, o), first);
  o.top_k = 1;  // one stays beside those that end: no beam has a choice
  o.seed = 1;
  const std::vector<int32_t> likeliest = engine.generate(ctx, prompt, nullptr, o);
  o.seed = 2;
  EXPECT_EQ(engine.generate(ctx, prompt, nullptr, o), likeliest);
}

TEST(BeamSearch, EndsWhenItIsTold) {
  const Model model = make_model(false, false);
  Context ctx;
  GenerateOptions o;
  o.max_new_tokens = 16;
  o.num_beams = 3;
  Engine engine(model, 200, 1);
  int steps = 0;
  EXPECT_EQ(engine.generate(ctx, std::vector<int32_t>{1, 5}, nullptr, o, {}, [&] { return ++steps < 5; }).size(), 5u);
  EXPECT_EQ(steps, 5);
}

}  // namespace
}  // namespace loraine::beam_search_test
