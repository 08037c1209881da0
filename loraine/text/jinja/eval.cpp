// Walks the tree of a template: statements write text, expressions give values. Scopes are a chain looked up at run time, which
// gives Jinja's scoping: loops, macros, with, call and generation blocks open one; if does not.
#include "loraine/text/jinja/eval.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/objects.h"

namespace loraine::jinja {
namespace {

constexpr int kMaxEvalDepth = 1500;
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

struct Depth {
  int& depth;
  explicit Depth(int& d) : depth(d) {
    charge(1);
    if (++depth > kMaxEvalDepth) {
      --depth;
      fail("RecursionError", "maximum recursion depth exceeded");
    }
  }
  ~Depth() { --depth; }
};
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

std::tm Engine::now() const {
  if (options_.now) return *options_.now;
  std::time_t t = std::time(nullptr);
  std::tm local{};
  localtime_r(&t, &local);
  return local;
}

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

// ---- statements

Flow Engine::exec(const std::vector<NodePtr>& body, const ScopePtr& scope) {
  for (const NodePtr& node : body) {
    Flow flow;
    try {
      flow = exec(*node, scope);
    } catch (JinjaError& error) {
      if (error.line == 0) error.line = node->line;
      throw;
    }
    if (flow != Flow::Normal) return flow;
  }
  return Flow::Normal;
}

Flow Engine::exec(const Node& node, const ScopePtr& scope) {
  Depth guard(depth_);
  switch (node.kind) {
    case Kind::Data: write(node.text); break;
    case Kind::Print: {
      Value value = eval(*node.children[0], scope);
      if (value.is_string()) write(value.text());
      else write(to_text(value));
      break;
    }
    case Kind::If:
      for (size_t k = 0; k < node.children.size(); ++k)
        if (truthy(eval(*node.children[k], scope))) return exec(node.body[k]->body, scope);
      return exec(node.orelse, scope);
    case Kind::For: exec_for(node, eval(*node.children[1], scope), scope, 0); break;
    case Kind::Set: assign(*node.children[0], eval(*node.children[1], scope), scope); break;
    case Kind::SetBlock: {
      Value value = string(capture(node.body, child_of(scope)));
      if (node.children[1]) {
        auto before = std::exchange(block_subject_, value);
        value = eval(*node.children[1], scope);
        block_subject_ = before;
      }
      assign(*node.children[0], value, scope);
      break;
    }
    case Kind::FilterBlock: {
      auto before = std::exchange(block_subject_, string(capture(node.body, child_of(scope))));
      Value value = eval(*node.children[0], scope);
      block_subject_ = before;
      write(to_text(value));
      break;
    }
    case Kind::Macro: {
      auto macro = std::make_shared<MacroObject>();
      macro->node = &node;
      macro->closure = scope;
      macro->name = node.text;
      keep(scope);
      scope->variables[node.text] = object_value(macro);
      break;
    }
    case Kind::CallBlock: {
      auto caller = std::make_shared<MacroObject>();
      caller->node = &node;
      caller->closure = scope;
      caller->name = "caller";
      caller->is_caller = true;
      const Node& target = *node.arguments[0].value;
      Value callee = eval(*target.children[0], scope);
      Args args = eval_arguments(target, scope);
      args.named.emplace_back("caller", object_value(caller));
      keep(scope);
      write(to_text(call(callee, args)));
      break;
    }
    case Kind::With: {
      ScopePtr inner = child_of(scope);
      std::vector<Value> values;
      for (size_t k = 1; k < node.children.size(); k += 2) values.push_back(eval(*node.children[k], scope));
      for (size_t k = 0; k < values.size(); ++k) assign(*node.children[2 * k], values[k], inner);
      return exec(node.body, inner);
    }
    case Kind::Scope: return exec(node.body, child_of(scope));
    case Kind::Generation: exec_generation(node, scope); break;
    case Kind::Break: return Flow::Break;
    case Kind::Continue: return Flow::Continue;
    case Kind::NoLoader: fail("TypeError", "no loader for this environment specified");
    default: fail("TypeError", "not a statement");
  }
  return Flow::Normal;
}

void Engine::exec_generation(const Node& node, const ScopePtr& scope) {
  std::string text = capture(node.body, child_of(scope));
  size_t begin = result_.text.size();
  result_.generation.emplace_back(begin, begin + text.size());
  write(text);
}

void Engine::exec_for(const Node& node, const Value& iterable, const ScopePtr& scope, int depth) {
  auto loop = std::make_shared<LoopObject>();
  loop->node = &node;
  loop->scope = scope;
  loop->level = depth;
  std::vector<Value> all = iterate(iterable);
  if (node.children[2]) {
    for (Value& item : all) {
      ScopePtr inner = child_of(scope);
      assign(*node.children[0], item, inner);
      if (truthy(eval(*node.children[2], inner))) loop->items.push_back(std::move(item));
    }
  } else {
    loop->items = std::move(all);
  }
  if (loop->items.empty()) {
    exec(node.orelse, child_of(scope));
    return;
  }
  loop->hold(static_cast<int64_t>(sizeof(LoopObject) + loop->items.capacity() * sizeof(Value)));
  for (const Value& item : loop->items)
    if (item.o) loop->depth = std::max(loop->depth, item.o->depth + 1);
  if (loop->depth > kMaxValueDepth) fail("RecursionError", fmt::format("values nested deeper than {} levels", kMaxValueDepth));
  Value loop_value = object_value(loop);
  ScopePtr inner = child_of(scope);
  for (loop->index0 = 0; loop->index0 < loop->size(); ++loop->index0) {
    charge(1);
    if (inner.use_count() > 1) inner = child_of(scope);
    else inner->variables.clear();
    inner->variables["loop"] = loop_value;
    assign(*node.children[0], loop->items[static_cast<size_t>(loop->index0)], inner);
    if (exec(node.body, inner) == Flow::Break) break;
  }
}

Value Engine::run_loop(const Node& node, const Value& iterable, const ScopePtr& scope, int depth) {
  Depth guard(depth_);
  std::string text;
  std::string* before = std::exchange(out_, &text);
  try {
    exec_for(node, iterable, scope, depth);
  } catch (...) {
    out_ = before;
    throw;
  }
  out_ = before;
  charge_live(-static_cast<int64_t>(text.size()));
  return string(std::move(text));
}

Value Engine::call_macro(const Node& node, const ScopePtr& closure, const std::string& name, Args& args, bool is_caller) {
  Depth guard(depth_);
  ScopePtr scope = child_of(closure);
  size_t n = node.names.size(), defaults = is_caller ? node.children.size() - 0 : node.children.size();
  std::vector<bool> filled(n, false);
  auto named = std::move(args.named);
  auto take = [&](const std::string& key) -> std::optional<Value> {
    charge(static_cast<int64_t>(named.size() / 8));
    for (auto it = named.begin(); it != named.end(); ++it)
      if (it->first == key) {
        Value value = it->second;
        named.erase(it);
        return value;
      }
    return std::nullopt;
  };
  for (size_t k = 0; k < n; ++k) {
    Value value;
    if (k < args.positional.size()) value = args.positional[k];
    else if (auto given_value = take(node.names[k])) value = *given_value;
    else if (k + defaults >= n) value = eval(*node.children[k + defaults - n], scope);
    else value = undefined("parameter '" + node.names[k] + "' was not provided");
    scope->variables[node.names[k]] = value;
  }
  if (auto caller = take("caller")) {
    if (!node.uses_caller && !is_caller) fail("TypeError", fmt::format("macro '{}' takes no keyword argument 'caller'", name));
    scope->variables["caller"] = *caller;
  } else if (node.uses_caller && std::find(node.names.begin(), node.names.end(), "caller") == node.names.end()) {
    scope->variables["caller"] = undefined("No caller defined");
  }
  if (node.uses_kwargs) {
    std::vector<std::pair<Value, Value>> entries;
    for (auto& [key, value] : named) entries.emplace_back(string(key), value);
    scope->variables["kwargs"] = dict(std::move(entries));
  } else if (!named.empty()) {
    fail("TypeError", fmt::format("macro '{}' takes no keyword argument '{}'", name, named[0].first));
  }
  if (node.uses_varargs) {
    std::vector<Value> rest;
    for (size_t k = n; k < args.positional.size(); ++k) rest.push_back(args.positional[k]);
    scope->variables["varargs"] = list(std::move(rest), Type::Tuple);
  } else if (args.positional.size() > n) {
    fail("TypeError", fmt::format("macro '{}' takes not more than {} argument(s)", name, n));
  }
  return string(capture(node.body, scope));
}

// ---- expressions

Args Engine::eval_arguments(const Node& node, const ScopePtr& scope) {
  Args args;
  for (const Argument& argument : node.arguments) {
    Value value = eval(*argument.value, scope);
    switch (argument.form) {
      case Argument::Positional: args.positional.push_back(std::move(value)); break;
      case Argument::Named: args.named.emplace_back(argument.name, std::move(value)); break;
      case Argument::Star:
        for (Value& item : iterate(value)) args.positional.push_back(std::move(item));
        break;
      case Argument::DoubleStar:
        if (value.type != Type::Dict) fail("TypeError", "argument after ** must be a mapping, not " + type_name(value));
        for (const auto& [key, item] : as_dict(value).entries) {
          if (!key.is_string()) fail("TypeError", "keywords must be strings");
          args.named.emplace_back(key.text(), item);
        }
    }
  }
  return args;
}

Value Engine::call(const Value& callee, Args& args) {
  Depth guard(depth_);
  if (callee.undefined()) fail_undefined(callee);
  if (callee.type != Type::Object) fail("TypeError", "'" + type_name(callee) + "' object is not callable");
  std::shared_ptr<Object> alive = callee.o;
  auto& object = static_cast<CallableObject&>(*alive);
  if (!object.callable()) fail("TypeError", "'" + type_name(callee) + "' object is not callable");
  return object.call(*this, args);
}

Value Engine::eval_call(const Node& node, const ScopePtr& scope) {
  const Node& target = *node.children[0];
  if (target.kind != Kind::Attribute) {
    Value callee = eval(target, scope);
    Args args = eval_arguments(node, scope);
    return call(callee, args);
  }
  Value self = eval(*target.children[0], scope);
  if (self.type == Type::Object && (target.text == "cycle" || target.text == "changed")) {
    if (auto loop = std::dynamic_pointer_cast<LoopObject>(self.o)) {
      LoopMethod method;
      method.loop = loop;
      method.cycle = target.text == "cycle";
      Args args = eval_arguments(node, scope);
      return method.call(*this, args);
    }
  }
  Value result;
  if (self.type == Type::Object && cycler_method(self, target.text, result)) return result;
  if (self.is_string() && target.text == "format") {
    Args args = eval_arguments(node, scope);
    return brace_format(this, self.text(), args);
  }
  if (method_access(self, target.text) == Access::allowed) {
    Args args = eval_arguments(node, scope);
    return call_method(self, target.text, args);
  }
  Value callee = get_attribute(*this, self, target.text);
  Args args = eval_arguments(node, scope);
  return call(callee, args);
}

Value Engine::eval_compare(const Node& node, const ScopePtr& scope) {
  Value left = eval(*node.children[0], scope);
  for (size_t k = 0; k < node.names.size(); ++k) {
    Value right = eval(*node.children[k + 1], scope);
    const std::string& op = node.names[k];
    bool holds;
    if (op == "==") holds = equal(left, right);
    else if (op == "!=") holds = !equal(left, right);
    else if (op == "in") holds = contains(left, right);
    else if (op == "not in") holds = !contains(left, right);
    else holds = compare(left, right, op.c_str());
    if (!holds) return boolean(false);
    left = std::move(right);
  }
  return boolean(true);
}

Value Engine::eval(const Node& node, const ScopePtr& scope) {
  Depth guard(depth_);
  auto child = [&](size_t k) { return eval(*node.children[k], scope); };
  switch (node.kind) {
    case Kind::Constant: return node.constant;
    case Kind::Name: return lookup(node.text, scope);
    case Kind::List:
    case Kind::Tuple: {
      std::vector<Value> items;
      for (const NodePtr& item : node.children) items.push_back(eval(*item, scope));
      return list(std::move(items), node.kind == Kind::List ? Type::List : Type::Tuple);
    }
    case Kind::Dict: {
      std::vector<std::pair<Value, Value>> entries;
      for (size_t k = 0; k < node.children.size(); k += 2) {
        Value key = child(k);
        entries.emplace_back(std::move(key), child(k + 1));
      }
      return dict(std::move(entries));
    }
    case Kind::Attribute: return get_attribute(*this, child(0), node.text);
    case Kind::Subscript: {
      const Node& index = *node.children[1];
      Value object = child(0);
      if (index.kind != Kind::Slice) return get_item(this, object, eval(index, scope));
      Value part[3];
      for (size_t k = 0; k < 3; ++k) part[k] = index.children[k] ? eval(*index.children[k], scope) : none();
      return slice(object, part[0], part[1], part[2]);
    }
    case Kind::Slice: fail("TypeError", "slices among several indices are not supported");
    case Kind::Call: return eval_call(node, scope);
    case Kind::Filter: {
      Value subject;
      if (node.children[0]) subject = child(0);
      else subject = block_subject_ ? *block_subject_ : none();
      Args args = eval_arguments(node, scope);
      return apply_filter(*this, node.text, subject, args);
    }
    case Kind::Test: {
      Value subject = child(0);
      Args args = eval_arguments(node, scope);
      return boolean(apply_test(node.text, subject, args));
    }
    case Kind::Not: return boolean(!truthy(child(0)));
    case Kind::Negative:
    case Kind::Positive: {
      Value x = child(0);
      if (x.undefined()) fail_undefined(x);
      bool negative = node.kind == Kind::Negative;
      if (!x.is_number()) fail("TypeError", fmt::format("bad operand type for unary {}: '{}'", negative ? '-' : '+', type_name(x)));
      if (x.type == Type::Float) return real(negative ? -x.d : x.d);
      return binary(negative ? "-" : "+", integer(0), x);
    }
    case Kind::Binary: {
      Value left = child(0);
      return binary(node.text, left, child(1));
    }
    case Kind::And: {
      Value left = child(0);
      return truthy(left) ? child(1) : left;
    }
    case Kind::Or: {
      Value left = child(0);
      return truthy(left) ? left : child(1);
    }
    case Kind::Concat: {
      std::string text;
      for (size_t k = 0; k < node.children.size(); ++k) append(text, to_text(child(k)));
      return string(std::move(text));
    }
    case Kind::Compare: return eval_compare(node, scope);
    case Kind::Ternary:
      if (truthy(child(0))) return child(1);
      if (node.children[2]) return child(2);
      return undefined("the inline if-expression evaluated to false and no else section was defined.");
    default: fail("TypeError", "not an expression");
  }
}

Rendered render(const Template& source, const nlohmann::ordered_json& context, const RenderOptions& options) {
  Budget budget = options.budget;
  BudgetScope scope(budget);
  Engine engine(options);
  return engine.run(source, context);
}

}  // namespace loraine::jinja
