// See token_bytes.h.
#include "loraine/serve/token_bytes.h"

#include <array>
#include <optional>

namespace loraine {
namespace {

// GPT-2's spelling of bytes as characters: the printable ones as themselves, the others from U+0100 on.
std::optional<std::string> bytes_of_spelling(const std::string& spelling) {
  static const std::array<int, 512> byte_of = [] {
    std::array<int, 512> table{};
    table.fill(-1);
    int next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      table[static_cast<size_t>(itself ? b : next++)] = b;
    }
    return table;
  }();
  std::string out;
  for (size_t i = 0; i < spelling.size(); ++i) {
    const auto c = static_cast<unsigned char>(spelling[i]);
    int code = c;
    if (c >= 0x80) {
      if ((c & 0xE0) != 0xC0 || i + 1 >= spelling.size()) return std::nullopt;
      code = ((c & 0x1F) << 6) | (static_cast<unsigned char>(spelling[++i]) & 0x3F);
    }
    if (code >= 512 || byte_of[static_cast<size_t>(code)] < 0) return std::nullopt;
    out += static_cast<char>(byte_of[static_cast<size_t>(code)]);
  }
  return out;
}

std::optional<char> byte_token(const std::string& spelling) {  // <0x0A>
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling[5] != '>') return {};
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  const int high = digit(spelling[3]), low = digit(spelling[4]);
  if (high < 0 || low < 0) return {};
  return static_cast<char>(high * 16 + low);
}

}  // namespace

TokenBytes::TokenBytes(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const std::vector<int32_t> ids = tokenizer.encode("a");
  if (ids.empty()) return;
  anchor_ = ids.back();
  anchor_text_ = tokenizer.decode(std::span(&anchor_, 1));
}

std::string TokenBytes::operator()(int32_t id) const {
  const std::string spelling = tokenizer_.id_to_token(id).value_or("");
  if (const auto byte = byte_token(spelling)) return std::string(1, *byte);
  std::string text;
  if (anchor_ >= 0) {
    const int32_t both[] = {anchor_, id};
    text = tokenizer_.decode(both);
    if (text.starts_with(anchor_text_)) text.erase(0, anchor_text_.size());
    else text = tokenizer_.decode(std::span(&id, 1));
  } else {
    text = tokenizer_.decode(std::span(&id, 1));
  }
  if (text.find("\xEF\xBF\xBD") == text.npos) return text;
  return bytes_of_spelling(spelling).value_or(text);
}

}  // namespace loraine
