// `loraine help`, `loraine help --markdown` and `loraine help COMMAND`.
#include <fmt/format.h>

#include <cstdio>

#include "loraine/cli/commands.h"
#include "loraine/core/describe.h"
#include "loraine/core/error.h"

namespace loraine {

int run_help(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(usage_text().c_str(), stdout);
    return 0;
  }
  if (args[0] == "--markdown") {
    std::fputs(cli_reference().c_str(), stdout);
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    if (args[0] == command.name && args[0] != "help") return command.run({"--help"});
  }
  if (args[0] == "help") return run_help({});
  std::string near = nearest_word(args[0], names);
  throw Error(ErrorKind::usage, fmt::format("unknown command '{}'", args[0]),
              near.empty() ? "`loraine help` lists the commands" : "did you mean '" + near + "'?");
}

}  // namespace loraine
