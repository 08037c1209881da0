// See language.h.
#include "loraine/cli/language/language.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <optional>
#include <vector>

namespace loraine {
namespace {

std::atomic<bool> chinese{false};

// The literal text of a phrase, cut where something is named.
std::vector<std::string_view> pieces_of(std::string_view phrase) {
  std::vector<std::string_view> pieces;
  for (size_t at = phrase.find("{}"); at != phrase.npos; at = phrase.find("{}")) {
    pieces.push_back(phrase.substr(0, at));
    phrase.remove_prefix(at + 2);
  }
  pieces.push_back(phrase);
  return pieces;
}

// What stands at the {} of a phrase; none where the text is not that phrase. A part is as short as can be, the last as long as need be.
std::optional<std::vector<std::string_view>> named_parts(std::string_view text, const std::vector<std::string_view>& pieces) {
  if (pieces.size() == 1) return text == pieces[0] ? std::optional(std::vector<std::string_view>()) : std::nullopt;
  if (!text.starts_with(pieces.front())) return {};
  text.remove_prefix(pieces.front().size());
  if (!text.ends_with(pieces.back())) return {};
  text.remove_suffix(pieces.back().size());
  std::vector<std::string_view> parts;
  for (size_t i = 1; i + 1 < pieces.size(); ++i) {
    const size_t at = text.find(pieces[i]);
    if (at == text.npos) return {};
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + pieces[i].size());
  }
  parts.push_back(text);
  return parts;
}

std::string filled(std::string_view phrase, const std::vector<std::string_view>& parts) {
  std::string out;
  for (size_t next = 0; !phrase.empty();) {
    const bool plain = phrase.starts_with("{}");
    const bool placed = phrase.size() > 2 && phrase[0] == '{' && phrase[1] >= '0' && phrase[1] <= '9' && phrase[2] == '}';
    if (plain || placed) {
      const size_t which = plain ? next++ : static_cast<size_t>(phrase[1] - '0');
      if (which < parts.size()) out += parts[which];
      phrase.remove_prefix(plain ? 2 : 3);
    } else {
      out += phrase.front();
      phrase.remove_prefix(1);
    }
  }
  return out;
}

// Phrases as they are looked for: whole ones by name, those with parts the longest text first.
struct PhraseBook {
  struct Pattern {
    std::vector<std::string_view> pieces;
    std::string_view other;
    size_t literal = 0;
  };
  std::map<std::string_view, std::string_view> whole;
  std::vector<Pattern> patterns;

  explicit PhraseBook(std::span<const Phrase> phrases) {
    for (const Phrase& phrase : phrases) {
      Pattern pattern{pieces_of(phrase.english), phrase.other};
      for (const std::string_view piece : pattern.pieces) pattern.literal += piece.size();
      if (pattern.pieces.size() == 1) whole.emplace(phrase.english, phrase.other);
      else patterns.push_back(std::move(pattern));
    }
    std::stable_sort(patterns.begin(), patterns.end(), [](const Pattern& a, const Pattern& b) { return a.literal > b.literal; });
  }

  std::string look_up(std::string_view text) const {
    if (const auto found = whole.find(text); found != whole.end()) return std::string(found->second);
    for (const Pattern& pattern : patterns)
      if (const auto parts = named_parts(text, pattern.pieces)) return filled(pattern.other, *parts);
    return std::string(text);
  }

  std::string line(std::string_view text) const {
    const size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
    if (first == text.npos) return std::string(text);
    std::string_view middle = text.substr(first, last + 1 - first);
    std::string front(text.substr(0, first));
    for (const std::string_view word : {"error: ", "hint: ", "warning: ", "note: "})
      if (middle.starts_with(word)) {
        front += look_up(word.substr(0, word.size() - 1));
        middle.remove_prefix(word.size());
      }
    return front + look_up(middle) + std::string(text.substr(last + 1));
  }

  std::string text(std::string_view text) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      out += line(text.substr(at, end - at));
      if (end < text.size()) out += '\n';
      at = end + 1;
    }
    return out;
  }
};

}  // namespace

void choose_language(const std::string& name) {
  std::string chosen = name;
  if (name == "auto")
    for (const char* variable : {"LC_ALL", "LC_MESSAGES", "LANG"})
      if (const char* value = std::getenv(variable); value != nullptr && *value != '\0') {
        chosen = value;
        break;
      }
  chinese = chosen.starts_with("zh");
}

bool speaks_english() { return !chinese; }

std::string translated(std::string_view text) {
  if (speaks_english()) return std::string(text);
  static const PhraseBook book(chinese_phrases());
  return book.text(text);
}

std::string translated(std::string_view text, std::span<const Phrase> phrases) { return PhraseBook(phrases).text(text); }

}  // namespace loraine
