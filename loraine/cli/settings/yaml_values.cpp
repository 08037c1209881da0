// YAML to values: yaml-cpp gives the structure and the marks, the types of plain words follow PyYAML as OmegaConf sets it up.
#include "loraine/cli/settings/yaml_values.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr int kMaxDepth = 32;
constexpr int kMaxValues = 100000;  // aliases can multiply nodes

[[noreturn]] void refuse(const std::string& name, const YAML::Mark& mark, const std::string& message, const std::string& hint = {}) {
  std::string where = mark.is_null() ? name : fmt::format("{}:{}:{}", name, mark.line + 1, mark.column + 1);
  throw Error(ErrorKind::usage, where + ": " + message, hint);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string without_underscores(std::string_view text) {
  std::string out;
  for (char c : text)
    if (c != '_') out += c;
  return out;
}

size_t skip_digits(std::string_view s, size_t i) {  // digits and underscores
  while (i < s.size() && (is_digit(s[i]) || s[i] == '_')) ++i;
  return i;
}

Value whole_number(std::string_view digits, int base, bool negative) {
  if (digits.empty()) return nullptr;
  uint64_t value = 0;
  for (char c : digits) {
    int d = is_digit(c) ? c - '0' : (c | 32) - 'a' + 10;
    if (value > (static_cast<uint64_t>(INT64_MAX) - d) / base) {  // beyond 64 bits: as a float, no option holds such a number
      double x = 0;
      for (char e : digits) x = x * base + (is_digit(e) ? e - '0' : (e | 32) - 'a' + 10);
      return negative ? -x : x;
    }
    value = value * base + d;
  }
  int64_t number = static_cast<int64_t>(value);
  return negative ? -number : number;
}

// [-+]?0b[0-1_]+ | [-+]?0[0-7_]+ | [-+]?(0|[1-9][0-9_]*) | [-+]?0x[0-9a-fA-F_]+ | [-+]?[1-9][0-9_]*(:[0-5]?[0-9])+
std::optional<Value> integer(std::string_view s) {
  bool negative = !s.empty() && s[0] == '-';
  if (!s.empty() && (s[0] == '-' || s[0] == '+')) s.remove_prefix(1);
  if (s.empty() || !is_digit(s[0])) return std::nullopt;
  auto all_of = [](std::string_view t, std::string_view allowed) { return !t.empty() && t.find_first_not_of(allowed) == t.npos; };
  std::string digits;
  int base = 10;
  if (s.starts_with("0b") && all_of(s.substr(2), "01_")) {
    base = 2, digits = without_underscores(s.substr(2));
  } else if (s.starts_with("0x") && all_of(s.substr(2), "0123456789abcdefABCDEF_")) {
    base = 16, digits = without_underscores(s.substr(2));
  } else if (s.size() > 1 && s[0] == '0' && all_of(s.substr(1), "01234567_")) {
    base = 8, digits = without_underscores(s);
  } else if (s == "0" || (s[0] != '0' && all_of(s, "0123456789_"))) {
    digits = without_underscores(s);
  } else if (s[0] != '0' && s.find(':') != s.npos && s.size() < 64) {  // base 60
    size_t i = skip_digits(s, 0);
    double value = std::stod(without_underscores(s.substr(0, i)));
    if (i >= s.size() || s[i] != ':') return std::nullopt;
    while (i < s.size()) {
      std::string_view part = s.substr(i + 1, std::min(s.find(':', i + 1), s.size()) - i - 1);
      bool good = s[i] == ':' &&
                  ((part.size() == 1 && is_digit(part[0])) || (part.size() == 2 && part[0] >= '0' && part[0] <= '5' && is_digit(part[1])));
      if (!good) return std::nullopt;
      value = value * 60 + std::stoi(std::string(part));
      i += 1 + part.size();
    }
    if (negative) value = -value;
    if (std::abs(value) < 9e15) return Value(static_cast<int64_t>(value));
    return Value(value);
  } else {
    return std::nullopt;
  }
  return whole_number(digits.empty() ? "0" : digits, base, negative);
}

// OmegaConf's pattern: digits with a point or an exponent, a leading point, base 60 with a point, .inf, .nan
std::optional<double> number(std::string_view s) {
  std::string_view all = s;
  bool sign = !s.empty() && (s[0] == '-' || s[0] == '+');
  if (sign) s.remove_prefix(1);
  if (s == ".inf" || s == ".Inf" || s == ".INF")
    return all[0] == '-' ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  if (!sign && (s == ".nan" || s == ".NaN" || s == ".NAN")) return std::numeric_limits<double>::quiet_NaN();
  size_t i = 0;
  auto exponent = [&](bool needs_sign) {  // at i; true when the rest is an exponent
    if (i >= s.size() || (s[i] != 'e' && s[i] != 'E')) return false;
    size_t j = i + 1;
    if (j < s.size() && (s[j] == '-' || s[j] == '+')) ++j;
    else if (needs_sign) return false;
    size_t first = j;
    while (j < s.size() && is_digit(s[j])) ++j;
    return j > first && j == s.size();
  };
  bool good = false;
  if (!s.empty() && is_digit(s[0])) {
    i = skip_digits(s, 0);
    if (i < s.size() && s[i] == '.') {
      i = skip_digits(s, i + 1);
      good = i == s.size() || exponent(false);
    } else {
      good = exponent(false);
    }
  } else if (!sign && s.size() > 1 && s[0] == '.' && (is_digit(s[1]) || s[1] == '_')) {
    i = skip_digits(s, 1);
    good = i == s.size() || exponent(true);
  }
  if (!good || s.size() > 400) return std::nullopt;
  std::string plain = without_underscores(all);
  return std::strtod(plain.c_str(), nullptr);
}

Value plain_word(const std::string& s) {
  if (s.empty() || s == "~" || s == "null" || s == "Null" || s == "NULL") return nullptr;
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (s == word) return true;
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (s == word) return false;
  if (auto whole = integer(s)) return *whole;
  if (auto real = number(s)) return *real;
  return s;
}

Value scalar(const YAML::Node& node, const std::string& name) {
  const std::string& tag = node.Tag();
  const std::string& text = node.Scalar();
  if (tag == "!" || tag == "tag:yaml.org,2002:str") return text;  // quoted, or said to be text
  if (tag.empty() || tag == "?") {
    if (!text.empty() && (text[0] == '@' || text[0] == '`' || text[0] == '%'))
      refuse(name, node.Mark(), fmt::format("a plain word cannot begin with '{}'", text[0]), "put the value in quotes");
    return plain_word(text);
  }
  Value value = plain_word(text);
  if (tag == "tag:yaml.org,2002:int" && value.is_number_integer()) return value;
  if (tag == "tag:yaml.org,2002:float" && value.is_number()) return value.get<double>();
  if (tag == "tag:yaml.org,2002:bool" && value.is_boolean()) return value;
  if (tag == "tag:yaml.org,2002:null" && value.is_null()) return value;
  refuse(name, node.Mark(), fmt::format("the tag '{}' is not known or does not fit its value", tag), "write the value without the tag");
}

std::string key_text(const YAML::Node& key, const std::string& name) {
  if (!key.IsScalar()) refuse(name, key.Mark(), "a key must be a word");
  return key.Scalar();
}

Value convert(const YAML::Node& node, const std::string& name, int depth, int& left) {
  if (depth > kMaxDepth) refuse(name, node.Mark(), fmt::format("values are nested more than {} deep", kMaxDepth));
  if (--left < 0) refuse(name, node.Mark(), fmt::format("more than {} values", kMaxValues));
  switch (node.Type()) {
    case YAML::NodeType::Scalar: return scalar(node, name);
    case YAML::NodeType::Sequence: {
      Value list = Value::array();
      for (const auto& item : node) list.push_back(convert(item, name, depth + 1, left));
      return list;
    }
    case YAML::NodeType::Map: {
      Value map = Value::object();
      for (const auto& pair : node) {
        std::string key = key_text(pair.first, name);
        if (map.contains(key))
          refuse(name, pair.first.Mark(), fmt::format("the key '{}' is here a second time", key), "keep one of the two");
        map[key] = convert(pair.second, name, depth + 1, left);
      }
      return map;
    }
    default: return nullptr;
  }
}

// Counts the documents of a text, and does nothing else with it.
class DocumentCounter : public YAML::EventHandler {
 public:
  std::vector<YAML::Mark> starts;

  void OnDocumentStart(const YAML::Mark& mark) override { starts.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Refuses a second document. yaml-cpp takes a stray ',' for an empty document and stays before it for ever, so YAML::LoadAll cannot be
// used.
void expect_one_document(const std::string& text, const std::string& name) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentCounter counter;
  while (counter.starts.size() < 2 && parser.HandleNextDocument(counter)) {}
  if (counter.starts.size() < 2) return;
  if (counter.starts[0].pos == counter.starts[1].pos)
    refuse(name, counter.starts[0], "not YAML: a value cannot begin here", "put it in quotes");
  throw Error(ErrorKind::usage, name + ": more than one YAML document, expected one", "remove the '---' lines");
}

YAML::Node load(const std::string& text, const std::string& name) {
  if (text.size() > (1 << 20)) throw Error(ErrorKind::usage, name + ": more than 1 MiB of settings");
  try {
    expect_one_document(text, name);
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    refuse(name, error.mark, "not YAML: " + error.msg, "check quotes, colons and indentation at this place");
  }
}

}  // namespace

Value yaml_value(const std::string& text, const std::string& name) {
  size_t first = text.find_first_not_of(" \t");
  size_t last = text.find_last_not_of(" \t");
  if (first != text.npos && first == last && text[first] == '-')
    refuse(name, YAML::Mark::null_mark(), "'-' begins a list, which has no items here", "put the value in quotes");
  int left = kMaxValues;
  YAML::Node node = load(text, name);
  if (node.IsNull() && first != text.npos && text[first] == '!') {  // a tag alone, which yaml-cpp drops
    const std::string tag = text.substr(first, last - first + 1);
    if (tag == "!" || tag == "!!str") return "";
    if (tag != "!!null") refuse(name, YAML::Mark::null_mark(), fmt::format("the tag '{}' is not known or does not fit its value", tag));
  }
  try {
    return convert(node, name, 0, left);
  } catch (const YAML::Exception& error) { refuse(name, error.mark, "not YAML: " + error.msg); }
}

std::vector<KeyValue> yaml_pairs(const std::string& text, const std::string& name) {
  YAML::Node root = load(text, name);
  std::vector<KeyValue> pairs;
  if (root.IsNull() || !root.IsDefined()) return pairs;
  if (!root.IsMap()) refuse(name, root.Mark(), "expected `key: value` lines", "see `loraine help train` for the keys");
  std::set<std::string> seen;
  int left = kMaxValues;
  try {
    for (const auto& pair : root) {
      std::string key = key_text(pair.first, name);
      if (!seen.insert(key).second)
        refuse(name, pair.first.Mark(), fmt::format("the key '{}' is here a second time", key), "keep one of the two");
      YAML::Mark mark = pair.first.Mark();
      pairs.push_back({key, convert(pair.second, name, 0, left), fmt::format("{}:{}:{}", name, mark.line + 1, mark.column + 1)});
    }
  } catch (const YAML::Exception& error) { refuse(name, error.mark, "not YAML: " + error.msg); }
  return pairs;
}

namespace {

std::string place(const std::string& text, size_t at, const std::string& name) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < std::min(at, text.size()); ++i) {
    if (text[i] == '\n') ++line, column = 1;
    else ++column;
  }
  return fmt::format("{}:{}:{}", name, line, column);
}

}  // namespace

std::vector<KeyValue> json_pairs(const std::string& text, const std::string& name) {
  if (text.size() > (1 << 20)) throw Error(ErrorKind::usage, name + ": more than 1 MiB of settings");
  std::vector<std::set<std::string>> seen;
  std::string duplicate;
  auto watch = [&](int depth, Value::parse_event_t event, Value& parsed) {
    if (depth > kMaxDepth) throw Error(ErrorKind::usage, fmt::format("{}: values are nested more than {} deep", name, kMaxDepth));
    if (event == Value::parse_event_t::object_start) seen.emplace_back();
    if (event == Value::parse_event_t::object_end) seen.pop_back();
    if (event == Value::parse_event_t::key && !seen.back().insert(parsed.get<std::string>()).second && duplicate.empty())
      duplicate = parsed.get<std::string>();
    return true;
  };
  Value root;
  try {
    root = Value::parse(text, watch);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(ErrorKind::usage, place(text, error.byte > 0 ? error.byte - 1 : 0, name) + ": not JSON",
                "check quotes and commas at this place");
  } catch (const nlohmann::json::out_of_range&) {
    throw Error(ErrorKind::usage, name + ": it holds a number beyond 1.8e308, and no option takes one");
  }
  auto place_of = [&](const std::string& key, bool last) {
    std::string quoted = Value(key).dump();
    size_t at = last ? text.rfind(quoted) : text.find(quoted);
    return at == text.npos ? name : place(text, at, name);
  };
  if (!duplicate.empty())
    throw Error(ErrorKind::usage, fmt::format("{}: the key '{}' is here a second time", place_of(duplicate, true), duplicate),
                "keep one of the two");
  if (!root.is_object()) throw Error(ErrorKind::usage, name + ":1:1: expected an object of settings");
  std::vector<KeyValue> pairs;
  for (auto& [key, value] : root.items()) pairs.push_back({key, value, place_of(key, false)});
  return pairs;
}

KeyValue override_pair(const std::string& word) {
  size_t equals = word.find('=');
  std::string path = word.substr(0, equals);
  Value value = equals == word.npos ? Value(nullptr) : yaml_value(word.substr(equals + 1), "the value of '" + word + "'");
  size_t depth = 0;
  for (size_t dot = path.rfind('.'); dot != path.npos; dot = path.rfind('.')) {
    if (++depth > kMaxDepth) throw Error(ErrorKind::usage, fmt::format("'{}': keys are nested more than {} deep", word, kMaxDepth));
    Value outer = Value::object();
    outer[path.substr(dot + 1)] = std::move(value);
    value = std::move(outer);
    path.resize(dot);
  }
  return {path, value, "'" + word + "'"};
}

void merge_value(Value& into, const Value& from) {
  if (!into.is_object() || !from.is_object()) {
    into = from;
    return;
  }
  for (const auto& [key, value] : from.items()) {
    if (into.contains(key)) merge_value(into[key], value);
    else into[key] = value;
  }
}

}  // namespace loraine
