// tiktoken's and Mistral's files that are not as they should be. Good ones: tests/golden/tokenizer_files_test.cpp.
#include "loraine/io/vocabulary/token_ranks.h"

#include <gtest/gtest.h>

#include "loraine/core/base64.h"
#include "loraine/core/error.h"

namespace loraine::token_ranks_test {
namespace {

std::string bytes_file(int64_t first = 0) {
  std::string out;
  for (int b = 0; b < 256; ++b) out += to_base64(std::string(1, static_cast<char>(b))) + " " + std::to_string(first + b) + "\n";
  return out;
}

TEST(TokenRanks, ReadsLinesInAnyOrder) {
  const TokenRanks ranks = read_tiktoken("YmM= 300\r\n\n" + bytes_file() + "YWI= 256", "m");
  ASSERT_EQ(ranks.size(), 258u);
  EXPECT_EQ(ranks.back(), (std::pair<std::string, int64_t>("bc", 300)));
  const TokenizerParts parts = token_rank_parts(ranks, 10, "x", "m");
  EXPECT_EQ(parts.merges, (TokenMerges{{"a", "b"}, {"b", "c"}}));
  EXPECT_EQ(parts.ids.back(), (std::pair<std::string, int64_t>("bc", 310)));
  EXPECT_EQ(parts.ids[10].first, "\xC4\x8A");  // the line feed's stand-in
  EXPECT_TRUE(is_tiktoken("YQ== 0\nrest"));
  EXPECT_FALSE(is_tiktoken("\x0a\x0e\x0a\x05<unk>"));
}

TEST(TokenRanks, BrokenFilesAreErrors) {
  for (const char* line : {"YQ==", "YQ== x", "YQ== -1", "YQ== 1 2", "YQ== 99999999", "Y? 1", " 1", "YQ== 0", "YWI= 255"})
    EXPECT_THROW(read_tiktoken(bytes_file() + line, "m"), Error) << line;
  EXPECT_THROW(token_rank_parts(read_tiktoken("YQ== 0", "m"), 0, "x", "m"), Error);  // most bytes are no token
}

TEST(TokenRanks, BrokenTekkenFilesAreErrors) {
  const char* good =
      R"({"config":{"pattern":"x","default_vocab_size":3,"default_num_special_tokens":2},)"
      R"("vocab":[{"rank":0,"token_bytes":"YQ=="},{"rank":1,"token_bytes":"Yg=="}],"special_tokens":[{"rank":0,"token_str":"<s>"}]})";
  const Tekken tekken = read_tekken(Json::parse(good), "m");
  EXPECT_EQ(tekken.special, (std::vector<std::string>{"<s>", "<SPECIAL_1>"}));
  EXPECT_EQ(tekken.ranks, (TokenRanks{{"a", 0}}));  // the model has one token besides
  for (const auto& [at, value] : std::vector<std::pair<const char*, const char*>>{{"/config", "[]"},
                                                                                  {"/config/pattern", "1"},
                                                                                  {"/config/default_vocab_size", "5"},
                                                                                  {"/config/default_vocab_size", "-1"},
                                                                                  {"/config/default_num_special_tokens", "0"},
                                                                                  {"/vocab", "{}"},
                                                                                  {"/vocab/0", "1"},
                                                                                  {"/vocab/0/rank", "1"},
                                                                                  {"/vocab/0/token_bytes", "\"a\""},
                                                                                  {"/vocab/0/token_bytes", "null"},
                                                                                  {"/special_tokens", "{}"},
                                                                                  {"/special_tokens/0", "1"},
                                                                                  {"/special_tokens/0/rank", "1"},
                                                                                  {"/special_tokens/0/token_str", "\"<SPECIAL_1>\""}}) {
    Json bad = Json::parse(good);
    bad[Json::json_pointer(at)] = Json::parse(value);
    EXPECT_THROW(read_tekken(bad, "m"), Error) << at << " " << value;
  }
  EXPECT_THROW(read_tekken(Json::parse("[]"), "m"), Error);
}

}  // namespace
}  // namespace loraine::token_ranks_test
