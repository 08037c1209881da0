// loraine.json there and back, and broken.
#include "loraine/io/training_record.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::training_record_test {
namespace {

struct Folder {
  std::string path = (std::filesystem::temp_directory_path() / ("loraine_record_" + std::to_string(getpid()))).string();
  Folder() { make_folders(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

TEST(TrainingRecord, ThereAndBack) {
  const Folder folder;
  EXPECT_FALSE(read_training_record(folder.path));
  const TrainingRecord records[] = {
      {}, {"alpaca", "Be \"kind\".\n友善。", false, "0123abcd"}, {"qwen3", {}, std::nullopt, ""}, {"qwen3", {}, true, "", "llama3", true}};
  for (const TrainingRecord& record : records) {
    write_training_record(record, folder.path);
    const auto back = read_training_record(folder.path);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->template_name, record.template_name);
    EXPECT_EQ(back->default_system, record.default_system);
    EXPECT_EQ(back->enable_thinking, record.enable_thinking);
    EXPECT_EQ(back->base_fingerprint, record.base_fingerprint);
    EXPECT_EQ(back->tool_format, record.tool_format);
    EXPECT_EQ(back->preserve_thinking, record.preserve_thinking);
  }
}

TEST(TrainingRecord, UnknownKeysAreLeft) {
  const Folder folder;
  write_file(folder.path + "/loraine.json", R"({"later": [1], "template": "vicuna"})");
  EXPECT_EQ(read_training_record(folder.path)->template_name, "vicuna");
}

TEST(TrainingRecord, BrokenOnes) {
  const Folder folder;
  for (const char* text : {"", "[]", "{", R"({"template": 3})", R"({"enable_thinking": "yes"})", R"({"base_fingerprint": {}})",
                           R"({"tool_format": 3})", R"({"preserve_thinking": null})"}) {
    write_file(folder.path + "/loraine.json", text);
    EXPECT_THROW(read_training_record(folder.path), Error) << text;
  }
}

}  // namespace
}  // namespace loraine::training_record_test
