// Tokenizers without tokenizer.json against SentencePiece, tiktoken, mistral_common and transformers: the folders of
// tests/golden/tokenizers, which make_tokenizer_cases.py made, and those of LORAINE_TOKENIZER_CASES (large ones that are not in the
// repository).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "loraine/io/hub/hub.h"
#include "loraine/io/model_files.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

std::vector<fs::path> case_folders() {
  std::vector<fs::path> folders;
  const char* more = std::getenv("LORAINE_TOKENIZER_CASES");
  for (const fs::path& root : {fs::path(LORAINE_SOURCE_DIR) / "tests/golden/tokenizers", fs::path(more ? more : "")})
    if (fs::is_directory(root))
      for (const auto& entry : fs::directory_iterator(root)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

TEST(TokenizerFiles, GiveTheIdsAndTextsOfTheLibraries) {
  size_t folders = 0;
  for (const fs::path& folder : case_folders()) {
    ++folders;
    const ModelFiles files = open_text_files(folder.string(), HubAccess());
    ASSERT_TRUE(files.tokenizer_json) << folder << ": " << files.tokenizer_note;
    const auto tokenizer = Tokenizer::from_json(*files.tokenizer_json, folder.string());
    std::ifstream lines(folder / "cases.jsonl");
    int count = 0, wrong = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const Json expected = Json::parse(line);
      const Ids ids = expected["ids"].get<Ids>();
      bool right = tokenizer->decode(ids) == expected["decoded"].get<std::string>();
      Ids got = ids;
      if (expected.contains("text")) {
        got = tokenizer->encode(expected["text"].get<std::string>());
        right = right && got == ids;
        if (expected.contains("around"))
          right = right && tokenizer->encode(expected["text"].get<std::string>(), true) == expected["around"].get<Ids>();
      }
      if (!right && ++wrong <= 5)
        ADD_FAILURE() << folder << ": " << expected.dump() << "\n got " << testing::PrintToString(got) << "\n and "
                      << testing::PrintToString(tokenizer->encode(expected.value("text", ""), true)) << "\n and "
                      << testing::PrintToString(tokenizer->decode(ids));
    }
    std::cout << folder.filename().string() << ": " << count - wrong << " of " << count << " as the library\n";
    EXPECT_GT(count, 100) << folder;
    EXPECT_EQ(wrong, 0) << folder;
  }
  EXPECT_GE(folders, 8u);
}

}  // namespace
}  // namespace loraine
