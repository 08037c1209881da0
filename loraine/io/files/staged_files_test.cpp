// Files that appear together, or not at all.
#include "loraine/io/files/staged_files.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::staged_files_test {
namespace {

namespace fs = std::filesystem;

std::string fresh_folder() {
  const std::string path = testing::TempDir() + "/loraine_staged_files";
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::vector<std::string> files_of(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) names.push_back(entry.path().lexically_relative(folder).string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_three(const std::string& folder, const std::string& content) {
  write_file(folder + "/config.json", content);
  write_file(folder + "/model.safetensors", content);
  make_folders(folder + "/more");
  write_file(folder + "/more/readme", content);
}
const std::vector<std::string> kThree = {"config.json", "model.safetensors", "more", "more/readme"};

TEST(StagedFiles, AppearTogether) {
  const std::string folder = fresh_folder() + "/a/b";
  {
    StagedFiles files(folder);
    write_three(files.path(), "new");
    EXPECT_FALSE(fs::exists(folder + "/config.json"));
  }
  EXPECT_FALSE(fs::exists(fresh_folder() + "/a"));  // made for them alone
  {
    StagedFiles files(folder);
    write_three(files.path(), "new");
    files.commit();
    EXPECT_THROW(files.commit(), Error);
  }
  EXPECT_EQ(files_of(folder), kThree);
  StagedFiles files(folder);
  write_three(files.path(), "newer");
  files.commit();
  EXPECT_EQ(files_of(folder), kThree);
  EXPECT_EQ(read_file(folder + "/more/readme"), "newer");
}

TEST(StagedFiles, OneThatCannotBePutInPlaceTakesTheOthersBack) {
  const std::string folder = fresh_folder();
  fs::create_directories(folder + "/config.json/in the way");
  StagedFiles files(folder);
  write_three(files.path(), "new");
  try {
    files.commit();
    ADD_FAILURE();
  } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::io); }
  EXPECT_FALSE(fs::exists(folder + "/model.safetensors"));
  EXPECT_FALSE(fs::exists(folder + "/more"));
}

TEST(StagedFiles, WhatKilledProcessesLeftIsSettled) {
  const std::string folder = fresh_folder();
  write_file(folder + "/model.safetensors", "moved before the kill");
  make_folders(folder + "/.loraine-1-0.complete/more");
  write_file(folder + "/.loraine-1-0.complete/more/readme", "new");
  write_file(folder + "/.loraine-1-0.complete/config.json", "new");
  make_folders(folder + "/.loraine-1-1.staged");
  write_file(folder + "/.loraine-1-1.staged/model.safetensors", "half");
  StagedFiles alive(folder);  // settles them
  EXPECT_EQ(read_file(folder + "/model.safetensors"), "moved before the kill");
  EXPECT_EQ(read_file(folder + "/more/readme"), "new");
  EXPECT_TRUE(fs::exists(folder + "/config.json"));
  EXPECT_FALSE(fs::exists(folder + "/.loraine-1-1.staged"));
  settle_staged_files(folder);
  EXPECT_TRUE(fs::exists(alive.path()));  // its writer lives
  settle_staged_files(folder + "/absent");
}

}  // namespace
}  // namespace loraine::staged_files_test
