// Filters and tests that do not exist, found where Jinja2's compiler finds them. Called by the parser, once the whole template is read.
#include <fmt/format.h>

#include "loraine/text/jinja/ast.h"
#include "loraine/text/jinja/builtins.h"

namespace loraine::jinja {
namespace {

// `soft`: in the branches and the condition of an if, whose filters and tests count when they are reached. What has a scope of its own in
// there (the body of a loop, of a macro, …) is not soft again.
void check(const Node& node, bool soft);

void check_all(const std::vector<NodePtr>& nodes, bool soft) {
  for (const NodePtr& node : nodes)
    if (node) check(*node, soft);
}

void check(const Node& node, bool soft) {
  const bool filter = node.kind == Kind::Filter;
  if (!soft && (filter ? !is_filter(node.text) : node.kind == Kind::Test && !is_test(node.text)))
    throw JinjaError("TemplateAssertionError", fmt::format("No {} named '{}'.", filter ? "filter" : "test", node.text), node.line);
  bool children = soft, body = false;
  switch (node.kind) {
    case Kind::Ternary: children = true; break;
    case Kind::If:
      check_all(node.children, true);
      for (const NodePtr& branch : node.body) check_all(branch->body, true);
      return check_all(node.orelse, true);
    case Kind::For:  // the iterable belongs to what is around the loop
      check(*node.children[0], false);
      check(*node.children[1], soft);
      if (node.children[2]) check(*node.children[2], false);
      children = false;
      break;
    case Kind::Macro:
    case Kind::SetBlock:
    case Kind::FilterBlock: children = false; break;
    case Kind::CallBlock: check_all(node.children, false); break;
    default: break;
  }
  if (node.kind != Kind::For && node.kind != Kind::CallBlock) check_all(node.children, children);
  for (const Argument& argument : node.arguments) check(*argument.value, children);
  check_all(node.body, body);
  check_all(node.orelse, false);
}

}  // namespace

void check_names(const std::vector<NodePtr>& body) { check_all(body, false); }

}  // namespace loraine::jinja
