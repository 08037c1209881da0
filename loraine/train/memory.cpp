// Limits on memory: ulimit -v, cgroup v2 and v1, the machine.
#include "loraine/train/memory.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

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

struct Shortage {
  size_t needed;
  MemoryLimit limit;
};

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

size_t peak_resident_size() {
  std::ifstream file("/proc/self/status");  // getrusage counts what ran in the process before exec, too
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) << 10;
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<size_t>(usage.ru_maxrss) * 1024 : 0;
}

size_t parse_memory_limit(const std::string& text) {
  static const std::pair<const char*, double> units[] = {{"", 1},         {"b", 1},      {"k", 0x1p10},   {"kb", 1e3},    {"kib", 0x1p10},
                                                         {"m", 0x1p20},   {"mb", 1e6},   {"mib", 0x1p20}, {"g", 0x1p30},  {"gb", 1e9},
                                                         {"gib", 0x1p30}, {"t", 0x1p40}, {"tb", 1e12},    {"tib", 0x1p40}};
  size_t digits = 0;
  while (digits < text.size() && (std::isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.')) ++digits;
  std::string unit = text.substr(digits);
  unit.erase(0, unit.find_first_not_of(' '));
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + digits, number);
  const auto* known = std::find_if(std::begin(units), std::end(units), [&](const auto& u) { return unit == u.first; });
  const double bytes = known == std::end(units) ? 0 : number * known->second;
  if (failed != std::errc() || end != text.data() + digits || !(bytes >= 1 && bytes < 0x1p62))
    throw Error(ErrorKind::usage, "memory_limit is '" + text + "', expected a size above 0", "write it like 800MiB or 2GB");
  return static_cast<size_t>(bytes);
}

namespace {

// The limit that the need goes beyond, if any.
std::optional<Shortage> find_shortage(const MemoryNeed& need, std::optional<size_t> memory_limit) {
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const size_t needed = statm().total + need.more + kOwnRoom;
    if (needed > space.rlim_cur) return Shortage{needed, {space.rlim_cur, "the limit of address space (ulimit -v)"}};
  }
  std::optional<MemoryLimit> limit = cgroup_limit();
  keep_lower(limit, static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE)), "the machine's memory");
  keep_lower(limit, memory_limit, "memory_limit");
  if (limit && need.peak > limit->bytes) return Shortage{need.peak, *limit};
  return {};
}

}  // namespace

bool memory_fits(const MemoryNeed& need, std::optional<size_t> memory_limit) { return !find_shortage(need, memory_limit); }

void check_memory(const MemoryNeed& need, std::optional<size_t> memory_limit, const std::function<std::string(size_t)>& advice) {
  const std::optional<Shortage> shortage = find_shortage(need, memory_limit);
  if (!shortage) return;
  throw Error(ErrorKind::out_of_memory,
              fmt::format("this run needs {} of memory, {} is {}", mib(shortage->needed), shortage->limit.name, mib(shortage->limit.bytes)),
              advice(shortage->needed - shortage->limit.bytes));
}

}  // namespace loraine
