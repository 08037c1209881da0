// Recursive descent over Jinja's expressions; parser.cpp builds the statements on it. Depth is bounded.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "loraine/text/jinja/ast.h"
#include "loraine/text/jinja/lexer.h"

namespace loraine::jinja {

inline constexpr int kMaxDepth = 100;      // of the recursive descent
inline constexpr int kMaxTreeDepth = 400;  // of the tree

using Words = std::vector<const char*>;

struct ExpressionParser {
  std::vector<Token> tokens;
  size_t at = 0;
  int depth = 0;

  struct Descent {
    ExpressionParser& p;
    explicit Descent(ExpressionParser& parser) : p(parser) {
      if (++p.depth > kMaxDepth) p.error(fmt::format("nested deeper than {} levels", kMaxDepth));
    }
    ~Descent() { --p.depth; }
  };

  const Token& current() const { return tokens[at]; }
  const Token& look() const { return tokens[std::min(at + 1, tokens.size() - 1)]; }
  [[noreturn]] void error(const std::string& message) const { throw JinjaError("TemplateSyntaxError", message, current().line); }
  Token next() {
    Token token = current();
    if (at + 1 < tokens.size()) ++at;
    return token;
  }
  bool is(TokenType type) const { return current().type == type; }
  bool is_op(const char* text) const { return is(TokenType::Operator) && current().text == text; }
  bool is_name(const char* text) const { return is(TokenType::Name) && current().text == text; }
  bool skip_op(const char* text) { return is_op(text) && (next(), true); }
  bool skip_name(const char* text) { return is_name(text) && (next(), true); }
  [[noreturn]] void unexpected(const std::string& expected) const {
    if (is(TokenType::End)) error(fmt::format("unexpected end of template, expected '{}'.", expected));
    error(fmt::format("expected token '{}', got '{}'", expected, describe(current())));
  }
  void expect_op(const char* text) {
    if (!skip_op(text)) unexpected(text);
  }
  void expect_name(const char* text) {
    if (!skip_name(text)) unexpected(text);
  }
  std::string expect_any_name() {
    if (!is(TokenType::Name)) unexpected("name");
    return next().text;
  }
  void expect(TokenType type) {
    if (!is(type)) unexpected(describe({type, "", 0}));
    next();
  }

  NodePtr make(Kind kind, std::string text = {}) const {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = current().line;
    node->text = std::move(text);
    return node;
  }
  void adopt(Node& node, NodePtr child) const {
    if (child) node.depth = std::max(node.depth, child->depth + 1);
    if (node.depth > kMaxTreeDepth) error(fmt::format("an expression nested deeper than {} levels", kMaxTreeDepth));
    node.children.push_back(std::move(child));
  }
  void adopt(Node& node, Argument argument) const {
    node.depth = std::max(node.depth, argument.value->depth + 1);
    if (node.depth > kMaxTreeDepth) error(fmt::format("an expression nested deeper than {} levels", kMaxTreeDepth));
    node.arguments.push_back(std::move(argument));
  }
  NodePtr pair(Kind kind, std::string text, NodePtr left, NodePtr right) const {
    NodePtr node = make(kind, std::move(text));
    adopt(*node, std::move(left));
    if (right) adopt(*node, std::move(right));
    return node;
  }

  // weakest binding first
  NodePtr expression(bool with_condition = true);
  NodePtr either();
  NodePtr both();
  NodePtr negation();
  NodePtr comparison();
  NodePtr sum();
  NodePtr concatenation();
  NodePtr product();
  NodePtr power();
  NodePtr unary(bool with_filter);
  NodePtr constant(Value value) const;
  NodePtr number();
  NodePtr primary();
  NodePtr list_literal();
  NodePtr dict_literal();
  bool tuple_ends(const Words& extra) const;
  NodePtr tuple(bool with_condition, const Words& end_words, bool parentheses);
  NodePtr postfix(NodePtr node);
  NodePtr filters(NodePtr node);
  NodePtr subscript(NodePtr node);
  NodePtr subscript_part();
  void call_arguments(Node& node);
  NodePtr call(NodePtr callee);
  std::string dotted_name();
  // subject may be null: the filter of a block. inline_: the first filter needs no "|".
  NodePtr filter(NodePtr subject, bool inline_);
  NodePtr test(NodePtr subject);
};

}  // namespace loraine::jinja
