// See gemma_arguments.h.
#include "loraine/text/calls/gemma_arguments.h"

#include <cctype>
#include <nlohmann/json.hpp>

#include "loraine/core/python_json.h"

namespace loraine {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

}  // namespace

std::string gemma_json(const std::string& text) {
  constexpr std::string_view kMark = "<|\"|>";
  std::string texts;  // with texts as JSON has them
  for (size_t at = 0; at < text.size();) {
    const size_t open = text.find(kMark, at), close = open == std::string::npos ? open : text.find(kMark, open + kMark.size());
    if (close == std::string::npos) {
      texts.append(text, at);
      break;
    }
    texts.append(text, at, open - at);
    texts += python_json(nlohmann::ordered_json(text.substr(open + kMark.size(), close - open - kMark.size())));
    at = close + kMark.size();
  }
  std::string out;
  for (size_t at = 0; at < texts.size();) {  // as a pattern would: a word behind a bracket, a comma or a blank, and a colon behind it
    const char before = out.empty() ? ' ' : texts[at - 1];
    const bool begins = before == '{' || before == ',' || std::isspace(static_cast<unsigned char>(before));
    size_t end = at;
    if (begins && (std::isalpha(static_cast<unsigned char>(texts[at])) || texts[at] == '_'))
      while (end < texts.size() && is_word(texts[end])) ++end;
    const size_t colon = end > at ? texts.find_first_not_of(" \t\r\n", end) : std::string::npos;
    if (colon != std::string::npos && texts[colon] == ':') {
      out += '"' + texts.substr(at, end - at) + '"';
      at = end;
    } else {
      out += texts[at++];
    }
  }
  return out;
}

}  // namespace loraine
