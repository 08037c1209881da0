// What a named template does to a tokenizer: tokens it lacks, and embeddings without room for them.
#include "loraine/data/templates/templates.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine::templates_test {
namespace {

std::unique_ptr<Tokenizer> small(const std::string& added = "") {
  return Tokenizer::from_json(R"({"added_tokens":[)" + added + R"(],"model":{"type":"BPE","vocab":{"a":0,"b":1,"</s>":2},"merges":[]}})",
                              "small");
}

std::string refusal(const char* name, int64_t rows, const std::string& added = "") {
  auto tokenizer = small(added);
  SpecialTokens special{.eos = 2};
  try {
    apply_template_tokens(named_template(name), *tokenizer, special, rows);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    return std::string(error.what()) + " · " + error.hint;
  }
  return "";
}

TEST(Templates, TokensBehindTheVocabularyTakeFreeRows) {
  auto tokenizer = small();
  SpecialTokens special{.eos = 2};
  apply_template_tokens(named_template("llama3"), *tokenizer, special, 5);
  EXPECT_EQ(special.eos, 3);
  EXPECT_EQ(special.pad, 3);
  EXPECT_EQ(special.stop, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(tokenizer->token_to_id("<|eom_id|>"), 4);
}

TEST(Templates, ATokenWithoutARowIsRefusedWhereItIsWritten) {
  const std::string text = refusal("llama3", 3, R"({"id":2,"content":"</s>","special":true})");
  EXPECT_NE(text.find("template llama3 needs <|eot_id|>, which this tokenizer lacks; as a new token it would have id 3"), std::string::npos)
      << text;
  EXPECT_NE(text.find("below 3"), std::string::npos) << text;
  EXPECT_NE(text.find("vicuna"), std::string::npos) << text;
  const std::string known =
      refusal("llama3", 5, R"({"id":3,"content":"<|im_end|>","special":true},{"id":4,"content":"<|im_start|>","special":true})");
  EXPECT_NE(known.find("whose tokens this tokenizer has: chatml, "), std::string::npos) << known;
  EXPECT_NE(refusal("smollm2", 3).find("<|im_end|>"), std::string::npos);
  EXPECT_EQ(refusal("vicuna", 3), "");
}

TEST(Templates, MissingTokensAreThoseThatAreWritten) {
  const auto tokenizer = small();
  using Words = std::vector<std::string>;
  EXPECT_EQ(missing_tokens(named_template("llama3"), *tokenizer), (Words{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}));
  EXPECT_EQ(missing_tokens(named_template("chatml"), *tokenizer), (Words{"<|im_start|>", "<|im_end|>"}));
  EXPECT_EQ(missing_tokens(named_template("gemma"), *tokenizer), (Words{"<start_of_turn>", "<end_of_turn>"}));
  for (const char* plain : {"alpaca", "vicuna", "zephyr", "llama2", "mistral", "empty", "default"})
    EXPECT_EQ(missing_tokens(named_template(plain), *tokenizer), Words()) << plain;
}

TEST(Templates, ATokenThatIsNeverWrittenIsLeftOutWithoutARow) {
  auto tokenizer = small();
  SpecialTokens special{.eos = 2};
  apply_template_tokens(named_template("llama3"), *tokenizer, special, 4);  // a row for <|eot_id|>, none for <|eom_id|>
  EXPECT_EQ(special.stop, (std::vector<int32_t>{3}));
  EXPECT_FALSE(tokenizer->token_to_id("<|eom_id|>"));
  SpecialTokens none;
  apply_template_tokens(named_template("empty"), *tokenizer, none, 4);
  EXPECT_FALSE(none.eos || none.pad);
  EXPECT_THROW(apply_template_tokens(named_template("vicuna"), *tokenizer, none, 4), Error);  // writes the end token
}

TEST(Templates, TheDefaultSystemOfTheUserCounts) {
  EXPECT_EQ(named_template("qwen", "Be dry.").default_system, "Be dry.");
  EXPECT_EQ(named_template("qwen", "").default_system, "");
  EXPECT_TRUE(named_template("qwen").default_system.starts_with("You are Qwen"));
}

}  // namespace
}  // namespace loraine::templates_test
