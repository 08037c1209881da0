// The words of `loraine adapter SUBCOMMAND`: places first or in between, then options as --key value, --key=value, key=value or a bare
// --switch.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loraine/core/describe.h"

namespace loraine {

// Sets the options' fields; gives the other words, which are places. None where --help was asked for. usage for an unknown option, with the
// nearest one.
std::optional<std::vector<std::string>> read_adapter_words(const std::vector<std::string>& args, std::span<const Option> options);

std::vector<double> numbers_of(const std::string& text, const std::string& key);  // "0.7,-0.4"; throws usage naming the key
std::vector<std::string> names_of(const std::string& text);                       // "q_proj, v_proj"

// The folder of an adapter that is given by its path or its id on a hub; a line about an id goes to stderr.
std::string adapter_at(const std::string& name);

}  // namespace loraine
