// `loraine version`.
#include <cstdio>

#include "loraine/cli/commands.h"

namespace loraine {

int run_version(const std::vector<std::string>&) {
  std::puts("loraine 0.1.0");
  return 0;
}

}  // namespace loraine
