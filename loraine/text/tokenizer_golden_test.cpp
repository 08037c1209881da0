// Ids and text of five real tokenizers against the `tokenizers` library (cases under ../shared; skipped where they are absent).
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iostream>

#include "loraine/text/tokenizer.h"

namespace loraine {
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
      check(simdjson::dom::object(line));
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

TEST_P(TokenizerGolden, Speed) {
  std::string text;
  each_case("cases.jsonl.xz", [&](simdjson::dom::object c) {
    std::string_view kind = c["kind"], part = c["text"];
    if (kind == "data" || kind == "data-raw" || kind == "english") text.append(part).append("\n");
  });
  while (text.size() < 2'000'000) text += std::string(text);
  for (const std::string& sample : {text, std::string(1'000'000, ' '), std::string(1'000'000, 'a')}) {
    auto start = std::clock();
    size_t n = tokenizer_->encode(sample).size();
    std::cout << GetParam() << ": " << sample.size() << " bytes, " << n << " tokens, " << sample.size() / 1e6 / seconds_since(start)
              << " MB/s\n";
    EXPECT_GT(n, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerGolden, testing::Values("llama3", "qwen3", "llama2", "gemma3", "smollm2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace loraine
