// Data sets from files on disk with a tokenizer of one id per byte; and the recorded samples of whole training runs.
#include "loraine/data/dataset.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool, bool) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const int32_t> ids, bool) const override { return {ids.begin(), ids.end()}; }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> id_to_token(int32_t) const override { return std::nullopt; }
  int64_t vocab_size() const override { return 300; }
  bool is_special(int32_t) const override { return false; }
  int32_t add_token(const std::string&, bool) override { return 299; }
};

struct Folder {
  std::filesystem::path path;
  Folder() {
    path = std::filesystem::temp_directory_path() /
           ("loraine_data_" + std::to_string(reinterpret_cast<uintptr_t>(this)) + std::to_string(::getpid()));
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name, std::ios::binary) << text; }
};

DataOptions options_for(const Folder& folder) {
  DataOptions options;
  options.datasets = {"d"};
  options.dataset_dir = folder.path.string();
  options.template_name = "empty";
  return options;
}

std::string message_of(const DataOptions& options, ErrorKind kind) {
  ByteTokenizer tokenizer;
  SpecialTokens special;
  try {
    open_data(options, &tokenizer, nullptr, special);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind, kind) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Dataset, AlpacaRows) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"}\r\n\n{\"instruction\":\"x\",\"output\":null}\n");
  ByteTokenizer tokenizer;
  SpecialTokens special;
  const DataSplit data = open_data(options_for(folder), &tokenizer, nullptr, special);
  ASSERT_EQ(data.train.examples.size(), 1u);
  EXPECT_EQ(data.train.examples[0].input_ids, (std::vector<int32_t>{'a', '\n', 'b', 'c'}));
  EXPECT_EQ(data.train.examples[0].labels, (std::vector<int32_t>{-100, -100, -100, 'c'}));
  EXPECT_EQ(data.train.num_rows, 2);
  EXPECT_EQ(data.train.num_dropped, 1);
  EXPECT_EQ(data.train.num_trained, 1);
}

TEST(Dataset, BadRowsAreNamed) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"c\"}\n{\"instruction\":7,\"output\":\"c\"}\n");
  const std::string wrong_type = message_of(options_for(folder), ErrorKind::bad_data);
  EXPECT_NE(wrong_type.find("d.jsonl, line 2"), std::string::npos) << wrong_type;
  EXPECT_NE(wrong_type.find("`instruction`"), std::string::npos) << wrong_type;
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"c\"}\n{\"instruction\":\n");
  EXPECT_NE(message_of(options_for(folder), ErrorKind::bad_data).find("line 2"), std::string::npos);
  auto skip = options_for(folder);
  skip.skip_bad_rows = true;
  ByteTokenizer tokenizer;
  SpecialTokens special;
  EXPECT_EQ(open_data(skip, &tokenizer, nullptr, special).train.num_dropped, 1);
  auto unknown = options_for(folder);
  unknown.datasets = {"nothing"};
  message_of(unknown, ErrorKind::usage);
}

TEST(Dataset, TokenizedNeedsNoTokenizer) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.json", "formatting": "tokenized"}})");
  folder.write("d.json", R"([{"input_ids":[1,2,3],"labels":[-100,2,3]},{"input_ids":[4],"labels":[4]}])");
  auto options = options_for(folder);
  options.cutoff_len = 2;
  SpecialTokens special;
  const DataSplit data = open_data(options, nullptr, nullptr, special);
  ASSERT_EQ(data.train.examples.size(), 2u);
  EXPECT_EQ(data.train.examples[0].labels, (std::vector<int32_t>{-100, 2}));
  EXPECT_EQ(data.train.num_truncated, 1);
  folder.write("d.json", R"([{"input_ids":[1,2,3],"labels":[-100,2]}])");
  EXPECT_NE(message_of(options, ErrorKind::bad_data).find("row 1"), std::string::npos);
}

TEST(Encode, KeptLengths) {
  EXPECT_EQ(kept_lengths(10, 10, 100), (std::pair<int64_t, int64_t>{10, 10}));
  EXPECT_EQ(kept_lengths(100, 100, 50), (std::pair<int64_t, int64_t>{25, 25}));
  EXPECT_EQ(kept_lengths(10, 100, 50), (std::pair<int64_t, int64_t>{10, 40}));
  EXPECT_EQ(kept_lengths(100, 10, 50), (std::pair<int64_t, int64_t>{40, 10}));
}

}  // namespace
}  // namespace loraine
