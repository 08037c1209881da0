// Words of the command line to settings: a YAML or JSON file first, key=value overrides, --key value flags. Used by every command.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/core/describe.h"
#include "loraine/train/config/config.h"

namespace loraine {

// Settings in order of precedence (later wins). First argument *.yaml, *.yml or *.json: a file. Then key=value (dots reach into maps,
// values as in YAML), or --key value, --key=value, --flag, --no_flag; - and _ are alike in flags. ${…} of file and key=value words is put
// in, and a file of LLaMA-Factory's v1 read as such (v1_settings.h: with `training` its defaults count; a line about it goes to `notes`).
std::vector<Setting> read_arguments(const std::vector<std::string>& args, bool training = true, std::vector<std::string>* notes = nullptr);

// The whole way for a command: reads, applies, prints the notes to stderr. `command` is train, chat or export (rules checked) or another
// name. `extra`: options of this command alone. Returns false when --help or -h was asked for; the help text was printed then: return 0.
bool read_config(const std::vector<std::string>& args, const std::string& command, TrainConfig& config, std::span<const Option> extra = {});

// The text of `loraine COMMAND --help`.
std::string command_help(const std::string& command, std::span<const Option> extra = {}, const std::string& ending = {});
// From now on that is a line per option, as `loraine help COMMAND --words` prints it: name, values that it is one of, meaning, with tabs
// between.
void give_help_as_words();

}  // namespace loraine
