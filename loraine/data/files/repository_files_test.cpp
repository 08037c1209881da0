#include "loraine/data/files/repository_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::repository_files_test {
namespace {

namespace fs = std::filesystem;

struct Repository {
  fs::path path = fs::temp_directory_path() / ("loraine_repository_" + std::to_string(::getpid()));
  explicit Repository(const std::vector<std::string>& files) {
    fs::remove_all(path);
    for (const std::string& file : files) {
      fs::create_directories((path / file).parent_path());
      std::ofstream(path / file) << "{}\n";
    }
  }
  ~Repository() { fs::remove_all(path); }
  std::string chosen(const std::string& split, const std::string& subset = "", const std::string& inside = "") const {
    DatasetInfo info;
    info.file_name = path.string();
    info.split = split;
    info.subset = subset;
    info.inside = inside;
    std::string all;
    for (const std::string& file : repository_files(info)) all += fs::path(file).lexically_relative(path).string() + " ";
    return all;
  }
};

TEST(RepositoryFiles, SplitsByName) {
  const Repository files({"README.md", "dataset_info.json", "data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet",
                          "data/test-0.parquet", "data/valid.jsonl", ".hidden/train.jsonl"});
  EXPECT_EQ(files.chosen("train"), "data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet ");
  EXPECT_EQ(files.chosen("test"), "data/test-0.parquet ");
  EXPECT_EQ(files.chosen("validation"), "data/valid.jsonl ");
  EXPECT_THROW(files.chosen("other"), Error);
  EXPECT_THROW(files.chosen("train[:10%]"), Error);
}

TEST(RepositoryFiles, SubsetsAndFolders) {
  const Repository files({"en/train.jsonl", "de/train.jsonl", "de/test.jsonl", "more/x/train.csv"});
  EXPECT_EQ(files.chosen("train", "de"), "de/train.jsonl ");
  EXPECT_EQ(files.chosen("train", "", "more"), "more/x/train.csv ");
  EXPECT_THROW(files.chosen("train", "fr"), Error);
}

TEST(RepositoryFiles, WithoutSplitsAllIsTraining) {
  EXPECT_EQ(Repository({"b.jsonl", "a.jsonl"}).chosen("train"), "a.jsonl b.jsonl ");
  EXPECT_EQ(Repository({"constrained.jsonl"}).chosen("train"), "constrained.jsonl ");
  EXPECT_THROW(Repository({"test.jsonl", "dev.jsonl"}).chosen("train"), Error);
  EXPECT_THROW(Repository({"README.md"}).chosen("train"), Error);
}

}  // namespace
}  // namespace loraine::repository_files_test
