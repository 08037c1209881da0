// `loraine version`.
#include <cstdio>

#include "loraine/cli/commands.h"

namespace loraine {

std::string version_text() { return "0.1.0"; }

int run_version(const std::vector<std::string>& args) {
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    std::fputs(example_text("version").c_str(), stdout);
    return 0;
  }
  std::puts(("loraine " + version_text()).c_str());
  return 0;
}

}  // namespace loraine
