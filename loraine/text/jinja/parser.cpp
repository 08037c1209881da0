// Jinja's statements over its expressions; the grammar and the error messages are Jinja2's. Called by ChatTemplate.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/text/jinja/expressions.h"

namespace loraine::jinja {
namespace {

struct Parser : ExpressionParser {
  int loops = 0;
  bool has_generation = false;
  std::vector<std::string> open_tags;

  NodePtr assign_target(bool with_namespace, const Words& end_words, bool only_name = false) {
    if (only_name) return make(Kind::Name, expect_any_name());
    if (with_namespace && is(TokenType::Name) && look().type == TokenType::Operator && look().text == ".") {
      NodePtr node = make(Kind::NamespaceAttribute, next().text);
      next();
      node->names.push_back(expect_any_name());
      return node;
    }
    NodePtr node = make(Kind::Tuple);
    bool is_tuple = false;
    for (;;) {
      if (!node->children.empty()) expect_op(",");
      if (tuple_ends(end_words) || is_op("=")) break;
      Descent descent(*this);
      NodePtr part;
      if (with_namespace && is(TokenType::Name) && look().type == TokenType::Operator && look().text == ".")
        part = assign_target(true, end_words);
      else part = primary();
      check_target(*part);
      adopt(*node, std::move(part));
      if (!is_op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple) {
      if (node->children.empty()) error(fmt::format("Expected an expression, got '{}'", describe(current())));
      return std::move(node->children[0]);
    }
    return node;
  }
  void check_target(const Node& node) const {
    if (node.kind == Kind::List) error("can't assign to 'list'");  // a tuple in brackets is refused, as in Jinja2
    if (node.kind == Kind::Tuple) {
      for (const NodePtr& child : node.children) check_target(*child);
      return;
    }
    if (node.kind != Kind::Name && node.kind != Kind::NamespaceAttribute)
      error(fmt::format("can't assign to '{}'", node.kind == Kind::Constant ? "const" : node.kind == Kind::Dict ? "dict" : "expression"));
  }

  bool at_any(const Words& words) const {
    for (const char* word : words)
      if (is_name(word)) return true;
    return false;
  }
  // Statements up to one of `ends`, which stays the current token unless `drop`.
  std::vector<NodePtr> statements(const Words& ends, bool drop) {
    skip_op(":");
    expect(TokenType::BlockEnd);
    std::vector<NodePtr> body = block(ends);
    if (is(TokenType::End)) unclosed(ends);
    if (drop) next();
    return body;
  }
  [[noreturn]] void unclosed(const Words& ends) const {
    std::string wanted;
    for (const char* end : ends) wanted += fmt::format("{}'{}'", wanted.empty() ? "" : " or ", end);
    std::string message = "Unexpected end of template. Jinja was looking for the following tags: " + wanted + ".";
    if (!open_tags.empty()) message += fmt::format(" The innermost block that needs to be closed is '{}'.", open_tags.back());
    error(message);
  }
  std::vector<NodePtr> block(const Words& ends) {
    Descent descent(*this);
    std::vector<NodePtr> body;
    while (!is(TokenType::End)) {
      if (is(TokenType::Data)) {
        body.push_back(make(Kind::Data, current().text));
        next();
      } else if (is(TokenType::VariableBegin)) {
        next();
        body.push_back(pair(Kind::Print, "", tuple(true, {}, false), nullptr));
        expect(TokenType::VariableEnd);
      } else {
        expect(TokenType::BlockBegin);
        if (at_any(ends)) return body;
        body.push_back(statement());
        expect(TokenType::BlockEnd);
      }
    }
    return body;
  }

  NodePtr statement() {
    if (!is(TokenType::Name)) error("tag name expected");
    std::string tag = current().text;
    NodePtr node;
    open_tags.push_back(tag);
    next();
    if (tag == "for") node = for_statement();
    else if (tag == "if") node = if_statement();
    else if (tag == "set") node = set_statement();
    else if (tag == "macro") node = macro_statement();
    else if (tag == "call") node = call_statement();
    else if (tag == "filter") {
      node = make(Kind::FilterBlock);
      adopt(*node, filter(nullptr, true));
      node->body = statements({"endfilter"}, true);
    } else if (tag == "with") node = with_statement();
    else if (tag == "generation") {
      node = make(Kind::Generation);
      has_generation = true;
      int outer = std::exchange(loops, 0);
      node->body = statements({"endgeneration"}, true);
      loops = outer;
    } else if (tag == "break" || tag == "continue") {
      if (loops == 0)
        throw JinjaError("SyntaxError", fmt::format("'{}' {}", tag, tag == "break" ? "outside loop" : "not properly in loop"),
                         current().line);
      node = make(tag == "break" ? Kind::Break : Kind::Continue);
    } else if (tag == "block") node = block_statement();
    else if (tag == "print") {
      node = pair(Kind::Print, "", tuple(true, {}, false), nullptr);
    } else if (tag == "autoescape") {
      node = make(Kind::Scope);
      NodePtr on = expression();
      if (on->kind != Kind::Constant || truthy(on->constant)) error("autoescape is not supported");
      node->body = statements({"endautoescape"}, true);
    } else if (tag == "include" || tag == "extends" || tag == "import" || tag == "from") {
      node = make(Kind::NoLoader, tag);
      while (!is(TokenType::BlockEnd) && !is(TokenType::End)) next();
    } else {
      open_tags.pop_back();
      error(fmt::format("Encountered unknown tag '{}'.", tag));
    }
    open_tags.pop_back();
    return node;
  }
  NodePtr for_statement() {
    NodePtr node = make(Kind::For);
    adopt(*node, assign_target(false, {"in"}));
    expect_name("in");
    adopt(*node, tuple(false, {"recursive"}, false));
    adopt(*node, skip_name("if") ? expression() : nullptr);
    node->recursive = skip_name("recursive");
    ++loops;
    node->body = statements({"endfor", "else"}, false);
    --loops;
    if (next().text == "else") node->orelse = statements({"endfor"}, true);
    return node;
  }
  NodePtr if_statement() {
    NodePtr node = make(Kind::If);
    for (;;) {
      adopt(*node, tuple(false, {}, false));
      NodePtr branch = make(Kind::Scope);
      branch->body = statements({"elif", "else", "endif"}, false);
      node->body.push_back(std::move(branch));
      const Token word = next();
      if (word.text == "elif") continue;
      if (word.text == "else") node->orelse = statements({"endif"}, true);
      return node;
    }
  }
  NodePtr set_statement() {
    NodePtr target = assign_target(true, {});
    if (skip_op("=")) {
      NodePtr node = make(Kind::Set);
      adopt(*node, std::move(target));
      adopt(*node, tuple(true, {}, false));
      return node;
    }
    NodePtr node = make(Kind::SetBlock);
    adopt(*node, std::move(target));
    adopt(*node, filter(nullptr, false));
    node->body = statements({"endset"}, true);
    return node;
  }
  void signature(Node& node) {
    expect_op("(");
    while (!is_op(")")) {
      if (!node.names.empty()) expect_op(",");
      if (is_op(")")) break;
      std::string name = expect_any_name();
      if (std::find(node.names.begin(), node.names.end(), name) != node.names.end())
        throw JinjaError("SyntaxError", fmt::format("duplicate argument '{}' in function definition", name), current().line);
      node.names.push_back(std::move(name));
      if (skip_op("=")) adopt(node, expression());
      else if (!node.children.empty()) error("non-default argument follows default argument");
    }
    expect_op(")");
  }
  NodePtr macro_statement() {
    NodePtr node = make(Kind::Macro);
    node->text = expect_any_name();
    size_t begin = at;
    signature(*node);
    int outer = std::exchange(loops, 0);
    node->body = statements({"endmacro"}, true);
    loops = outer;
    for (size_t k = begin; k < at; ++k) {
      if (tokens[k].type != TokenType::Name) continue;
      node->uses_varargs |= tokens[k].text == "varargs";
      node->uses_kwargs |= tokens[k].text == "kwargs";
      node->uses_caller |= tokens[k].text == "caller";
    }
    return node;
  }
  NodePtr call_statement() {
    NodePtr node = make(Kind::CallBlock);
    if (is_op("(")) signature(*node);
    NodePtr target = expression();
    if (target->kind != Kind::Call) error("expected call");
    Argument argument;
    argument.value = std::move(target);
    adopt(*node, std::move(argument));
    int outer = std::exchange(loops, 0);
    node->body = statements({"endcall"}, true);
    loops = outer;
    return node;
  }
  NodePtr with_statement() {
    NodePtr node = make(Kind::With);
    while (!is(TokenType::BlockEnd)) {
      if (!node->children.empty()) expect_op(",");
      adopt(*node, assign_target(false, {}));
      expect_op("=");
      adopt(*node, expression());
    }
    node->body = statements({"endwith"}, true);
    return node;
  }
  NodePtr block_statement() {
    NodePtr node = make(Kind::Scope, "block");
    std::string name = expect_any_name();
    while (skip_name("scoped") || skip_name("required")) {}
    int outer = std::exchange(loops, 0);
    node->body = statements({"endblock"}, false);
    loops = outer;
    next();
    skip_name(name.c_str());
    return node;
  }
};

}  // namespace

Template parse(std::string_view source) {
  Parser parser;
  parser.tokens = tokenize(source);
  Template result;
  result.body = parser.block({});
  check_names(result.body);
  result.has_generation = parser.has_generation;
  return result;
}

}  // namespace loraine::jinja
