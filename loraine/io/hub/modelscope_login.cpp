// Values lie in one list and refer to each other by index. What would make an object of a class makes a map of its attributes.
#include "loraine/io/hub/modelscope_login.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMaxValues = 100000;

// Objects, dictionaries: scalars under their names, whatever is no scalar left out. Everything else is a scalar; lists are null.
struct Value {
  bool is_map = false;
  Json scalar;
  std::map<std::string, Json> map = {};
};

class CookieJar {
 public:
  CookieJar(const std::string& file, std::string_view bytes) : file_(file), bytes_(bytes) {}

  std::string session(const std::string& host, int64_t now) {
    while (at_ < bytes_.size() && !done_) step(static_cast<unsigned char>(take(1)[0]));
    if (!done_) refuse("is cut off");
    for (const Value& value : values_) {
      if (!value.is_map || text(value, "name") != "m_session_id") continue;
      std::string domain = text(value, "domain");
      if (domain.starts_with('.')) domain.erase(0, 1);
      const auto expires = value.map.find("expires");
      const bool good =
          expires == value.map.end() || !expires->second.is_number() || expires->second.get<double>() > static_cast<double>(now);
      if (good && !domain.empty() && (host == domain || host.ends_with("." + domain))) return text(value, "value");
    }
    return "";
  }

 private:
  using Index = size_t;

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}: byte {}: {}; expected the cookies that modelscope login writes", file_, at_, what),
                "log in once more, or set MODELSCOPE_API_TOKEN, or remove the file");
  }
  std::string_view take(size_t count) {
    if (count > bytes_.size() - at_) refuse("is cut off");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  uint64_t number(size_t count) {  // little-endian
    uint64_t value = 0;
    const std::string_view from = take(count);
    for (size_t i = 0; i < count; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(from[i])) << (8 * i);
    return value;
  }
  static std::string text(const Value& value, const char* key) {
    const auto found = value.map.find(key);
    return found != value.map.end() && found->second.is_string() ? found->second.get<std::string>() : "";
  }

  void push(Json scalar) { push_value({false, std::move(scalar)}); }
  void push_value(Value value) {
    if (values_.size() >= kMaxValues) refuse("holds too many values");
    values_.push_back(std::move(value));
    stack_.push_back(values_.size() - 1);
  }
  void push_map() { push_value({true, nullptr}); }
  Index pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back())) refuse("takes a value where there is none");
    const Index index = stack_.back();
    stack_.pop_back();
    return index;
  }
  Index top() {
    const Index index = pop();
    stack_.push_back(index);
    return index;
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) refuse("closes what was never opened");
    std::vector<Index> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void set_items(const std::vector<Index>& pairs) {
    Value& target = values_[top()];
    if (!target.is_map || pairs.size() % 2) refuse("sets items of what has none");
    for (size_t i = 0; i < pairs.size(); i += 2) {
      const Value &key = values_[pairs[i]], &value = values_[pairs[i + 1]];
      if (key.scalar.is_string() && !value.is_map) target.map[key.scalar.get<std::string>()] = value.scalar;
    }
  }
  void pop_some(int count) {
    for (int i = 0; i < count; ++i) pop();
    push(nullptr);
  }
  void remember(uint64_t place) { memo_[place] = top(); }
  void recall(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) refuse("recalls what was never remembered");
    stack_.push_back(found->second);
  }
  void skip_line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == bytes_.npos) refuse("is cut off");
    at_ = end + 1;
  }

  void step(unsigned char code) {
    switch (code) {
      case 0x80: take(1); return;  // PROTO
      case 0x95: take(8); return;  // FRAME
      case '.': done_ = true; return;
      case '(': marks_.push_back(stack_.size()); return;
      case 0x8c: return push(std::string(take(number(1))));  // SHORT_BINUNICODE
      case 'X': return push(std::string(take(number(4))));   // BINUNICODE
      case 'J': return push(static_cast<int32_t>(number(4)));
      case 'K': return push(number(1));
      case 'M': return push(number(2));
      case 0x8a: {  // LONG1
        const size_t count = number(1);
        if (count > 8) refuse("a number beyond 64 bits");
        return push(static_cast<int64_t>(number(count)));  // of seconds and ports: not below 0
      }
      case 'G': return push(std::bit_cast<double>(__builtin_bswap64(number(8))));
      case 'N': return push(nullptr);
      case 0x88: return push(true);
      case 0x89: return push(false);
      case '}': return push_map();
      case ')':
      case ']': return push(nullptr);
      case 't': pop_to_mark(); return push(nullptr);
      case 0x85: return pop_some(1);
      case 0x86: return pop_some(2);
      case 0x87: return pop_some(3);
      case 'c': skip_line(), skip_line(); return push(nullptr);  // GLOBAL: a class, by its module and name
      case 0x93: return pop_some(2);                             // STACK_GLOBAL
      case 0x81:                                                 // NEWOBJ, REDUCE: a class and what it is made with
      case 'R': pop(), pop(); return push_map();
      case 'b': {  // BUILD: the attributes of an object
        const Index state = pop();
        Value& object = values_[top()];
        if (object.is_map && values_[state].is_map) object.map.insert(values_[state].map.begin(), values_[state].map.end());
        return;
      }
      case 's': {
        const Index value = pop(), key = pop();
        return set_items({key, value});
      }
      case 'u': return set_items(pop_to_mark());
      case 'a': pop(); return;
      case 'e': pop_to_mark(); return;
      case 0x94: return remember(memo_.size());  // MEMOIZE
      case 'q': return remember(number(1));
      case 'r': return remember(number(4));
      case 'h': return recall(number(1));
      case 'j': return recall(number(4));
      default: refuse(fmt::format("has the opcode {:#04x}, which no cookies need", code));
    }
  }

  const std::string& file_;
  std::string_view bytes_;
  size_t at_ = 0;
  bool done_ = false;
  std::vector<Value> values_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, Index> memo_;
};

}  // namespace

fs::path modelscope_cookies() {
  const auto folder = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    if (!value || !*value) return {};
    const std::string path = value;
    if (path != "~" && !path.starts_with("~/")) return path;
    const char* home = std::getenv("HOME");
    return fs::path(home ? home : "/") / path.substr(std::min<size_t>(2, path.size()));
  };
  std::error_code failed;
  if (const fs::path given = folder("MODELSCOPE_CREDENTIALS_PATH"); !given.empty())
    return fs::exists(given / "cookies", failed) ? given / "cookies" : given / "credentials" / "cookies";
  fs::path home = folder("MODELSCOPE_HOME");
  if (home.empty()) home = folder("HOME") / ".modelscope";
  return home / "credentials" / "cookies";
}

std::string session_cookie(const std::string& file, std::string_view bytes, const std::string& host, int64_t now) {
  return CookieJar(file, bytes).session(host, now);
}

}  // namespace loraine
