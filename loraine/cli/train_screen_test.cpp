// The text of an example: marks, colour, shortening, letters that would steer a terminal.
#include "loraine/cli/train_screen.h"

#include <gtest/gtest.h>

namespace loraine::train_screen_test {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool, bool) const override { return {text.begin(), text.end()}; }
  std::string guard(std::string_view part) const override { return std::string(part); }
  std::vector<int32_t> encode_guarded(std::string_view text) const override { return encode(text, false, true); }
  std::string decode(std::span<const int32_t> ids,
                     bool) const override {  // a space at the start of a text is stripped, as SentencePiece's is
    std::string text;
    for (const int32_t id : ids) text += static_cast<char>(id);
    return text.starts_with(' ') ? text.substr(1) : text;
  }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> id_to_token(int32_t) const override { return std::nullopt; }
  int64_t vocab_size() const override { return 256; }
  bool is_special(int32_t) const override { return false; }
  int32_t add_token(const std::string&, bool) override { return 255; }
};

// Parts in turn not trained and trained.
Example example_of(const std::vector<std::string>& parts) {
  std::vector<int32_t> ids, labels;
  for (size_t i = 0; i < parts.size(); ++i)
    for (const char c : parts[i]) {
      ids.push_back(static_cast<unsigned char>(c));
      labels.push_back(i % 2 ? static_cast<unsigned char>(c) : -100);
    }
  return {std::move(ids), std::move(labels)};
}

TEST(TrainScreen, TrainedTokensAreMarked) {
  const ByteTokenizer tokenizer;
  const Example turns = example_of({" ask:", " one", "\nask:", " two"});
  EXPECT_EQ(example_text(turns, &tokenizer, false), "ask:⟦ one⟧\nask:⟦ two⟧");
  EXPECT_EQ(example_text(turns, &tokenizer, true), "ask:\x1b[32m one\x1b[0m\nask:\x1b[32m two\x1b[0m");
  EXPECT_EQ(example_text(example_of({"ab", "c"}), nullptr, false), "97 98⟦99⟧");
  EXPECT_EQ(example_text(example_of({"a\x1b[2J\r\x7f\xc2\x9b\tb\n"}), &tokenizer, false), "a\\x1b[2J\\x0d\\x7f\\x9b\tb\n");
}

TEST(TrainScreen, LongTextsAreShortened) {
  const ByteTokenizer tokenizer;
  std::string wide = "x";
  for (int i = 0; i < 1000; ++i) wide += "€";
  const std::string text = example_text(example_of({wide, "end"}), &tokenizer, false);
  EXPECT_EQ(text, wide.substr(0, 298) + " … (2,403 bytes) … " + wide.substr(2701) + "⟦end⟧");
  std::vector<std::string> many(100, "a");
  const std::string turns = example_text(example_of(many), &tokenizer, false);
  EXPECT_EQ(turns, "a⟦a⟧a⟦a⟧a⟦a⟧a⟦a⟧ … (84 tokens) … a⟦a⟧a⟦a⟧a⟦a⟧a⟦a⟧");
}

}  // namespace
}  // namespace loraine::train_screen_test
