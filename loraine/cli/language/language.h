// The language of tables and messages on the screen. Everything is written in English where it arises; what is known in the chosen language
// is put in its place on the way to the screen, the rest stays English. Called by print_line, progress and arguments.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace loraine {

// `{}` stands for what a message names (a file, a number); the parts come back in the same order, or where {0}, {1}, … put them.
struct Phrase {
  std::string_view english, other;
};
std::span<const Phrase> chinese_phrases();

// "en", "zh", or "auto": as the first of LC_ALL, LC_MESSAGES, LANG that is set says.
void choose_language(const std::string& name);
bool speaks_english();

// Line by line; "error: ", "hint: ", "warning: " and "note: " in front, and blanks at both ends, are words of their own.
std::string translated(std::string_view text);
// With these phrases, whatever language is chosen.
std::string translated(std::string_view text, std::span<const Phrase> phrases);

}  // namespace loraine
