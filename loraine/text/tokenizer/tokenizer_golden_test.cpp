// Ids and text of five real tokenizers against the `tokenizers` library (cases under ../shared; skipped where they are absent).
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "loraine/text/tokenizer/tokenizer.h"
#include "tests/support/sanitized.h"

namespace loraine::tokenizer_golden_test {
namespace {

namespace fs = std::filesystem;
const fs::path kShared = fs::path(LORAINE_SOURCE_DIR) / ".." / "shared";

std::string unpack(const fs::path& file) {
  std::string out, command = "xz -dc '" + file.string() + "'";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return out;
  std::vector<char> block(1 << 20);
  for (size_t n = 0; (n = fread(block.data(), 1, block.size(), pipe)) > 0;) out.append(block.data(), n);
  pclose(pipe);
  return out;
}

double seconds_since(std::clock_t start) { return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC; }  // of processor time

std::vector<int32_t> ids_of(simdjson::dom::element value) {
  std::vector<int32_t> ids;
  for (auto id : value.get_array()) ids.push_back(static_cast<int32_t>(std::min<int64_t>(int64_t(id), INT32_MAX)));
  return ids;
}

class TokenizerGolden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    fs::path file = kShared / "tokenizers" / GetParam() / "tokenizer.json.xz";
    if (!fs::exists(file)) GTEST_SKIP() << "no golden tokenizers beside the repository: " << file;
    std::string json = unpack(file);
    auto start = std::clock();
    tokenizer_ = Tokenizer::from_json(json, file.string());
    std::cout << GetParam() << ": " << json.size() / 1e6 << " MB loaded in " << seconds_since(start) << " s\n";
  }

  // Calls check(case) for every line of the file; returns how many there were.
  template <typename Check>
  int each_case(const char* name, const Check& check) {
    std::string lines = unpack(kShared / "golden" / "tokenizers" / GetParam() / name);
    simdjson::dom::parser parser;
    int count = 0;
    for (auto line : parser.parse_many(lines.data(), lines.size(), lines.size() + 64)) {
      if (!kSanitized || count % 8 == 0) check(simdjson::dom::object(line));
      ++count;
    }
    return count;
  }

  void check_decoding(simdjson::dom::object c, const std::vector<int32_t>& ids) {
    std::string_view decoded = c["decoded"], skipped = decoded;
    if (c["decoded_skip"].get(skipped)) skipped = decoded;
    EXPECT_EQ(tokenizer_->decode(ids), decoded);
    EXPECT_EQ(tokenizer_->decode(ids, true), skipped);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerGolden, EncodesAndDecodesAsTheLibrary) {
  int wrong = 0;
  int count = each_case("cases.jsonl.xz", [&](simdjson::dom::object c) {
    std::string_view text = c["text"], kind = c["kind"];
    bool special = false, split = false;
    if (c["add_special_tokens"].get(special)) special = false;
    if (c["split_special"].get(split)) split = false;
    auto expected = ids_of(c["ids"]);
    auto ids = tokenizer_->encode(text, special, split);
    if (ids != expected && ++wrong <= 5)
      ADD_FAILURE() << kind << ": " << testing::PrintToString(text.substr(0, 300)) << "\n got " << testing::PrintToString(ids) << "\n not "
                    << testing::PrintToString(expected);
    check_decoding(c, expected);
  });
  EXPECT_GE(count, 2000);
  EXPECT_EQ(wrong, 0);
}

TEST_P(TokenizerGolden, DecodesIdsThatNoTextGives) {
  EXPECT_EQ(each_case("decode.jsonl.xz", [&](simdjson::dom::object c) { check_decoding(c, ids_of(c["ids"])); }), 320);
}

TEST_P(TokenizerGolden, StreamsWhatItDecodes) {
  each_case("cases.jsonl.xz", [&](simdjson::dom::object c) {
    auto ids = ids_of(c["ids"]);
    if (ids.size() > 400) return;
    Detokenizer stream(*tokenizer_, false);
    std::string text;
    for (int32_t id : ids) text += stream.push(id);
    text += stream.finish();
    EXPECT_EQ(text, tokenizer_->decode(ids)) << testing::PrintToString(ids);
  });
}

// Prints MB/s (of processor time) and asks only for what any machine gives: hostile text must not cost out of all proportion.
TEST_P(TokenizerGolden, Speed) {
  if (kSanitized) GTEST_SKIP() << "measured in the plain build";
  auto repeated = [](std::string_view unit, size_t bytes) {
    std::string out;
    while (out.size() < bytes) out += unit;
    return out;
  };
  auto time = [&](const char* name, const std::string& text) {
    double seconds = 1e9;
    size_t n = 0;
    for (int k = 0; k < 3; ++k) {
      auto start = std::clock();
      n = tokenizer_->encode(text).size();
      seconds = std::min(seconds, seconds_since(start));
    }
    std::printf("%-8s %-8s %8zu bytes %8zu tokens %6.1f MB/s\n", GetParam(), name, text.size(), n, text.size() / 1e6 / seconds);
    EXPECT_GT(n, 0u);
    return seconds;
  };
  for (auto [name, file] : {std::pair("english", "wiki_demo.txt"), std::pair("chinese", "alpaca_zh_demo.json")}) {
    std::ifstream in(kShared / "data" / file);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.empty()) continue;
    if (*name == 'c') {  // the escapes of the JSON as text
      simdjson::dom::parser parser;
      std::string all;
      for (auto row : parser.parse(text).get_array())
        for (auto field : simdjson::dom::object(row)) all.append(field.value.get_string().value()).append("\n");
      text = all;
    }
    time(name, text);
  }
  std::ifstream in(fs::path(LORAINE_SOURCE_DIR) / "loraine/text/tokenizer/bpe.cpp");
  time("code", repeated(std::string{std::istreambuf_iterator<char>(in), {}}, 500'000));
  for (auto [name, unit] : {std::pair("spaces", " "), std::pair("a", "a"), std::pair("emoji", "\xF0\x9F\x98\x80"), std::pair("digits", "7"),
                            std::pair("marks", "e\xCC\x81\xCC\x82"), std::pair("mixed", "a  \n1\xE6\x97\xA5<|")}) {
    double small = time(name, repeated(unit, 100'000)), large = time(name, repeated(unit, 1'000'000));
    EXPECT_LT(large, 10 * small * 4 + 0.3) << name << ": a text ten times as long costs far more than ten times as much";
  }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerGolden, testing::Values("llama3", "qwen3", "llama2", "gemma3", "smollm2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace loraine::tokenizer_golden_test
