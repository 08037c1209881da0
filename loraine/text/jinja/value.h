// Values of the Jinja engine with Python's semantics (text, repr, order, truth), and the budget that bounds a rendering.
// Used by the evaluator, the filters and the string methods.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/text/jinja/big_integer.h"

namespace loraine::jinja {

// type: the Python class of the error ("TemplateError" is the template's own raise_exception).
struct JinjaError : Error {
  JinjaError(std::string type_, const std::string& message, int line_ = 0)
      : Error(ErrorKind::bad_data, message), type(std::move(type_)), line(line_) {}
  std::string type;
  int line;
};
[[noreturn]] void fail(const char* type, const std::string& message);

// What one rendering may use; it grows with the input (allow_input). The functions act on the rendering of this thread and throw
// when it is spent. A step is some 50 ns of work.
struct Budget {
  int64_t steps = 8'000'000;
  int64_t bytes = int64_t{512} << 20;   // of text and lists created, summed over the whole rendering
  int64_t live = int64_t{64} << 20;     // of those that exist at one time
  int64_t largest = int64_t{32} << 20;  // of one text, and of the output
};
void charge(int64_t steps);
void charge_bytes(int64_t bytes);                      // of one text or list about to be made
void charge_live(int64_t bytes);                       // that stay; negative: that go
void append(std::string& out, std::string_view text);  // out += text while out stays below the largest text
struct BudgetScope {                                   // makes `budget` the one of this thread
  explicit BudgetScope(Budget& budget);
  ~BudgetScope();
  Budget* before;
};

enum class Type : uint8_t { Undefined, None, Bool, Int, Float, String, List, Tuple, Generator, View, Range, Dict, Namespace, Object };
inline constexpr int kMaxValueDepth = 400;

struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() { charge_live(-held); }
  void hold(int64_t bytes) {  // counts them until the object goes
    charge_bytes(bytes);
    charge_live(bytes);
    held += bytes;
  }
  int64_t held = 0;
  int depth = 1;  // nesting of the containers below; bounded so that no recursion over values is deep
};

struct Value {
  Type type = Type::Undefined;
  union {
    bool b;
    int64_t i;
    double d;
  };
  std::shared_ptr<Object> o;
  Value() : i(0) {}
  bool is_string() const { return type == Type::String; }
  bool is_number() const { return type == Type::Int || type == Type::Float || type == Type::Bool; }
  bool is_integral() const { return type == Type::Int || type == Type::Bool; }
  bool is_sequence() const { return type >= Type::List && type <= Type::Range; }
  bool undefined() const { return type == Type::Undefined; }
  bool big() const { return type == Type::Int && o != nullptr; }           // beyond 64 bits
  int64_t integer() const { return type == Type::Bool ? int64_t{b} : i; }  // a big one: the nearest
  double number() const;                                                   // OverflowError when there is no such double
  const std::string& text() const;                                         // String
  const std::vector<Value>& items() const;                                 // a sequence
};

struct IntegerObject : Object {
  BigInteger value;
};
struct StringObject : Object {
  std::string text;
  bool safe = false;  // Markup (markup.h)
};
struct SequenceObject : Object {
  std::vector<Value> items;
  const char* view = nullptr;  // dict_keys, dict_values, dict_items
  bool consumed = false;       // a Generator that has been read
  int64_t range[3] = {0, 0, 1};
};
struct DictObject : Object {
  std::vector<std::pair<Value, Value>> entries;   // in order of insertion
  std::unordered_map<std::string, size_t> index;  // of text keys
  const Value* find(const Value& key) const;
  const Value* find(const std::string& key) const;
  void set(const Value& key, Value value);
};
struct NamespaceObject : Object {
  DictObject attributes;
};
struct UndefinedObject : Object {
  std::string message;
  std::string missing;    // the name, for default error texts
  bool security = false;  // refused by the sandbox
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};
class Engine;
// Functions, macros, bound methods, loops, cyclers.
struct CallableObject : Object {
  virtual Value call(Engine& engine, Args& args) = 0;
  virtual std::optional<Value> attribute(Engine&, const std::string&) { return std::nullopt; }
  virtual bool callable() const { return true; }
  virtual std::string class_name() const { return "function"; }
};

Value none();
Value boolean(bool x);
Value integer(int64_t x);
Value integer(const BigInteger& x);
BigInteger big_integer(const Value& value);  // Int or Bool
std::string integer_text(const Value& value);
Value real(double x);
Value string(std::string x, bool safe = false);
Value list(std::vector<Value> items, Type type = Type::List);
Value dict(std::vector<std::pair<Value, Value>> entries = {});
Value undefined(std::string message, bool security = false);
Value undefined_name(const std::string& name);
void allow_input(int64_t bytes);  // the budget grows by what work on that much input may need
Value from_json(const nlohmann::ordered_json& json, int depth = 0);

const DictObject& as_dict(const Value& value);  // Dict or Namespace
[[noreturn]] void fail_undefined(const Value& value);
std::string type_name(const Value& value);  // Python's: 'str', 'NoneType', …
bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b, const char* op);     // a < b; `op` is for the error only
bool compare(const Value& a, const Value& b, const char* op);  // < <= > >=
bool contains(const Value& item, const Value& container);
std::string to_text(const Value& value);  // str(value)
std::string repr(const Value& value);
std::string float_repr(double x);
int64_t length(const Value& value);
std::vector<Value> iterate(const Value& value);  // the items as Python's for would give them; reads a Generator up

struct JsonOptions {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonOptions& options);

// UTF-8 by code points.
int64_t count_code_points(std::string_view text);
std::vector<std::string_view> split_code_points(std::string_view text);  // sixteen times the memory of the text
inline size_t code_point_end(std::string_view text, size_t at) {
  size_t end = at + 1;
  while (end < text.size() && (text[end] & 0xc0) == 0x80 && end - at < 4) ++end;
  return end;
}
struct CodePoints {  // for (std::string_view c : CodePoints(text))
  std::string_view text;
  struct Iterator {
    std::string_view text;
    size_t at, end;
    std::string_view operator*() const { return text.substr(at, end - at); }
    Iterator& operator++() {
      at = end;
      if (at < text.size()) end = code_point_end(text, at);
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at != other.at; }
  };
  explicit CodePoints(std::string_view t) : text(t) { charge(static_cast<int64_t>(t.size() / 8)); }
  Iterator begin() const { return {text, 0, text.empty() ? 0 : code_point_end(text, 0)}; }
  Iterator end() const { return {text, text.size(), text.size()}; }
};
// Positions in bytes, in time linear in the text; npos if absent.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);
size_t find_last_text(std::string_view text, std::string_view part);
char32_t decode(std::string_view code_point);
void append_utf8(std::string& out, char32_t c);
bool is_space(char32_t c);
std::string_view strip(std::string_view text, bool left, bool right, const std::string* characters = nullptr);

}  // namespace loraine::jinja
