// What a running template works with: scopes, text, limits. Scopes are a chain looked up at run time, which gives Jinja's scoping: loops,
// macros, with, call and generation blocks open one; if does not. run_statements.cpp and run_expressions.cpp walk the tree.
#include "loraine/text/jinja/eval.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "loraine/core/clock.h"
#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/objects.h"

namespace loraine::jinja {
namespace {

constexpr size_t kMaxKept = 20'000;

std::vector<Value> unpack(const Value& value, size_t count) {
  if (!value.is_sequence() && !value.is_string() && value.type != Type::Dict && !value.undefined())
    fail("TypeError", "cannot unpack non-iterable " + type_name(value) + " object");
  std::vector<Value> items = iterate(value);
  if (items.size() > count) fail("ValueError", fmt::format("too many values to unpack (expected {})", count));
  if (items.size() < count) fail("ValueError", fmt::format("not enough values to unpack (expected {}, got {})", count, items.size()));
  return items;
}

void check_namespace_name(const std::string& name) {
  if (!name.empty() && name[0] == '_')
    fail("SecurityError",
         "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '" + name + "'. Please rename the attribute.");
}

// What the values of a context weigh, about.
int64_t input_bytes(const nlohmann::ordered_json& json, int depth) {
  int64_t bytes = 16;
  if (depth > kMaxValueDepth) return bytes;
  if (json.is_string()) bytes += static_cast<int64_t>(json.get_ref<const std::string&>().size());
  if (json.is_object())
    for (auto it = json.begin(); it != json.end(); ++it)
      bytes += static_cast<int64_t>(it.key().size()) + input_bytes(it.value(), depth + 1);
  if (json.is_array())
    for (const auto& item : json) bytes += input_bytes(item, depth + 1);
  return bytes;
}

}  // namespace

Engine::~Engine() {
  for (const ScopePtr& scope : kept_scopes_) scope->variables.clear();
  for (const auto& object : kept_namespaces_) object->attributes.entries.clear();
  for (const auto& loop : kept_loops_) static_cast<LoopObject&>(*loop).last_changed.reset();
}

void Engine::keep_loop(const std::shared_ptr<Object>& loop) {
  if (!kept_loops_.empty() && kept_loops_.back() == loop) return;
  if (kept_loops_.size() > kMaxKept) fail("LimitError", "the template asks too many loops for changes");
  kept_loops_.push_back(loop);
}

void Engine::keep(const ScopePtr& scope) {
  if (kept_scopes_.size() > kMaxKept) fail("LimitError", "the template makes too many macros");
  if (kept_scopes_.empty() || kept_scopes_.back() != scope) kept_scopes_.push_back(scope);
}

std::tm Engine::now() const { return options_.now ? *options_.now : written_time(); }

Rendered Engine::run(const Template& source, const nlohmann::ordered_json& context) {
  auto root = std::make_shared<Scope>();
  allow_input(input_bytes(context, 0));
  for (auto it = context.begin(); it != context.end(); ++it) root->variables[it.key()] = from_json(it.value());
  out_ = &result_.text;
  exec(source.body, child_of(root));
  for (auto& [begin, end] : result_.generation) {
    begin = std::min(begin, result_.text.size());
    end = std::min(end, result_.text.size());
  }
  return std::move(result_);
}

ScopePtr Engine::child_of(const ScopePtr& parent) const {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

void Engine::write(std::string_view text) {
  charge_bytes(static_cast<int64_t>(text.size()));
  charge_live(static_cast<int64_t>(text.size()));
  append(*out_, text);
}

std::string Engine::capture(const std::vector<NodePtr>& body, const ScopePtr& scope) {
  std::string text;
  std::string* before = std::exchange(out_, &text);
  struct Restore {
    std::string*& out;
    std::string* before;
    ~Restore() { out = before; }
  } restore{out_, before};
  exec(body, scope);
  charge_live(-static_cast<int64_t>(text.size()));  // from here on it is a value or part of another text
  return text;
}

Value Engine::lookup(const std::string& name, const ScopePtr& scope) const {
  charge(1);
  int hops = 0;
  for (const Scope* s = scope.get(); s; s = s->parent.get()) {
    if ((++hops & 7) == 0) charge(1);
    auto it = s->variables.find(name);
    if (it != s->variables.end()) return it->second;
  }
  if (auto value = global(name)) return *value;
  return undefined_name(name);
}

void Engine::assign(const Node& target, const Value& value, const ScopePtr& scope) {
  if (target.kind == Kind::Name) {
    scope->variables[target.text] = value;
  } else if (target.kind == Kind::NamespaceAttribute) {
    Value object = lookup(target.text, scope);
    if (object.type != Type::Namespace) fail("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
    check_namespace_name(target.names[0]);
    static_cast<NamespaceObject&>(*object.o).attributes.set(string(target.names[0]), value);
  } else {
    std::vector<Value> items = unpack(value, target.children.size());
    for (size_t k = 0; k < items.size(); ++k) assign(*target.children[k], items[k], scope);
  }
}

Value Engine::make_namespace(Args& args) {
  if (kept_namespaces_.size() > kMaxKept) fail("LimitError", "the template makes too many namespaces");
  auto object = std::make_shared<NamespaceObject>();
  kept_namespaces_.push_back(object);
  auto put = [&](const Value& key, const Value& value) {
    if (key.is_string()) check_namespace_name(key.text());
    object->attributes.set(key, value);
  };
  if (args.positional.size() > 1) fail("TypeError", fmt::format("dict expected at most 1 argument, got {}", args.positional.size()));
  for (const Value& given : args.positional) {
    if (given.type == Type::Dict)
      for (const auto& [key, value] : as_dict(given).entries) put(key, value);
    else
      for (const Value& entry : iterate(given)) {
        auto two = unpack(entry, 2);
        put(two[0], two[1]);
      }
  }
  for (const auto& [key, value] : args.named) put(string(key), value);
  Value v;
  v.type = Type::Namespace;
  v.o = object;
  return v;
}

Rendered render(const Template& source, const nlohmann::ordered_json& context, const RenderOptions& options) {
  Budget budget = options.budget;
  BudgetScope scope(budget);
  Engine engine(options);
  return engine.run(source, context);
}

}  // namespace loraine::jinja
