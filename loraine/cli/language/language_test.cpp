// Phrases found in texts, and the Chinese ones against the sources that write the English.
#include "loraine/cli/language/language.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace loraine::language_test {
namespace {

constexpr Phrase kPhrases[] = {
    {"error:", "FEHLER:"},
    {"hint:", "RAT:"},
    {"steps", "Schritte"},
    {"{}: no such file", "keine Datei {}"},
    {"{} of {} rows", "von {1} Zeilen {0}"},
    {"saved to {}", "in {}"},
    {"saved to {} at last", "zuletzt in {}"},
};

std::string german(const std::string& text) { return translated(text, kPhrases); }

TEST(Language, WholeLinesAndThoseThatNameThings) {
  EXPECT_EQ(german("steps"), "Schritte");
  EXPECT_EQ(german("other steps"), "other steps");
  EXPECT_EQ(german("error: a b.txt: no such file\nhint: steps\n"), "FEHLER:keine Datei a b.txt\nRAT:Schritte\n");
  EXPECT_EQ(german("3 of 40 rows"), "von 40 Zeilen 3");
  EXPECT_EQ(german("saved to x at last"), "zuletzt in x");  // the longer phrase
  EXPECT_EQ(german("saved to x"), "in x");
  EXPECT_EQ(german("  steps  \n\n"), "  Schritte  \n\n");
  EXPECT_EQ(german(""), "");
}

// The string literals of one source, neighbours joined, a line each.
void add_literals(std::string& all, const std::string& source) {
  bool open = false;  // a literal may go on in the next one
  for (size_t i = 0; i < source.size(); ++i) {
    if (source.compare(i, 2, "//") == 0) {
      i = source.find('\n', i);
      if (i == std::string::npos) return;
    } else if (source[i] == '\'') {
      for (++i; i < source.size() && source[i] != '\''; ++i) i += source[i] == '\\';
      open = false;
    } else if (source[i] == '"') {
      if (!open) all += '\n';
      for (++i; i < source.size() && source[i] != '"'; ++i) {
        if (source[i] == '\\' && source[++i] != '"') all += '\\';
        all += source[i];
      }
      open = true;
    } else if (source[i] != ' ' && source[i] != '\n') {
      open = false;
    }
  }
}

std::string literals_of_the_program() {
  std::string all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(std::filesystem::path(LORAINE_SOURCE_DIR) / "loraine")) {
    const std::string path = entry.path().string();
    if (!entry.is_regular_file() || path.ends_with("_test.cpp") || path.find("/language/") != std::string::npos) continue;
    if (!path.ends_with(".cpp") && !path.ends_with(".h")) continue;
    std::ifstream file(path, std::ios::binary);
    add_literals(all, std::string(std::istreambuf_iterator<char>(file), {}));
  }
  return all;
}

// Whether the program can have put the text together from few of its literals, each as long as can be.
bool made_of_literals(std::string_view text, const std::string& literals) {
  for (int parts = 0; parts < 4 && !text.empty(); ++parts) {
    size_t length = text.size();
    while (length > 0 && literals.find(text.substr(0, length)) == std::string::npos) --length;
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return text.empty();
}

size_t count_of(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

TEST(Language, EveryChinesePhraseIsOneOfTheProgram) {
  const std::string literals = literals_of_the_program();
  std::set<std::string_view> seen;
  for (const Phrase& phrase : chinese_phrases()) {
    EXPECT_TRUE(seen.insert(phrase.english).second) << "twice: " << phrase.english;
    EXPECT_FALSE(phrase.other.empty()) << phrase.english;
    size_t literal = 0;
    for (std::string_view rest = phrase.english; !rest.empty();) {
      const size_t at = std::min(rest.find("{}"), rest.size());
      const std::string_view piece = rest.substr(0, at);
      literal += piece.size();
      EXPECT_TRUE(made_of_literals(piece, literals)) << "nowhere in the program: \"" << piece << "\" of \"" << phrase.english << '"';
      rest.remove_prefix(std::min(at + 2, rest.size()));
    }
    EXPECT_GE(literal, 3u) << phrase.english;
    size_t places = count_of(phrase.other, "{}");
    for (const char* numbered : {"{0}", "{1}", "{2}", "{3}", "{4}", "{5}", "{6}"}) places += count_of(phrase.other, numbered);
    EXPECT_EQ(count_of(phrase.english, "{}"), places) << phrase.english;
  }
  EXPECT_GE(seen.size(), 150u);
}

}  // namespace
}  // namespace loraine::language_test
