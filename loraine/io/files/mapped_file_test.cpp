// Mapped files: what may be mapped, and a file that is cut while it is in use.
#include "loraine/io/files/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "loraine/core/error.h"

namespace loraine::mapped_file_test {
namespace {

struct MappedFileTest : testing::Test {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("loraine_mapped_" + std::to_string(::getpid()));
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string file(const std::string& name, size_t bytes) {
    std::ofstream(folder / name, std::ios::binary) << std::string(bytes, 'x');
    return folder / name;
  }
};

TEST_F(MappedFileTest, CutWhileMappedReadsZerosAndIsNamed) {
  const size_t bytes = 1 << 20;
  std::string path = file("cut", bytes);
  auto mapped = std::make_unique<MappedFile>(path);
  const MappedFile whole(file("whole", bytes));
  check_mapped_files();
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  const volatile unsigned char* data = mapped->data();
  EXPECT_EQ(data[4000], 'x');
  EXPECT_EQ(data[bytes - 1], 0);
  EXPECT_EQ(data[bytes / 2], 0);
  EXPECT_EQ(data[4000], 'x');
  EXPECT_EQ(whole.data()[bytes - 1], 'x');
  try {
    check_mapped_files();
    FAIL() << "the cut was not noticed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos);
  }
  mapped.reset();
  check_mapped_files();  // nothing that is still mapped is damaged
}

TEST_F(MappedFileTest, ReleasesMappingsAndLeavesOtherMemoryAlone) {
  const size_t bytes = 1 << 20;
  const MappedFile mapped(file("released", bytes));
  release_if_mapped(mapped.data(), bytes);
  EXPECT_EQ(mapped.data()[bytes / 2], 'x');  // read from the file again
  std::vector<char> own(bytes, 'y');
  release_if_mapped(own.data(), bytes);
  EXPECT_EQ(own, std::vector<char>(bytes, 'y'));
}

TEST_F(MappedFileTest, RefusesWhatIsNotAFile) {
  std::string fifo = folder / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {fifo, folder.string(), std::string("/dev/zero"), (folder / "absent").string()})
    EXPECT_THROW(MappedFile{path}, Error) << path;
  EXPECT_EQ(MappedFile(file("empty", 0)).data(), nullptr);
}

}  // namespace
}  // namespace loraine::mapped_file_test
