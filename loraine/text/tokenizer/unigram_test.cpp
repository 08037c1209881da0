// Unigram models and SentencePiece's character maps in small tokenizer.json files. Against the libraries:
// tests/golden/tokenizer_files_test.cpp.
#include "loraine/text/tokenizer/unigram.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "loraine/core/base64.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine::unigram_test {
namespace {

using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> unigram(const std::string& vocab, const std::string& more = R"(,"unk_id":0)",
                                   const std::string& normalizer = "null") {
  return Tokenizer::from_json(
      fmt::format(R"({{"normalizer":{},"decoder":{{"type":"Fuse"}},"model":{{"type":"Unigram","vocab":{}{}}}}})", normalizer, vocab, more),
      "small.json");
}

TEST(Unigram, TakesTheWayWithTheHighestSum) {
  auto t = unigram(R"([["<unk>",0],["a",-1],["b",-1],["ab",-1.5],["abc",-9],["c",-2],["bc",-1.75]])");
  EXPECT_EQ(t->encode("ab"), (Ids{3}));
  EXPECT_EQ(t->encode("abc"), (Ids{1, 6}));       // -2.75 against -3.5 and -9
  EXPECT_EQ(t->encode("aXYZb"), (Ids{1, 0, 2}));  // unknown characters in a row are one token
  EXPECT_EQ(t->encode("éa"), (Ids{0, 1}));
  EXPECT_EQ(t->decode(Ids{1, 6, 99}), "abc");
  EXPECT_EQ(t->vocab_size(), 7);
  std::string word;
  Ids expected;
  for (int i = 0; i < 50'000; ++i) word += "ab", expected.push_back(3);
  EXPECT_EQ(t->encode(word), expected);
}

TEST(Unigram, SpellsWhatItLacksInBytes) {
  const std::string vocab = R"([["u",0],["a",-1],["<0xC3>",-9],["<0xA9>",-9]])";
  EXPECT_EQ(unigram(vocab, R"(,"unk_id":0,"byte_fallback":true)")->encode("aé"), (Ids{1, 2, 3}));
  EXPECT_EQ(unigram(vocab, R"(,"unk_id":0,"byte_fallback":true)")->encode("aü"), (Ids{1, 0}));
  EXPECT_THROW(unigram(vocab, R"(,"unk_id":null)")->encode("aé"), Error);
}

TEST(Unigram, MalformedModelsAreErrors) {
  for (const char* vocab : {"[]", "{}", R"([["a"]])", R"([["a","b"]])", R"([[1,2]])", R"(["a",1])"})
    EXPECT_THROW(unigram(vocab), Error) << vocab;
  EXPECT_THROW(unigram(R"([["a",0]])", R"(,"unk_id":1)"), Error);
  EXPECT_THROW(unigram(R"([["a",0]])", R"(,"unk_id":0,"other":1)"), Error);
}

TEST(CharacterMap, WrongOnesAreErrorsAndNoReadGoesOutside) {
  const auto with = [](const std::string& bytes) {
    return unigram(R"([["u",0],["a",-1]])", R"(,"unk_id":0)",
                   R"({"type":"Precompiled","precompiled_charsmap":")" + to_base64(bytes) + "\"}");
  };
  EXPECT_THROW(unigram(R"([["u",0]])", R"(,"unk_id":0)", R"({"type":"Precompiled","precompiled_charsmap":"???"})"), Error);
  using namespace std::string_literals;
  for (const std::string& bytes : {""s, "\0\0\0\0"s, "\x03\0\0\0abc"s, "\x08\0\0\0abcd"s, "\x04\0\0\0abcd\xff"s})
    EXPECT_THROW(with(bytes), Error);
  EXPECT_EQ(with("\x04\0\0\0\xff\xff\xff\xff"s)->encode("aaa"), (Ids{1, 1, 1}));
  EXPECT_EQ(with("\x04\0\0\0\0\0\0\0"s)->encode("aaa"), (Ids{1, 1, 1}));
}

}  // namespace
}  // namespace loraine::unigram_test
