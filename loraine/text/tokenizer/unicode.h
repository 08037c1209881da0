// UTF-8 and the few character classes that tokenizers need. All text here is valid UTF-8 (repair_utf8 makes it so).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace loraine::tokens {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The character at `at`, which must be the first byte of one; `at` moves behind it.
inline char32_t next_char(std::string_view text, size_t& at) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return at += 1, first;
  char32_t c = 0;
  if (first < 0xE0) {
    c = (first & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
    at += 2;
  } else if (first < 0xF0) {
    c = (first & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    at += 3;
  } else {
    c = (first & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
    at += 4;
  }
  return c;
}

inline size_t char_bytes(unsigned char first) { return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4; }
char32_t last_char(std::string_view text);  // of a text that is not empty
void append_char(std::string& out, char32_t c);

bool valid_utf8(std::string_view bytes);
std::string repair_utf8(std::string_view bytes);  // one U+FFFD for every maximal invalid part, as Rust's from_utf8_lossy

bool is_space(char32_t c);        // White_Space
bool is_numeric(char32_t c);      // N
bool is_word(char32_t c);         // \w: letters, marks, numbers, connectors
bool is_mark(char32_t c);         // M
bool is_punctuation(char32_t c);  // P, and the ASCII symbols

enum class Form { nfc, nfd, nfkc, nfkd };
std::string unicode_normal(std::string_view text, Form form);
std::string lower_case(std::string_view text);

// GPT-2's printable stand-in for each byte, as UTF-8, and its inverse (-1: stands for no byte).
std::string_view byte_to_printable(unsigned char byte);
int printable_to_byte(char32_t c);
size_t write_printable(std::string_view bytes, char* out);  // out: room for twice as many bytes; returns how many were written
void append_printable(std::string& out, std::string_view bytes);

}  // namespace loraine::tokens
