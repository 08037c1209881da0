// Grammars beside jsonschema's verdicts (tests/golden/grammar, made by make_grammar_cases.py), and masks over real tokenizers beside a slow
// reference that tries every token.
#include "loraine/grammar/grammar.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "loraine/io/hub/hub.h"
#include "loraine/io/model_files.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine::grammar {
namespace {

namespace fs = std::filesystem;
using Document = nlohmann::ordered_json;

std::vector<Document> cases() {
  std::ifstream in(fs::path(LORAINE_SOURCE_DIR) / "tests/golden/grammar/schemas.jsonl");
  std::vector<Document> out;
  for (std::string line; std::getline(in, line);) out.push_back(Document::parse(line));
  return out;
}

std::shared_ptr<const Vocabulary> bytes_alone() {
  std::vector<TokenBytes> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
  tokens.push_back({"</s>", true});
  return std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{256});
}

TEST(GrammarGolden, SchemasTakeWhatJsonschemaTakes) {
  const auto vocabulary = bytes_alone();
  int schemas = 0, taken = 0, refused = 0, wrong = 0;
  double slowest = 0;
  for (const Document& each : cases()) {
    ++schemas;
    const auto start = std::chrono::steady_clock::now();
    const auto masks = std::make_shared<const TokenGrammar>(json_schema(each["schema"].dump()), vocabulary);
    slowest = std::max(slowest, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    for (const Document& document : each["documents"]) {
      const auto text = document[0].get<std::string>();
      GrammarState state(masks);
      const bool takes = state.accept_text(text) && state.complete(), valid = document[1], canonical = document[2];
      ++(takes ? taken : refused);
      if ((takes && !valid) || (canonical && !takes))
        if (++wrong <= 5) ADD_FAILURE() << (takes ? "takes " : "refuses ") << text << "\nof " << each["schema"].dump();
    }
  }
  std::cout << schemas << " schemas, " << taken << " documents taken, " << refused << " refused, slowest to compile " << slowest << " ms\n";
  EXPECT_EQ(schemas, 1000);
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(taken, 2000);
  EXPECT_GT(refused, 2000);
}

// What the decoder makes of a token between others is what its bytes say.
TEST(GrammarGolden, BytesOfTokensAreWhatTheyDecodeTo) {
  int tokenizers = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(LORAINE_SOURCE_DIR) / "tests/golden/tokenizers")) {
    const ModelFiles files = open_text_files(entry.path().string(), HubAccess());
    const auto tokenizer = Tokenizer::from_json(*files.tokenizer_json, entry.path().string());
    const std::vector<TokenBytes> tokens = vocabulary_tokens(*tokenizer);
    std::mt19937 random(1);
    ++tokenizers;
    for (int round = 0; round < 300; ++round) {
      std::vector<int32_t> ids;
      std::string bytes;
      for (int i = 0; i < 5; ++i) {
        ids.push_back(static_cast<int32_t>(random() % tokens.size()));
        bytes += tokens[static_cast<size_t>(ids.back())].bytes;
      }
      std::string text = tokenizer->decode(ids);
      if (text.find("\xEF\xBF\xBD") != text.npos) continue;  // a part of a character was repaired
      if (tokenizer->drops_first_space() && bytes.starts_with(" ")) bytes.erase(0, 1);
      ASSERT_EQ(text, bytes) << entry.path() << testing::PrintToString(ids);
    }
  }
  EXPECT_GE(tokenizers, 8);
}

TEST(GrammarGolden, MasksOfRealVocabulariesAreThoseOfTheSlowReference) {
  const std::vector<Document> all = cases();
  std::mt19937 random(3);
  int states = 0;
  for (const char* name : {"llama", "qwen_tiktoken", "gemma"}) {
    const fs::path folder = fs::path(LORAINE_SOURCE_DIR) / "tests/golden/tokenizers" / name;
    const ModelFiles files = open_text_files(folder.string(), HubAccess());
    const auto tokenizer = Tokenizer::from_json(*files.tokenizer_json, folder.string());
    const std::vector<TokenBytes> tokens = vocabulary_tokens(*tokenizer);
    const auto vocabulary = std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{static_cast<int32_t>(tokens.size() - 1)},
                                                               tokenizer->drops_first_space());
    std::vector<uint64_t> bits(vocabulary->words());
    for (int round = 0; round < 12; ++round) {
      GrammarState state(std::make_shared<const TokenGrammar>(json_schema(all[random() % all.size()]["schema"].dump()), vocabulary));
      for (int step = 0; step < 12; ++step, ++states) {
        state.fill(bits);
        std::vector<int32_t> ids;
        for (int32_t id = 0; id < static_cast<int32_t>(tokens.size()); ++id) {
          GrammarState copy = state;
          const bool allowed = (bits[static_cast<size_t>(id) / 64] >> (id & 63) & 1) != 0;
          ASSERT_EQ(copy.accept(id), allowed) << name << ", token " << id;
          if (allowed) ids.push_back(id);
        }
        ASSERT_FALSE(ids.empty());
        const int32_t id = ids[random() % ids.size()];
        ASSERT_TRUE(state.accept(id));
        if (vocabulary->is_end(id)) break;
      }
    }
  }
  EXPECT_GE(states, 200);
}

}  // namespace
}  // namespace loraine::grammar
