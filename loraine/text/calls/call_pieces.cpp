// See call_pieces.h.
#include "loraine/text/calls/call_pieces.h"

namespace loraine {
namespace {

// What stands before a name, and between a name and its arguments; empty where a form writes no JSON.
struct Around {
  std::string_view before, between;
};

std::vector<Around> around(const CallFormat& format) {
  switch (format.form) {
    case CallForm::tagged_json:
    case CallForm::functools:
    case CallForm::toolcall_list:
    case CallForm::bare_json: return {{"{\"name\": \"", "\", \"arguments\": "}};
    case CallForm::llama_json: return {{"{\"name\": \"", "\", \"parameters\": "}};
    case CallForm::mistral: return {{"{\"name\": \"", "\", \"arguments\": "}, {"[TOOL_CALLS]", "[ARGS]"}};
    case CallForm::deepseek: return {{"function<｜tool▁sep｜>", "\n```json\n"}};
    case CallForm::command: return {{"\"tool_name\": \"", "\",\n        \"parameters\": "}};
    case CallForm::action: return {{"Action: ", "\nAction Input: "}};
    default: return {};
  }
}

bool is_name(std::string_view name) {
  return !name.empty() &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string_view::npos;
}

}  // namespace

// From at_ on: the next call's name, once what stands before its arguments is there.
bool CallPieces::find_call(const CallFormat& format, std::string_view text, std::vector<CallPiece>& out) {
  for (const Around& mark : around(format)) {
    const size_t begin = text.find(mark.before, at_);
    if (begin == std::string_view::npos) continue;
    const size_t name = begin + mark.before.size(), end = text.find(mark.between, name);
    if (end == std::string_view::npos || !is_name(text.substr(name, end - name))) continue;
    at_ = end + mark.between.size();
    if (at_ == text.size()) {  // the bracket comes next, or it is none
      at_ = begin;
      return false;
    }
    if (text[at_] != '{') return false;
    out.push_back({std::string(text.substr(name, end - name)), "", false});
    ++begun_;
    in_arguments_ = true;
    return true;
  }
  return false;
}

void CallPieces::read(const CallFormat& format, std::string_view text, std::vector<CallPiece>& out) {
  while (in_arguments_ || find_call(format, text, out)) {
    const size_t begin = at_;
    for (; at_ < text.size() && in_arguments_; ++at_) {
      const char c = text[at_];
      if (escaped_) {
        escaped_ = false;
      } else if (in_text_) {
        if (c == '\\') escaped_ = true;
        else if (c == '"') in_text_ = false;
      } else if (c == '"') {
        in_text_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if ((c == '}' || c == ']') && --depth_ == 0) {
        in_arguments_ = false;
      }
    }
    if (at_ > begin || !in_arguments_) {
      if (out.empty() || out.back().ends) out.push_back({});
      out.back().arguments += text.substr(begin, at_ - begin);
      out.back().ends = !in_arguments_;
    }
    if (in_arguments_) return;
  }
}

}  // namespace loraine
