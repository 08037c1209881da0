// `loraine help`, `loraine help --markdown` and `loraine help COMMAND`.
#include <cstdio>

#include "loraine/cli/commands.h"

namespace loraine {
namespace {

std::string program = "loraine";

}  // namespace

void set_program(const std::string& name) { program = name; }

int run_help(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(usage_text(program).c_str(), stdout);
    return 0;
  }
  if (args[0] == "--markdown") {
    std::fputs(cli_reference().c_str(), stdout);
    return 0;
  }
  const Command& command = find_command(args[0]);
  return command.run == run_help ? run_help({}) : command.run({"--help"});
}

}  // namespace loraine
