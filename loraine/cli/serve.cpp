// loraine serve, loraine api: answers over HTTP, to the clients of OpenAI's API and of LLaMA-Factory's.
#include <fmt/format.h>

#include <cstdlib>

#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/core/error.h"
#include "loraine/serve/server.h"

namespace loraine {
namespace {

int serve(const std::vector<std::string>& args, const std::string& command) {
  ServerStart start;
  const std::vector<Option> own = options_of(start.config);
  std::vector<Setting> around = environment_settings(std::getenv);
  start.llama_factory = command == "api";
  if (start.llama_factory) start.api = read_llama_factory_api(std::getenv, around);
  for (const Setting& setting : around)  // what the command line says comes later, and counts
    for (const Option& option : own)
      if (option.name == setting.key) set_option(option, setting);
  if (!read_config(args, command, start.model, own)) return 0;
  check_chat_config(start.model);
  start.version = version_text();
  start.say = [](const std::string& line) { print_stderr(line + "\n"); };
  return run_server(std::move(start));
}

}  // namespace

int run_serve(const std::vector<std::string>& args) { return serve(args, "serve"); }
int run_api(const std::vector<std::string>& args) { return serve(args, "api"); }

}  // namespace loraine
