// How much memory there is and how much is used, from /proc and the cgroup. Called by plan() and
// by evaluation.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

namespace loraine {

struct MemoryLimit {
  size_t bytes;
  std::string name;
};
// The lowest limit of the process's cgroup and all above it, v1 and v2. `root` stands before /proc and /sys (tests).
std::optional<MemoryLimit> cgroup_limit(const std::string& root = "");
size_t resident_size();       // bytes of this process in memory; 0 when unknown
size_t peak_resident_size();  // the most it has been since it began
// "800MiB", "2GB", "1.5 GiB", "4000000000": bytes. Throws usage for anything else.
size_t parse_memory_limit(const std::string& text);

struct MemoryNeed {
  size_t peak;  // bytes resident at the highest
  size_t more;  // bytes of address space to come
};
// Whether the need stays below memory_limit (when given), the cgroup's limit, the machine's memory and ulimit -v. check_memory throws
// out_of_memory otherwise, with the hint that `advice` gives for that many missing bytes.
bool memory_fits(const MemoryNeed& need, std::optional<size_t> memory_limit);
void check_memory(const MemoryNeed& need, std::optional<size_t> memory_limit, const std::function<std::string(size_t)>& advice);

}  // namespace loraine
