// `loraine help`, `loraine help COMMAND`, and what is made of the same tables: docs/cli.md, the man page, completion in a shell.
#include <cstdio>

#include "loraine/cli/commands.h"
#include "loraine/cli/reference/reference.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

std::string program = "loraine";

int printed(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace

void set_program(const std::string& name) { program = name; }

int run_help(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(usage_text(program).c_str(), stdout);
    return 0;
  }
  if (args[0] == "--markdown") return printed(cli_reference());
  if (args[0] == "--man") return printed(man_page());
  if (args[0] == "--completion") {
    if (args.size() != 2) throw Error(ErrorKind::usage, "help --completion: the shell is not named", "loraine help --completion bash");
    return printed(completion_script(args[1]));
  }
  const Command& command = find_command(args[0]);
  if (args.size() > 1 && args[1] == "--words") give_help_as_words();
  return command.run == run_help ? run_help({}) : command.run({"--help"});
}

}  // namespace loraine
