// The man page.
#include <fmt/format.h>

#include "loraine/cli/commands.h"
#include "loraine/cli/reference/reference.h"
#include "loraine/eval/evaluate.h"
#include "loraine/serve/settings.h"
#include "loraine/train/config/config.h"

namespace loraine {
namespace {

// Text in the language of man pages: what has a meaning there is escaped.
std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') out += "\\e";
    else if (c == '-') out += "\\-";
    else if (c == '\n') out += ' ';
    else if (c == '\'') out += "\\(aq";
    else if (c == '`') out += "\\(ga";
    else out += c;
  }
  return out.starts_with('.') ? "\\&" + out : out;
}

std::string entry(const std::string& name, const std::string& text) { return fmt::format(".TP\n.B {}\n{}\n", roff(name), roff(text)); }

std::string options(const std::string& title, std::span<const Option> list) {
  std::string text = fmt::format(".SH {}\n", title), group;
  for (const Option& option : list) {
    if (option.group != group) text += fmt::format(".SS {}\n", roff(group = option.group));
    const std::string standard = value_text(option);
    text += fmt::format(".TP\n.BI {} \" {}\"\n{}.{}\n", roff("--" + option.name), roff(type_text(option)), roff(option.help),
                        standard.empty() ? "" : roff(" Default: " + standard + "."));
  }
  return text;
}

}  // namespace

std::string man_page() {
  std::string text = fmt::format(
      ".TH LORAINE 1 \"\" \"loraine {}\" \"User Commands\"\n"
      ".SH NAME\nloraine \\- fine\\-tune, run, serve and merge language models with LoRA\n"
      ".SH SYNOPSIS\n.B loraine\n.I COMMAND\n[\\fIFILE.yaml\\fR] [\\fIkey=value\\fR ...] [\\fB\\-\\-key\\fR \\fIvalue\\fR ...]\n"
      ".SH DESCRIPTION\n"
      "Settings come from the file, then from key=value words, then from flags; later ones win. A flag without a value is true,\n"
      ".BI \\-\\-no_ KEY\nis false. Keys and defaults are those of LLaMA\\-Factory. The options of one command:\n.B loraine help\n.IR "
      "COMMAND .\n"
      ".SH COMMANDS\n",
      version_text());
  for (const Command& command : commands()) text += entry(command.name, command.summary);
  text += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : kExitCodes) text += entry(std::to_string(code), meaning);
  text += ".SH ENVIRONMENT\n";
  text += entry("HF_HOME, HF_HUB_CACHE", "where files of a hub are kept");
  text += entry("HF_TOKEN", "the token for files that are not public");
  text += entry("HF_ENDPOINT", "the hub's address, or that of a mirror");
  text += entry("HF_HUB_OFFLINE", "1: nothing is fetched");
  text += entry("OMP_NUM_THREADS", "threads of a computation; without it one for each core that the process may use");
  TrainConfig config;
  EvalConfig eval;
  ServeConfig server;
  text += options("OPTIONS", options_of(config)) + options("OPTIONS OF EVAL", options_of(eval)) +
          options("OPTIONS OF SERVE AND API", options_of(server));
  text += ".SH EXAMPLES\n";
  for (const Command& command : commands()) text += fmt::format(".PP\n.nf\n{}\n.fi\n", roff(command.example));
  return text;
}

}  // namespace loraine
