// Looking up what ${…} stands for.
#include "loraine/cli/settings/interpolation.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr int kMostReferences = 32;
constexpr int kMaxLookups = 100000;   // lists of lists that refer to each other multiply
constexpr size_t kMaxText = 1 << 20;  // a value that doubles itself at each level

using Path = std::vector<std::string>;

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\n"), last = text.find_last_not_of(" \t\n");
  return first == text.npos ? "" : text.substr(first, last - first + 1);
}

class Resolver {
 public:
  explicit Resolver(std::vector<KeyValue>& pairs) : pairs_(pairs), given_(pairs) {}

  void all() {
    for (KeyValue& pair : pairs_) {
      here_ = &pair;
      const bool env = pair.value.is_string() && is_one(pair.value.get<std::string>()) &&
                       trimmed(pair.value.get<std::string>()).starts_with("${oc.env:");
      pair.value = value(pair.value, {pair.key}, 0);
      pair.plain = env && pair.value.is_string();
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& message, const std::string& hint) const {
    throw Error(ErrorKind::usage, fmt::format("{}: {}: {}", here_->where, here_->key, message), hint);
  }

  // Whether the text is one ${…} and nothing else.
  bool is_one(const std::string& text) const { return text.starts_with("${") && end_of(text, 0) == text.size(); }

  // Behind the } that closes the ${ at `begin`; npos where none does.
  static size_t end_of(const std::string& text, size_t begin) {
    int open = 0;
    char quote = 0;
    for (size_t i = begin; i < text.size(); ++i) {
      if (quote) {
        if (text[i] == '\\') ++i;
        else if (text[i] == quote) quote = 0;
      } else if (open > 0 && (text[i] == '\'' || text[i] == '"')) {
        quote = text[i];
      } else if (text[i] == '{') {
        ++open;
      } else if (text[i] == '}' && --open == 0) {
        return i + 1;
      }
    }
    return text.npos;
  }

  Value value(const Value& from, const Path& path, int depth) {
    if (--left_ < 0) refuse(fmt::format("more than {} values are made of ${{…}}", kMaxLookups), "write it shorter");
    if (depth > kMostReferences)
      refuse(fmt::format("its ${{…}} lead back to itself, or through more than {} others", kMostReferences),
             "write the value itself in one of them");
    if (from.is_string()) return text(from.get<std::string>(), path, depth);
    if (!from.is_structured()) return from;
    Value result = from;
    for (auto it = result.begin(); it != result.end(); ++it) {
      Path inner = path;
      inner.push_back(from.is_object() ? it.key() : std::to_string(it - result.begin()));
      *it = value(Value(*it), inner, depth + 1);
    }
    return result;
  }

  Value text(const std::string& from, const Path& path, int depth) {
    if (from == "???") refuse("it is ???, a value that has to be given", fmt::format("give it: {}=VALUE", path_text(path)));
    if (from.find("${") == from.npos) return from;
    if (is_one(from)) return looked_up(from.substr(2, from.size() - 3), path, depth);
    std::string result;
    for (size_t i = 0; i < from.size();) {
      size_t slashes = 0;
      while (i + slashes < from.size() && from[i + slashes] == '\\') ++slashes;
      if (from.compare(i + slashes, 2, "${") != 0) {
        result += from.substr(i, slashes + 1);
        i += slashes + 1;
        continue;
      }
      result += std::string(slashes / 2, '\\');
      i += slashes;
      if (slashes % 2 == 1) {  // \${ says the two characters
        result += "${";
        i += 2;
        continue;
      }
      const size_t end = end_of(from, i);
      if (end == from.npos) refuse("a ${ without its }", "close it, or write \\${ for the two characters");
      result += as_text(looked_up(from.substr(i + 2, end - i - 3), path, depth), from);
      if (result.size() > kMaxText) refuse("its ${…} make more than 1 MiB of text", "write it shorter");
      i = end;
    }
    return result;
  }

  std::string as_text(const Value& value, const std::string& whole) const {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "True" : "False";  // as Python writes them
    if (value.is_null()) return "None";
    if (value.is_structured()) refuse(fmt::format("a list or a map cannot stand inside the text '{}'", whole), "refer to it alone");
    return value.dump();
  }

  // What stands between ${ and }.
  Value looked_up(const std::string& body, const Path& path, int depth) {
    std::string plain = body;
    if (body.find("${") != body.npos) plain = as_text(text(body, path, depth + 1), body);
    plain = trimmed(plain);
    const size_t colon = plain.find(':');
    if (colon != plain.npos) return resolver(trimmed(plain.substr(0, colon)), plain.substr(colon + 1));
    return key(plain, path, depth);
  }

  Value resolver(const std::string& name, const std::string& arguments) const {
    if (name != "oc.env")
      refuse(fmt::format("${{{}:…}} is not known", name),
             "known are ${key}, ${oc.env:NAME} and ${oc.env:NAME,default}; \\${ says the two characters");
    const size_t comma = arguments.find(',');
    const std::string variable = trimmed(arguments.substr(0, comma));
    if (const char* found = std::getenv(variable.c_str())) return found;
    if (comma == arguments.npos)
      refuse(fmt::format("the environment variable {} is not set", variable),
             fmt::format("set it, or write ${{oc.env:{},DEFAULT}}", variable));
    std::string standard = trimmed(arguments.substr(comma + 1));
    if (standard == "null") return nullptr;
    if (standard.size() > 1 && (standard[0] == '"' || standard[0] == '\'') && standard.back() == standard[0])
      standard = standard.substr(1, standard.size() - 2);
    return standard;
  }

  static std::string path_text(const Path& path) {
    std::string text;
    for (const std::string& part : path) text += (text.empty() ? "" : ".") + part;
    return text;
  }

  // "a.b[0]" from the top, ".b" beside the value itself, "..b" one further up.
  Value key(const std::string& name, const Path& path, int depth) {
    size_t dots = 0;
    while (dots < name.size() && name[dots] == '.') ++dots;
    Path wanted;
    if (dots > path.size()) refuse(fmt::format("${{{}}} goes up further than there are maps", name), "name the key from the top");
    if (dots > 0) wanted.assign(path.begin(), path.end() - static_cast<std::ptrdiff_t>(dots));
    std::string part;
    for (const char c : name.substr(dots) + ".") {
      if (c == '.' || c == '[' || c == ']') {
        if (!part.empty()) wanted.push_back(part);
        part.clear();
      } else {
        part += c;
      }
    }
    if (wanted.empty()) refuse(fmt::format("${{{}}} names no key", name), "write ${key}, or \\${ for the two characters");
    const auto first = std::ranges::find_if(given_, [&](const KeyValue& pair) { return pair.key == wanted[0]; });
    const Value* found = first == given_.end() ? nullptr : &first->value;
    for (size_t i = 1; found && i < wanted.size(); ++i) found = inside(*found, wanted[i]);
    if (!found)
      refuse(fmt::format("${{{}}} names a key that is not given", name), "give it, write the value itself, or \\${ for the two characters");
    return value(Value(*found), wanted, depth + 1);
  }

  static const Value* inside(const Value& outer, const std::string& name) {
    if (outer.is_object()) return outer.contains(name) ? &outer[name] : nullptr;
    size_t index = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool good = outer.is_array() && failed == std::errc() && end == name.data() + name.size() && index < outer.size();
    return good ? &outer[index] : nullptr;
  }

  std::vector<KeyValue>& pairs_;
  const std::vector<KeyValue> given_;  // as they were: what came out of a variable is not looked at again
  int left_ = kMaxLookups;
  const KeyValue* here_ = nullptr;  // whose value is looked up, for messages
};

}  // namespace

void resolve_interpolations(std::vector<KeyValue>& pairs) { Resolver(pairs).all(); }

}  // namespace loraine
