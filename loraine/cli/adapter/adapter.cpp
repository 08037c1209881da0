// The table of subcommands, their help, and the one that was asked for.
#include "loraine/cli/adapter/adapter.h"

#include <fmt/format.h>

#include <cstdio>

#include "loraine/cli/commands.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

std::vector<Option> options_of_adapter(const AdapterCommand& command) {
  std::vector<Option> options;
  command.describe([&](const Option& option) { options.push_back(option); });
  return options;
}

const AdapterCommand& find_adapter_command(const std::string& name) {
  std::vector<std::string> names;
  for (const AdapterCommand& command : adapter_commands()) {
    if (name == command.name) return command;
    names.push_back(command.name);
  }
  const std::string near = nearest_word(name, names);
  throw Error(ErrorKind::usage, fmt::format("loraine adapter has no subcommand '{}'", name),
              near.empty() ? fmt::format("one of: {}", fmt::join(names, ", ")) : fmt::format("did you mean '{}'?", near));
}

std::string adapter_usage() {
  std::string text = "usage: loraine adapter SUBCOMMAND … (loraine adapter SUBCOMMAND --help)\n\n";
  for (const AdapterCommand& command : adapter_commands()) text += fmt::format("  {:<8} {}\n", command.name, command.summary);
  return text;
}

}  // namespace

const std::vector<AdapterCommand>& adapter_commands() {
  static const std::vector<AdapterCommand> table = {
      {"list", "FOLDER…", "the adapters in and under folders, a line each", run_adapter_list, describe_adapter_list},
      {"info", "ADAPTER…", "what an adapter is: method, rank, targets, size, base", run_adapter_info, describe_adapter_info},
      {"check", "ADAPTER", "which programs load it, and why others do not", run_adapter_check, describe_adapter_check},
      {"merge", "ADAPTER…", "several adapters as one, by PEFT's combination types", run_adapter_merge, describe_adapter_merge},
      {"diff", "ADAPTER ADAPTER", "how far two adapters are apart, module by module", run_adapter_diff, describe_adapter_diff},
      {"resize", "ADAPTER", "an adapter at another rank, by its largest singular values", run_adapter_resize, describe_adapter_resize},
      {"extract", "BASE TUNED", "an adapter out of what separates two models", run_adapter_extract, describe_adapter_extract},
      {"convert", "ADAPTER", "between PEFT, GGUF, mlx-lm and kohya's names", run_adapter_convert, describe_adapter_convert},
  };
  return table;
}

std::string adapter_command_help(const std::string& name) {
  const AdapterCommand& command = find_adapter_command(name);
  const std::vector<Option> options = options_of_adapter(command);
  return fmt::format("usage: loraine adapter {} {} [--key value ...]\n{}\n\n{}", command.name, command.places, command.summary,
                     options.empty() ? "" : options_help(options, 100));
}

std::string adapter_reference() {
  std::string text =
      "\n## Subcommands of adapter\n\n"
      "They work on saved adapters, by path or id; `extract` and some conversions read a model too ([adapters.md](adapters.md)). Their "
      "options alone count,\n"
      "as `--key value`, `--key=value` or `key=value`.\n\n| subcommand | what it does |\n|---|---|\n";
  std::vector<Option> all;
  for (const AdapterCommand& command : adapter_commands()) {
    text += fmt::format("| `adapter {} {}` | {} |\n", command.name, command.places, command.summary);
    for (Option& option : options_of_adapter(command)) all.push_back(std::move(option));
  }
  return text + options_markdown(all);
}

int run_adapter(const std::vector<std::string>& args) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h") {
    std::fputs((example_text("adapter") + adapter_usage()).c_str(), stdout);
    return 0;
  }
  return find_adapter_command(args[0]).run({args.begin() + 1, args.end()});
}

}  // namespace loraine
