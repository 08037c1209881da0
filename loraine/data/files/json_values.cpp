// One pass over the letters of a value each; called through json_values.h.
#include "loraine/data/files/json_values.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace loraine {
namespace {

constexpr size_t kMostSearched = size_t{64} << 20;  // bytes in which a mistake is looked for

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool ends_word(char c) { return is_space(c) || std::string_view(",:[]{}\"").find(c) != std::string_view::npos; }

size_t word_end(std::string_view text, size_t at) {
  while (at < text.size() && !ends_word(text[at])) ++at;
  return at;
}

// The byte behind the closing quote of the text that opens at `at`.
size_t text_end(std::string_view text, size_t at, bool one_line) {
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '\\') ++i;
    else if (text[i] == '"') return i + 1;
    else if (text[i] == '\n' && one_line) break;
  }
  return std::string_view::npos;
}

template <class Number>
bool fits(std::string_view word) {
  Number value;
  return std::from_chars(word.data(), word.data() + word.size(), value).ec != std::errc::result_out_of_range;
}

// A number that Python and JSON write alike but that 64 bits do not hold.
bool too_large(std::string_view word) {
  const char first = word[word.front() == '-' && word.size() > 1 ? 1 : 0];
  if (first < '0' || first > '9') return false;
  if (word.find_first_of(".eE") == std::string_view::npos) return !fits<int64_t>(word) && (word.front() == '-' || !fits<uint64_t>(word));
  return std::isinf(std::strtod(std::string(word).c_str(), nullptr));
}

std::optional<unsigned> unicode_escape(std::string_view text, size_t at) {  // of \uXXXX at `at`
  unsigned code = 0;
  if (text.substr(at, 2) != "\\u" || at + 6 > text.size()) return std::nullopt;
  const auto [end, failed] = std::from_chars(text.data() + at + 2, text.data() + at + 6, code, 16);
  if (failed != std::errc() || end != text.data() + at + 6) return std::nullopt;
  return code;
}

// Walks over a row and writes it anew. `same_length`: with stand-ins as long as what they replace, for positions in messages.
struct Respelling {
  std::string_view row;
  bool raw_controls, same_length;
  std::string out = {};

  void text(size_t at, size_t end) {
    while (at < end) {
      if (row[at] == '\\') {
        const auto code = unicode_escape(row, at);
        const bool high = code && *code >= 0xd800 && *code < 0xdc00, low = code && *code >= 0xdc00 && *code < 0xe000;
        const auto next = high ? unicode_escape(row, at + 6) : std::nullopt;
        const bool pair = next && *next >= 0xdc00 && *next < 0xe000;
        const size_t length = std::min<size_t>(pair ? 12 : code ? 6 : 2, end - at);
        if (low || (high && !pair)) out += same_length ? "\\ufffd" : "\\u0000\\ufffd";
        else out += row.substr(at, length);
        at += length;
      } else {
        const auto byte = static_cast<unsigned char>(row[at]);
        if (byte >= 0x20 || !raw_controls) out += row[at];
        else out += same_length ? " " : fmt::format("\\u{:04x}", byte);
        ++at;
      }
    }
  }

  void word(size_t at, size_t end, int depth) {
    const std::string_view word = row.substr(at, end - at);
    const bool hole = word == "NaN" || word == "-NaN";
    if (!hole && word != "Infinity" && word != "-Infinity" && !too_large(word)) out += word;
    else if (same_length) out += "0" + std::string(word.size() - 1, ' ');
    else out += hole && depth <= 1 ? "null" : fmt::format("\"\\u0000\\u0000{}\"", word);
  }

  std::string write() {
    out.reserve(row.size() + 64);
    int depth = 0;
    for (size_t i = 0; i < row.size();) {
      const char c = row[i];
      if (c == '"') {
        const size_t end = std::min(text_end(row, i, false), row.size());
        text(i, end);
        i = end;
      } else if (ends_word(c)) {
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        out += c;
        ++i;
      } else {
        const size_t end = word_end(row, i);
        word(i, end, depth);
        i = end;
      }
    }
    return std::move(out);
  }
};

}  // namespace

ValueEnd value_end(std::string_view text, size_t at, bool one_line_texts) {
  int64_t depth = 0;
  bool complete = false;  // a value or a key stands before: only , : ] } may follow
  size_t i = at;
  while (i < text.size()) {
    const char c = text[i];
    if (is_space(c)) {
      ++i;
    } else if (c == ',' || c == ':') {
      if (depth == 0) return {i, false};
      complete = false;
      ++i;
    } else if (c == ']' || c == '}') {
      if (depth == 0) return {i, false};
      complete = true;
      ++i;
      if (--depth == 0) return {i, true};
    } else if (complete) {
      return {i, false};
    } else if (c == '[' || c == '{') {
      ++depth;
      ++i;
    } else {
      const size_t end = c == '"' ? text_end(text, i, one_line_texts) : word_end(text, i);
      if (end == std::string_view::npos) return {i, false};
      i = end;
      if (depth == 0) return {i, true};
      complete = true;
    }
  }
  return {text.size(), false};
}

std::string plain_json(std::string_view row, bool raw_controls) { return Respelling{row, raw_controls, false}.write(); }

std::string beyond_json(std::string_view text) {
  constexpr std::string_view number("\0\0", 2), half("\0\xef\xbf\xbd", 4);
  if (text.substr(0, 2) == number) return fmt::format("the number {}", text.substr(2, 60));
  if (text.find(half) != std::string_view::npos) return "half a surrogate pair (a \\ud800 to \\udfff that stands alone)";
  return {};
}

void append_json_text(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (byte < 0x20) out += fmt::format("\\u{:04x}", byte);
    else out += c;
  }
  out += '"';
}

std::optional<JsonMistake> find_json_mistake(std::string_view value, bool raw_controls) {
  struct Listener : nlohmann::json_sax<nlohmann::json> {
    size_t byte = 0;
    std::string field;
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(size_t) override { return true; }
    bool key(string_t& name) override {
      field = name.substr(0, 60);
      return true;
    }
    bool end_object() override { return true; }
    bool start_array(size_t) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
      byte = position;
      return false;
    }
  } listener;
  const std::string text = Respelling{value.substr(0, kMostSearched), raw_controls, true}.write();
  if (nlohmann::json::sax_parse(text, &listener, nlohmann::json::input_format_t::json, false) || listener.byte == 0) return std::nullopt;
  return JsonMistake{listener.byte - 1, listener.field};
}

}  // namespace loraine
