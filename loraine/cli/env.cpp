// `loraine env`: the program, its machine, its libraries and the caches, as lines to paste into a report, or as JSON.
#include <cairo.h>
#include <dnnl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gnu/libc-version.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sched.h>
#include <simdjson.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utf8proc.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "loraine/cli/commands.h"
#include "loraine/core/context.h"
#include "loraine/core/error.h"
#include "loraine/io/hub/environment.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/train/memory.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
#ifdef __clang__
constexpr const char* kCompiler = "";  // its version says its name
#else
constexpr const char* kCompiler = "GCC ";
#endif

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "model name : X" of /proc/cpuinfo and the like; empty where it is not there.
std::string value_in(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == line.npos) continue;
    const std::string name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    if (name == key) return begin == line.npos ? "" : line.substr(begin);
  }
  return {};
}

std::string gib(double bytes) { return fmt::format("{:.1f} GiB", bytes / (1 << 30)); }

std::string memory_of_machine(const char* key) {  // "24123456 kB"
  const double kb = std::strtod(value_in("/proc/meminfo", key).c_str(), nullptr);
  return kb > 0 ? gib(kb * 1024) : "unknown";
}

// Those of the processor's flags that the kernels ask for.
std::string instructions() {
  static const char* kWanted[] = {"sse4_2",      "avx",         "avx2",        "fma",      "f16c",     "avx512f",  "avx512bw", "avx512vl",
                                  "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"};
  std::istringstream flags(value_in("/proc/cpuinfo", "flags"));
  std::vector<std::string> has, found;
  for (std::string flag; flags >> flag;) has.push_back(flag);
  for (const char* flag : kWanted)
    if (std::ranges::find(has, flag) != has.end()) found.push_back(flag);
  return found.empty() ? "unknown" : fmt::format("{}", fmt::join(found, " "));
}

std::string cores() {
  cpu_set_t set;
  const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
  std::string text = fmt::format("{} of {}, {} threads", allowed, sysconf(_SC_NPROCESSORS_ONLN), thread_count());
  std::istringstream quota(first_line("/sys/fs/cgroup/cpu.max"));
  double time = 0, period = 0;
  if (quota >> time >> period && period > 0) text += fmt::format(", the cgroup allows {:.2g}", time / period);
  return text;
}

std::string libraries() {
  const dnnl_version_t* dnnl = dnnl_version();
  char pcre2[64] = {};
  pcre2_config_8(PCRE2_CONFIG_VERSION, pcre2);
  const std::vector<std::string> all = {
      fmt::format("oneDNN {}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch),
      fmt::format("OpenMP {}", _OPENMP),
      "Highway " LORAINE_HWY_VERSION,
      fmt::format("fmt {}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100),
      fmt::format("nlohmann-json {}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH),
      "simdjson " + std::to_string(simdjson::SIMDJSON_VERSION_MAJOR) + "." + std::to_string(simdjson::SIMDJSON_VERSION_MINOR) + "." +
          std::to_string(simdjson::SIMDJSON_VERSION_REVISION),
      "yaml-cpp " LORAINE_YAML_VERSION,
      fmt::format("PCRE2 {}", pcre2),
      fmt::format("utf8proc {}", utf8proc_version()),
      fmt::format("zlib {}", zlibVersion()),
      fmt::format("zstd {}", ZSTD_versionString()),
      fmt::format("Cairo {}", cairo_version_string()),
      "libedit " LORAINE_EDIT_VERSION,
      fmt::format("glibc {}", gnu_get_libc_version()),
  };
  return fmt::format("{}", fmt::join(all, ", "));
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// The folder and how many models it holds. `beginning`: of the names of their folders.
std::string cache(const fs::path& folder, const std::string& beginning) {
  std::error_code failed;
  int count = 0;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed))
    count += it->path().filename().string().starts_with(beginning);
  return failed ? fmt::format("{} (not there)", folder.string()) : fmt::format("{} ({} models)", folder.string(), count);
}

// Variables that change what the program does; what they hold is shown, of passwords only that they are set.
std::string variables() {
  static const char* kNames[] = {
      "OMP_NUM_THREADS",  "HF_HOME",          "HF_HUB_CACHE", "HF_ENDPOINT",   "HF_HUB_OFFLINE",      "USE_MODELSCOPE_HUB",
      "MODELSCOPE_CACHE", "ALLOW_EXTRA_ARGS", "USE_V1",       "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "SWANLAB_PROJECT",
      "LC_ALL",           "LC_MESSAGES",      "LANG",         "HF_TOKEN",      "WANDB_API_KEY",       "MODELSCOPE_API_TOKEN"};
  std::vector<std::string> set;
  for (const std::string name : kNames)
    if (const std::string value = environment(name.c_str()); !value.empty())
      set.push_back(name.ends_with("TOKEN") || name.ends_with("KEY") ? name + " (set)" : name + "=" + value);
  return set.empty() ? "none" : fmt::format("{}", fmt::join(set, ", "));
}

}  // namespace

int run_env(const std::vector<std::string>& args) {
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    std::fputs(example_text("env").c_str(), stdout);
    return 0;
  }
  const bool json = args.size() == 1 && args[0] == "--json";
  if (!args.empty() && !json)
    throw Error(ErrorKind::usage, fmt::format("env takes no settings but --json, '{}' was given", args[0]), "write: loraine env");
  utsname system{};
  uname(&system);
  const std::string cpu = value_in("/proc/cpuinfo", "model name");
  std::ifstream release("/etc/os-release");
  std::string pretty;
  for (std::string line; std::getline(release, line);)
    if (line.starts_with("PRETTY_NAME=")) pretty = line.substr(12);
  std::erase(pretty, '"');
  const std::optional<MemoryLimit> limit = cgroup_limit();
  nlohmann::ordered_json all;
  const auto line = [&](const char* what, const std::string& text) {
    if (!json) std::fputs(fmt::format("- {}: {}\n", what, text).c_str(), stdout);
    std::string key;
    for (const char* c = what; *c; ++c)
      if (*c != '`') key += *c == ' ' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
    all[key] = text;
  };
  line("`loraine` version", version_text());
  line("Compiler", std::string(kCompiler) + __VERSION__);
  line("Platform", fmt::format("{} {} {}{}", system.sysname, system.release, system.machine, pretty.empty() ? "" : ", " + pretty));
  line("CPU", cpu.empty() ? "unknown" : cpu);
  line("Instructions", fmt::format("{} (oneDNN uses {})", instructions(), instruction_set()));
  line("Cores", cores());
  line("Memory", fmt::format("{}, {} available", memory_of_machine("MemTotal"), memory_of_machine("MemAvailable")));
  line("Memory limit of the cgroup", limit && limit->bytes < size_t{1} << 60 ? gib(static_cast<double>(limit->bytes)) : "none");
  line("Accelerator", "none is used: loraine computes on the CPU");
  line("Libraries", libraries());
  line("Hugging Face cache", cache(cache_root(Hub::hugging_face, {}), "models--"));
  line("ModelScope cache", cache(cache_root(Hub::modelscope, {}) / "models", ""));
  line("Variables", variables());
  if (json) std::fputs((all.dump(2) + "\n").c_str(), stdout);
  return 0;
}

}  // namespace loraine
