#include "loraine/cli/input_warning.h"

#include "loraine/cli/progress.h"

namespace loraine {

void input_warning(const std::string& text, bool strict, ErrorKind kind) {
  if (text.empty()) return;
  if (strict) throw Error(kind, text, "correct it, or leave strict out to go on with a warning");
  print_stderr("warning: " + text + "\n");
}

void print_place(const std::string& note) {
  if (!note.empty()) print_stderr(note + "\n");
}

}  // namespace loraine
