// Texts made from the table of commands and the descriptions of the options, so that none is out of date. Printed by `loraine help`.
#pragma once
#include <array>
#include <span>
#include <string>
#include <utility>

#include "loraine/core/describe.h"

namespace loraine {

// What the program ends with (core/error.h: exit_code).
inline constexpr std::array<std::pair<int, const char*>, 9> kExitCodes = {{{0, "done"},
                                                                           {1, "failure"},
                                                                           {2, "usage or configuration"},
                                                                           {3, "bad input file"},
                                                                           {4, "out of memory"},
                                                                           {5, "a number that is not finite"},
                                                                           {6, "disk or other input and output"},
                                                                           {75, "stopped by a signal, with a checkpoint to resume from"},
                                                                           {130, "a server was told twice to end"}}};

std::string cli_reference();  // docs/cli.md: `loraine help --markdown`; a test compares the two
std::string man_page();       // loraine(1), for man: `loraine help --man`

// A script for bash, zsh or fish that completes commands, keys and values: `loraine help --completion SHELL`. The keys of a command come
// from the program itself (`loraine help COMMAND --words`), but for fish's flags. Throws usage for another shell.
std::string completion_script(const std::string& shell);

// What they ask for, a line per option: its name, the values that it is one of (or none), its meaning, with tabs between.
std::string completion_words(std::span<const Option> options);

}  // namespace loraine
