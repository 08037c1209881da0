// Statements write text: the part of the engine that walks them, loops and macros.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/eval_depth.h"
#include "loraine/text/jinja/objects.h"

namespace loraine::jinja {
namespace {

// Made of literals, operators and filters alone.
bool is_constant(const Node& node) {
  if (node.kind == Kind::Name || node.kind == Kind::Call) return false;
  for (const NodePtr& child : node.children)
    if (child && !is_constant(*child)) return false;
  return std::all_of(node.arguments.begin(), node.arguments.end(), [](const Argument& argument) { return is_constant(*argument.value); });
}

}  // namespace

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
      constant_ = is_constant(*node.children[0]);
      Value value = eval(*node.children[0], scope);
      constant_ = false;
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

}  // namespace loraine::jinja
