// One voice for warnings about an input. Called by train, chat and export; while a run goes on train has its own, which goes around the
// progress bar.
#pragma once
#include <string>

#include "loraine/core/error.h"

namespace loraine {

// Prints "warning: TEXT"; with strict it throws TEXT as an error of this kind instead. Nothing happens when text is empty.
void input_warning(const std::string& text, bool strict, ErrorKind kind);

// Where an id was found in a local cache; nothing where a path was given.
void print_place(const std::string& note);

}  // namespace loraine
