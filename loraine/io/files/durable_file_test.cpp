// Files that appear whole, or not.
#include "loraine/io/files/durable_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/core/error.h"

namespace loraine::durable_file_test {
namespace {

std::string folder() {
  static std::string made = [] {
    char name[] = "/tmp/loraine_durable_file_XXXXXX";
    return std::string(mkdtemp(name));
  }();
  return made;
}

TEST(DurableFile, AppearsOnlyWhenCommitted) {
  std::string path = folder() + "/durable.txt";
  {
    DurableFile file(path);
    file.write("half", 4);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  write_file(path, "one");
  write_file(path, "two");
  EXPECT_EQ(read_file(path), "two");
  EXPECT_THROW(read_file(path, 2), Error);
  for (const auto& entry : std::filesystem::directory_iterator(folder())) EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos);
  try {
    write_file(folder() + "/absent/file", "x");
    ADD_FAILURE();
  } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::io); }
}

}  // namespace
}  // namespace loraine::durable_file_test
