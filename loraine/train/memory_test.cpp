// Limits of cgroups as the kernel shows them, from folders that stand for /proc and /sys.
#include "loraine/train/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::memory_test {
namespace {

namespace fs = std::filesystem;

struct Root {
  std::string path = (fs::temp_directory_path() / ("loraine_cgroup_" + std::to_string(getpid()))).string();
  Root() { fs::remove_all(path); }
  ~Root() { fs::remove_all(path); }
  void file(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(path + name).parent_path());
    std::ofstream(path + name) << text;
  }
};

TEST(CgroupLimit, LowestOfTheGroupAndThoseAbove) {
  Root root;
  root.file("/proc/self/cgroup", "0::/a/b\n");
  root.file("/sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_FALSE(cgroup_limit(root.path));
  root.file("/sys/fs/cgroup/a/memory.max", "1073741824\n");
  ASSERT_TRUE(cgroup_limit(root.path));
  EXPECT_EQ(cgroup_limit(root.path)->bytes, 1u << 30);
  root.file("/sys/fs/cgroup/a/b/memory.max", "2147483648\n");
  EXPECT_EQ(cgroup_limit(root.path)->bytes, 1u << 30);
  root.file("/sys/fs/cgroup/memory.max", "4096\n");
  EXPECT_EQ(cgroup_limit(root.path)->bytes, 4096u);
  EXPECT_NE(cgroup_limit(root.path)->name.find("memory.max"), std::string::npos);
}

TEST(CgroupLimit, FirstVersionAndOtherControllers) {
  Root root;
  root.file("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/1\n0::/y\n");
  root.file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // a container sees its own group as the root
  EXPECT_EQ(cgroup_limit(root.path)->bytes, 9223372036854771712u);
  root.file("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "300000000\n");
  root.file("/sys/fs/cgroup/x/memory.max", "1\n");
  EXPECT_EQ(cgroup_limit(root.path)->bytes, 300000000u);
}

TEST(CgroupLimit, NothingToRead) {
  Root root;
  EXPECT_FALSE(cgroup_limit(root.path));
  root.file("/proc/self/cgroup", "garbage\n0::/\n:\n");
  EXPECT_FALSE(cgroup_limit(root.path));
}

TEST(MemoryLimit, TakesUnitsAndRefusesTheRest) {
  EXPECT_EQ(parse_memory_limit("2GB"), 2'000'000'000u);
  EXPECT_EQ(parse_memory_limit("1.5 GiB"), 3u << 29);
  EXPECT_EQ(parse_memory_limit("800m"), 800u << 20);
  EXPECT_EQ(parse_memory_limit("123456"), 123456u);
  for (const char* bad : {"", "GB", "0", "-1GB", "1.2.3GB", "2 apples", "1e3", "nan", "99999999999999999999TB"})
    EXPECT_THROW(parse_memory_limit(bad), Error) << bad;
}

}  // namespace
}  // namespace loraine::memory_test
