// Expressions give values: the part of the engine that walks them.
#include <fmt/format.h>

#include "loraine/text/jinja/builtins.h"
#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/eval_depth.h"
#include "loraine/text/jinja/objects.h"

namespace loraine::jinja {

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
    return brace_format(this, self, args);
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
      if (!constant_) return slice(object, part[0], part[1], part[2]);
      try {
        return slice(object, part[0], part[1], part[2]);
      } catch (const JinjaError& error) {  // folded by Jinja2's compiler, which asks as for an item
        if (error.type != "TypeError") throw;
        return undefined(type_name(object) + " object has no such slice");
      }
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

}  // namespace loraine::jinja
