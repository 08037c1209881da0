// Limits on memory: ulimit -v, cgroup v2 and v1, the machine.
#include "loraine/train/memory.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <string>

#include "loraine/core/error.h"

namespace loraine {
namespace {

struct Statm {
  size_t total = 0, resident = 0;
};

Statm statm() {
  std::ifstream file("/proc/self/statm");
  size_t total = 0, resident = 0;
  file >> total >> resident;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return {total * page, resident * page};
}

std::optional<size_t> number_in(const std::string& path) {  // "max" and an absent file give nothing
  std::ifstream file(path);
  size_t value = 0;
  if (file >> value) return value;
  return {};
}

void keep_lower(std::optional<MemoryLimit>& lowest, std::optional<size_t> bytes, const std::string& name) {
  if (bytes && (!lowest || *bytes < lowest->bytes)) lowest = MemoryLimit{*bytes, name};
}

std::string mib(size_t bytes) { return fmt::format("{} MiB", (bytes + (1 << 20) - 1) >> 20); }

[[noreturn]] void does_not_fit(size_t needed, size_t limit, const std::string& name) {
  throw Error(ErrorKind::out_of_memory, fmt::format("this run needs {} of memory, {} is {}", mib(needed), name, mib(limit)),
              "a smaller per_device_train_batch_size (with more gradient_accumulation_steps), cutoff_len, per_device_eval_batch_size or "
              "lora_rank needs less");
}

}  // namespace

std::optional<MemoryLimit> cgroup_limit(const std::string& root) {
  std::optional<MemoryLimit> lowest;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool v1 = ("," + controllers + ",").find(",memory,") != std::string::npos;
    if (!controllers.empty() && !v1) continue;
    const std::string mount = root + (v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup"),
                      file = v1 ? "/memory.limit_in_bytes" : "/memory.max";
    for (;;) {
      keep_lower(lowest, number_in(mount + (path == "/" ? "" : path) + file), "the cgroup's limit (" + file.substr(1) + ")");
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/') == path.npos ? 0 : path.rfind('/'));
    }
  }
  return lowest;
}

// Address space for code made at run time, heaps of threads, writers.
constexpr size_t kOwnRoom = 24u << 20;

size_t resident_size() { return statm().resident; }

void check_memory(size_t peak, size_t more) {
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const size_t needed = statm().total + more + kOwnRoom;
    if (needed > space.rlim_cur) does_not_fit(needed, space.rlim_cur, "the limit of address space (ulimit -v)");
  }
  std::optional<MemoryLimit> limit = cgroup_limit();
  const size_t physical = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  keep_lower(limit, physical, "the machine's memory");
  if (limit && peak > limit->bytes) does_not_fit(peak, limit->bytes, limit->name);
}

}  // namespace loraine
