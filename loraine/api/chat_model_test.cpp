// ChatModel on a recorded model: fields of a response, streaming, seeds, adapters by name, threads, refusals.
#include "loraine/chat_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

namespace loraine::chat_model_test {
namespace {

namespace fs = std::filesystem;
const std::string kShared = std::string(LORAINE_SOURCE_DIR) + "/../shared/golden/llamafactory";
const std::string kAdapter = kShared + "/runs/sft_lora/output";

#define MODEL_OR_SKIP()                                                                     \
  if (!fs::exists(kShared + "/tiny_llama")) GTEST_SKIP() << "the recorded model is absent"; \
  ChatModel model({{"model_name_or_path", kShared + "/tiny_llama"},                         \
                   {"adapter_name_or_path", "tuned=" + kAdapter},                           \
                   {"template", "vicuna"},                                                  \
                   {"max_new_tokens", "12"}})

ChatOptions greedy(const std::string& adapter) {
  ChatOptions options;
  options.adapter = adapter;
  options.do_sample = false;
  return options;
}

std::string kind_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const ChatError& error) { return error.kind; }
  return "none";
}

TEST(ChatModel, ResponseHasItsFieldsAndStreamingGivesTheSameText) {
  MODEL_OR_SKIP();
  const auto responses = model.chat({{"user", "Hello"}}, greedy("tuned"));
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_GT(responses[0].prompt_length, 5);
  EXPECT_GT(responses[0].response_length, 0);
  EXPECT_LE(responses[0].response_length, 12);
  EXPECT_EQ(responses[0].finish_reason, responses[0].response_length == 12 ? "length" : "stop");
  std::string streamed;
  const Response whole = model.stream_chat(
      {{"user", "Hello"}},
      [&](std::string_view piece) {
        streamed += piece;
        return true;
      },
      greedy("tuned"));
  EXPECT_EQ(streamed, responses[0].response_text);
  EXPECT_EQ(whole.response_text, responses[0].response_text);
  EXPECT_NE(model.chat({{"user", "Hello"}}, greedy("base"))[0].response_text, responses[0].response_text);
  EXPECT_EQ(model
                .chat({{"user", "Hello"}},
                      [] {
                        ChatOptions options;
                        options.do_sample = false;
                        return options;
                      }())[0]
                .response_text,
            responses[0].response_text);  // the one that is on
}

TEST(ChatModel, SeveralAnswersDifferBySeedAndRepeat) {
  MODEL_OR_SKIP();
  ChatOptions options;
  options.num_return_sequences = 3;
  options.seed = 7;
  const auto once = model.chat({{"system", "Be brief"}, {"user", "Hello"}}, options);
  ASSERT_EQ(once.size(), 3u);
  const auto again = model.chat({{"system", "Be brief"}, {"user", "Hello"}}, options);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(once[i].response_text, again[i].response_text);
  options.num_return_sequences = 1;
  options.seed = 9;
  EXPECT_EQ(model.chat({{"system", "Be brief"}, {"user", "Hello"}}, options)[0].response_text, once[2].response_text);
}

TEST(ChatModel, StopsWhenTheListenerSaysSo) {
  MODEL_OR_SKIP();
  int pieces = 0;
  const Response response = model.stream_chat(
      {{"user", "Hello"}}, [&](std::string_view) { return ++pieces < 2; }, greedy("base"));
  EXPECT_EQ(pieces, 2);
  EXPECT_EQ(response.finish_reason, "cancelled");
}

TEST(ChatModel, EndsWhenKeepGoingSaysSo) {
  MODEL_OR_SKIP();
  ChatOptions options = greedy("base");
  const std::string whole = model.chat({{"user", "Hello"}}, options)[0].response_text;
  int asked = 0;
  options.num_return_sequences = 3;
  options.keep_going = [&] { return ++asked < 3; };
  const auto responses = model.chat({{"user", "Hello"}}, options);
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(responses[0].response_length, 3);
  EXPECT_EQ(responses[0].finish_reason, "cancelled");
  EXPECT_TRUE(whole.starts_with(responses[0].response_text));
}

TEST(ChatModel, ThreadsGetWhatTheyGetAlone) {
  MODEL_OR_SKIP();
  std::vector<std::string> alone(6), together(6);
  const auto ask = [&](size_t i) {
    return model.chat({{"user", "Question " + std::to_string(i)}}, greedy(i % 2 ? "tuned" : "base"))[0].response_text;
  };
  for (size_t i = 0; i < alone.size(); ++i) alone[i] = ask(i);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < together.size(); ++i) threads.emplace_back([&, i] { together[i] = ask(i); });
  for (int i = 0; i < 3; ++i) {
    model.load_adapter("more", kAdapter);
    EXPECT_EQ(model.adapters(), (std::vector<std::string>{"more", "tuned"}));
    model.unload_adapter("more");
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, alone);
}

const std::string kRecorded = std::string(LORAINE_SOURCE_DIR) + "/tests/golden/llamafactory";

nlohmann::json json_of(const std::string& file) { return nlohmann::json::parse(std::ifstream(file)); }

// tests/golden/make_score_cases.py; the pairs are those that LLaMA-Factory's run was evaluated on.
TEST(ChatModel, ScoresOfARewardModel) {
  const Arguments base = {{"model_name_or_path", kRecorded + "/tiny_llama"}, {"template", "chatml"}};
  Arguments reward = base;
  reward["adapter_name_or_path"] = "reward=" + kRecorded + "/runs/rm/output";
  ChatModel model(reward);
  const nlohmann::json recorded = json_of(kRecorded + "/scores.json");
  const auto texts = recorded["texts"].get<std::vector<std::string>>();
  for (const nlohmann::json& one : recorded["cases"]) {
    ScoreOptions options;
    if (!one["max_length"].is_null()) options.max_length = one["max_length"].get<int64_t>();
    const std::vector<double> scores = model.get_scores(texts, options);
    ASSERT_EQ(scores.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) EXPECT_NEAR(scores[i], one["scores"][i].get<double>(), 1e-5) << i;
  }
  std::vector<std::vector<ChatMessage>> answered;
  const nlohmann::json pairs = json_of(kRecorded + "/runs/rm/data/test.json");
  for (const nlohmann::json& pair : pairs)
    for (const char* side : {"chosen", "rejected"}) {
      const std::string asked = pair["instruction"], beside = pair["input"];
      answered.push_back({{"user", beside.empty() ? asked : asked + "\n" + beside}, {"assistant", pair[side].get<std::string>()}});
    }
  const std::vector<double> scores = model.get_scores(answered);
  double loss = 0, right = 0;
  const auto n = static_cast<double>(pairs.size());
  for (size_t i = 0; i < scores.size(); i += 2) {
    loss += std::log1p(std::exp(scores[i + 1] - scores[i])) / n;
    right += (scores[i] > scores[i + 1] ? 1 : 0) / n;
  }
  const nlohmann::json results = json_of(kRecorded + "/runs/rm/output/eval_results.json");
  EXPECT_NEAR(loss, results["eval_loss"].get<double>(), 2e-6);
  EXPECT_NEAR(right, results["eval_accuracy"].get<double>(), 1e-9);
  ScoreOptions of_base;
  of_base.adapter = "base";
  EXPECT_EQ(kind_of([&] { model.get_scores(texts, of_base); }), "usage");
  EXPECT_EQ(kind_of([&] { model.get_scores(std::vector<std::string>{""}); }), "usage");
  EXPECT_EQ(kind_of([&] { model.get_scores(std::vector<std::vector<ChatMessage>>{{{"user", "x"}}}); }), "usage");
  EXPECT_EQ(kind_of([&] { model.get_scores(std::vector<std::vector<ChatMessage>>{{}}); }), "usage");
  EXPECT_TRUE(model.get_scores(std::vector<std::string>()).empty());
}

TEST(ChatModel, RefusalsNameTheirKind) {
  EXPECT_EQ(kind_of([] { ChatModel({{"model_name_or_path", "/nowhere"}}); }), "missing_file");
  EXPECT_EQ(kind_of([] { ChatModel({{"model_nam", "x"}}); }), "usage");
  EXPECT_EQ(kind_of([] { ChatModel(Arguments{}); }), "usage");
  MODEL_OR_SKIP();
  EXPECT_EQ(kind_of([&] { model.chat({}); }), "usage");
  EXPECT_EQ(kind_of([&] { model.chat({{"assistant", "x"}}); }), "usage");
  EXPECT_EQ(kind_of([&] { model.chat({{"user", "x"}, {"user", "y"}}); }), "usage");
  EXPECT_EQ(kind_of([&] { model.chat({{"wizard", "x"}}); }), "usage");
  EXPECT_EQ(kind_of([&] { model.chat({{"user", "x"}}, greedy("nobody")); }), "usage");
  EXPECT_EQ(kind_of([&] { model.load_adapter("tuned", kAdapter); }), "usage");
  EXPECT_EQ(kind_of([&] { model.load_adapter("base", kAdapter); }), "usage");
  ChatOptions options;
  options.temperature = -1;
  EXPECT_EQ(kind_of([&] { model.chat({{"user", "x"}}, options); }), "usage");
  for (const auto& change : std::vector<std::function<void(ChatOptions&)>>{
           [](ChatOptions& o) { o.top_p = 1.5; }, [](ChatOptions& o) { o.temperature = std::nan(""); },
           [](ChatOptions& o) { o.max_new_tokens = 0; }, [](ChatOptions& o) { o.top_k = INT64_MIN; },
           [](ChatOptions& o) { o.repetition_penalty = INFINITY; }, [](ChatOptions& o) { o.seed = -1; }}) {
    ChatOptions bad = greedy("tuned");
    change(bad);
    EXPECT_EQ(kind_of([&] { model.chat({{"user", "x"}}, bad); }), "usage");
  }
}

}  // namespace
}  // namespace loraine::chat_model_test
