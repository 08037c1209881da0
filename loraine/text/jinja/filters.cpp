// Jinja's filters by name. names.cpp asks for the names, the evaluator applies them.
#include "loraine/text/jinja/filters.h"

#include <fmt/format.h>

#include "loraine/text/jinja/eval.h"

namespace loraine::jinja {
namespace {
const FilterEntry* find_filter(const std::string& name) {
  for (const FilterTable* table : {&sequence_filters(), &text_filters(), &number_filters(), &page_filters()})
    if (auto it = table->find(name); it != table->end()) return &it->second;
  return nullptr;
}
}  // namespace

bool is_filter(const std::string& name) { return find_filter(name) != nullptr; }

Value apply_filter(Engine& engine, const std::string& name, const Value& subject, Args& args) {
  charge(1);
  const FilterEntry* found = find_filter(name);
  if (!found) fail("TemplateRuntimeError", "No filter named '" + name + "' found.");
  const FilterEntry& entry = *found;
  if (!entry.takes_arguments && !(args.positional.empty() && args.named.empty()))
    fail("TypeError",
         fmt::format("do_{}() takes 1 positional argument but {} were given", name, 1 + args.positional.size() + args.named.size()));
  return entry.body(engine, subject, args);
}

}  // namespace loraine::jinja
