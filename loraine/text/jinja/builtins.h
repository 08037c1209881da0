// Filters, tests, methods and global functions of the Jinja engine. Called by the evaluator; names are checked
// by names.cpp once a template is parsed.
#pragma once
#include <ctime>
#include <optional>
#include <string>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

bool is_filter(const std::string& name);
bool is_test(const std::string& name);
Value apply_filter(Engine& engine, const std::string& name, const Value& subject, Args& args);
bool apply_test(const std::string& name, const Value& subject, Args& args);

Value call_method(const Value& self, const std::string& name, Args& args);  // of str, list, dict, …
enum class Access { missing, allowed, refused };
Access method_access(const Value& self, const std::string& name);

// The arguments of a Python function, by position or name; missing ones are undefined values without an object.
std::vector<Value> bind_args(const char* function, Args& args, std::initializer_list<const char*> names, size_t required = 0);
inline bool given(const Value& value) { return !(value.undefined() && value.o == nullptr); }
int64_t as_integer(const Value& value);  // an index; TypeError otherwise

Value binary(const std::string& op, const Value& a, const Value& b);
Value percent_format(const Value& format, const Value& arguments);                  // "%s" % …
Value brace_format(Engine* engine, const Value& format, const Args& args);          // "{}".format(…)
Value get_item(Engine* engine, const Value& object, const Value& key);              // object[key], as Jinja does
Value get_attribute(Engine& engine, const Value& object, const std::string& name);  // object.name
Value make_range(int64_t begin, int64_t end, int64_t step);
Value slice(const Value& object, const Value& begin, const Value& end, const Value& step);
bool cycler_method(const Value& self, const std::string& name, Value& result);  // false: not one
std::optional<Value> global(const std::string& name);
Value read_json(const std::string& text);  // JSONDecodeError where it is none
std::string strftime(const std::string& format, const std::tm& time);
std::string upper(const std::string& text);
std::string lower(const std::string& text);
std::string replace_all(const std::string& text, const std::string& from, const std::string& to, int64_t count);

}  // namespace loraine::jinja
