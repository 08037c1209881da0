// Writing what a tokenizer learned back into its tokenizer.json. Called where a model's text files are written.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/text/tokenizer/tokenizer.h"
#include "loraine/text/tokenizer/tokenizer_json.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

// The bytes [begin, end) of the list added_tokens; begin == end: right behind the outermost brace, as there is none.
struct ByteRange {
  size_t begin = 0, end = 0;
};

ByteRange added_tokens_range(const simdjson::padded_string& text) {
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::object root;
  simdjson::ondemand::array list;
  std::string_view raw;
  if (parser.iterate(text).get(document) || document.get_object().get(root))
    tokens::fail({"tokenizer.json", "", 0}, "is not a JSON object");
  if (root.find_field_unordered("added_tokens").get_array().get(list) || list.raw_json().get(raw)) {
    const size_t brace = std::string_view(text).find('{') + 1;
    return {brace, brace};
  }
  const auto begin = static_cast<size_t>(raw.data() - text.data());
  return {begin, begin + raw.rfind(']') + 1};
}

void add(OrderedJson& list, const NewToken& token) {
  for (OrderedJson& old : list)
    if (old.value("content", "") == token.content) {
      old["special"] = old.value("special", false) || token.special;
      return;
    }
  list.push_back({{"id", token.id},
                  {"content", token.content},
                  {"single_word", false},
                  {"lstrip", false},
                  {"rstrip", false},
                  {"normalized", !token.special},
                  {"special", token.special}});
}

std::string indented(const OrderedJson& list) {  // as the library writes a list one level down
  std::string out;
  for (char c : list.dump(2)) {
    out += c;
    if (c == '\n') out += "  ";
  }
  return out;
}

}  // namespace

std::string with_new_tokens(std::string_view tokenizer_json, const std::vector<NewToken>& tokens) {
  if (tokens.empty()) return std::string(tokenizer_json);
  const simdjson::padded_string text(tokenizer_json);
  const ByteRange range = added_tokens_range(text);
  const bool absent = range.begin == range.end;
  OrderedJson list = absent ? OrderedJson::array() : OrderedJson::parse(tokenizer_json.substr(range.begin, range.end - range.begin));
  for (const NewToken& token : tokens) add(list, token);
  std::stable_sort(list.begin(), list.end(),
                   [](const OrderedJson& a, const OrderedJson& b) { return a.value("id", 0) < b.value("id", 0); });
  std::string out(tokenizer_json.substr(0, range.begin));
  if (absent) out += "\n  \"added_tokens\": ";
  out += indented(list);
  if (absent) out += ',';
  return out.append(tokenizer_json.substr(range.end));
}

}  // namespace loraine
