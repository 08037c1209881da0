// Checked reading of tokenizer.json with simdjson: every missing, mistyped or unknown key is an error that names the file and the place.
// Called by the parsers of the tokenizer's parts (normalizer, pre_tokenizer, token_decoder, bpe, tokenizer).
#pragma once
#include <simdjson.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "loraine/core/error.h"

namespace loraine::tokens {

using Json = simdjson::dom::element;
using JsonObject = simdjson::dom::object;

struct Place {  // where in which file we are reading; `at` is a JSON path such as "model.vocab"
  std::string file, at;
  int depth = 0;
  Place in(const std::string& key) const { return {file, at.empty() ? key : at + "." + key, depth + 1}; }
};

inline constexpr int kMaxDepth = 32;  // nesting of Sequence in Sequence

[[noreturn]] void fail(const Place& place, const std::string& message);
[[noreturn]] void fail_unknown(const Place& place, const std::string& what, std::string_view name);

JsonObject as_object(const Json& value, const Place& place);
void check_keys(const JsonObject& object, std::initializer_list<std::string_view> known, const Place& place);
bool has(const JsonObject& object, std::string_view key);  // present and not null
Json get(const JsonObject& object, std::string_view key, const Place& place);
std::string get_string(const JsonObject& object, std::string_view key, const Place& place);
std::string get_string_or(const JsonObject& object, std::string_view key, const std::string& otherwise, const Place& place);
bool get_bool_or(const JsonObject& object, std::string_view key, bool otherwise, const Place& place);
int64_t get_int(const JsonObject& object, std::string_view key, int64_t low, int64_t high, const Place& place);
simdjson::dom::array get_array(const JsonObject& object, std::string_view key, const Place& place);

}  // namespace loraine::tokens
