// Jinja's tests: `x is defined`, `x is divisibleby 3`. names.cpp asks for their names, the evaluator and the filters apply them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/filters.h"
#include "loraine/text/jinja/markup.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {
namespace {

using TestBody = bool (*)(const Value&, Args&);

bool hashable(const Value& v) {
  if (v.type == Type::List || v.type == Type::Dict) fail("TypeError", "unhashable type: '" + type_name(v) + "'");
  return true;
}
const Value& operand(Args& args) {
  if (args.positional.size() != 1 || !args.named.empty()) fail("TypeError", "the test takes one argument");
  return args.positional[0];
}
int64_t modulo(const Value& value, const Value& by) {
  Value r = binary("%", value, by);
  if (!r.is_number()) return 1;
  if (r.big()) return 2;
  return r.number() == 0 ? 0 : r.number() == 1 ? 1 : 2;
}
template <Type type>
bool of_type(const Value& value, Args&) {
  return value.type == type;
}
bool same(const Value& a, const Value& b) {
  if (a.type != b.type) return false;
  if (a.type == Type::Int) return equal(a, b);
  if (a.o || b.o) return a.o == b.o || (a.is_string() && a.text() == b.text());
  return a.type == Type::None || equal(a, b);
}

const std::map<std::string, TestBody>& tests() {
  static const TestBody kEq = [](const Value& v, Args& a) { return equal(v, operand(a)); };
  static const TestBody kNe = [](const Value& v, Args& a) { return !equal(v, operand(a)); };
  static const TestBody kLt = [](const Value& v, Args& a) { return compare(v, operand(a), "<"); };
  static const TestBody kLe = [](const Value& v, Args& a) { return compare(v, operand(a), "<="); };
  static const TestBody kGt = [](const Value& v, Args& a) { return compare(v, operand(a), ">"); };
  static const TestBody kGe = [](const Value& v, Args& a) { return compare(v, operand(a), ">="); };
  static const std::map<std::string, TestBody> kTests = {
      {"defined", [](const Value& v, Args&) { return !v.undefined(); }},
      {"undefined", [](const Value& v, Args&) { return v.undefined(); }},
      {"none", of_type<Type::None>},
      {"boolean", of_type<Type::Bool>},
      {"integer", of_type<Type::Int>},
      {"float", of_type<Type::Float>},
      {"string", of_type<Type::String>},
      {"mapping", of_type<Type::Dict>},
      {"true", [](const Value& v, Args&) { return v.type == Type::Bool && v.b; }},
      {"false", [](const Value& v, Args&) { return v.type == Type::Bool && !v.b; }},
      {"number", [](const Value& v, Args&) { return v.is_number(); }},
      {"iterable", [](const Value& v, Args&) { return v.undefined() || v.is_string() || v.type == Type::Dict || v.is_sequence(); }},
      {"sequence",
       [](const Value& v, Args&) {
         return v.undefined() || v.is_string() || v.type == Type::Dict || v.type == Type::List || v.type == Type::Tuple ||
                v.type == Type::Range;
       }},
      {"callable", [](const Value& v,
                      Args&) { return v.undefined() || (v.type == Type::Object && static_cast<const CallableObject&>(*v.o).callable()); }},
      {"odd", [](const Value& v, Args&) { return modulo(v, integer(2)) == 1; }},
      {"even", [](const Value& v, Args&) { return modulo(v, integer(2)) == 0; }},
      {"divisibleby", [](const Value& v, Args& a) { return modulo(v, operand(a)) == 0; }},
      {"lower", [](const Value& v, Args&) { return is_class(to_text(v), "islower"); }},
      {"upper", [](const Value& v, Args&) { return is_class(to_text(v), "isupper"); }},
      {"sameas", [](const Value& v, Args& a) { return same(v, operand(a)); }},
      {"escaped", [](const Value& v, Args&) { return is_safe(v); }},
      {"in", [](const Value& v, Args& a) { return contains(v, operand(a)); }},
      {"filter", [](const Value& v, Args&) { return hashable(v) && v.is_string() && is_filter(v.text()); }},
      {"test", [](const Value& v, Args&) { return hashable(v) && v.is_string() && is_test(v.text()); }},
      {"==", kEq},
      {"eq", kEq},
      {"equalto", kEq},
      {"!=", kNe},
      {"ne", kNe},
      {"<", kLt},
      {"lt", kLt},
      {"lessthan", kLt},
      {"<=", kLe},
      {"le", kLe},
      {">", kGt},
      {"gt", kGt},
      {"greaterthan", kGt},
      {">=", kGe},
      {"ge", kGe}};
  return kTests;
}
}  // namespace

bool is_test(const std::string& name) { return tests().count(name) != 0; }

bool apply_test(const std::string& name, const Value& subject, Args& args) {
  charge(1);
  if (!is_test(name)) fail("TemplateRuntimeError", fmt::format("No test named '{}' found.", name));
  static const char* const kWithArgument[] = {"divisibleby", "sameas", "in"};
  bool compares = tests().at(name) == tests().at("eq");
  for (const char* with : kWithArgument) compares = compares || name == with;
  for (const char* with : {"ne", "lt", "le", "gt", "ge"}) compares = compares || tests().at(name) == tests().at(with);
  if (!compares && !(args.positional.empty() && args.named.empty()))
    fail("TypeError", fmt::format("test_{}() takes 1 positional argument but {} were given", name, 1 + args.positional.size()));
  return tests().at(name)(subject, args);
}

}  // namespace loraine::jinja
