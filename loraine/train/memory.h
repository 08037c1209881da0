// How much memory there is and how much is used, from /proc and the cgroup. Called by plan().
#pragma once
#include <cstddef>
#include <optional>
#include <string>

namespace loraine {

struct MemoryLimit {
  size_t bytes;
  std::string name;
};
// The lowest limit of the process's cgroup and all above it, v1 and v2. `root` stands before /proc and /sys (tests).
std::optional<MemoryLimit> cgroup_limit(const std::string& root = "");
size_t resident_size();  // bytes of this process in memory; 0 when unknown
// out_of_memory when `peak` bytes resident exceed the cgroup's limit or the machine's memory, or `more` bytes of address space exceed
// ulimit -v; names what would help.
void check_memory(size_t peak, size_t more);

}  // namespace loraine
