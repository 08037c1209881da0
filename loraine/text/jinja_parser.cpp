// Recursive descent over Jinja tokens; the grammar and the error messages are Jinja2's, depth is bounded. Called by ChatTemplate.
#include <fmt/format.h>

#include <cstdlib>
#include <set>

#include "loraine/text/jinja_ast.h"
#include "loraine/text/jinja_builtins.h"
#include "loraine/text/jinja_lexer.h"

namespace loraine::jinja {
namespace {

constexpr int kMaxDepth = 100;      // of the recursive descent
constexpr int kMaxTreeDepth = 400;  // of the tree

using Words = std::vector<const char*>;

struct Parser {
  std::vector<Token> tokens;
  size_t at = 0;
  int depth = 0, loops = 0;
  bool has_generation = false;
  std::vector<std::string> open_tags;

  struct Descent {
    Parser& p;
    explicit Descent(Parser& parser) : p(parser) {
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

  // ---- expressions, weakest binding first
  NodePtr expression(bool with_condition = true) {
    Descent descent(*this);
    if (!with_condition) return either();
    NodePtr value = either();
    while (skip_name("if")) {
      NodePtr node = make(Kind::Ternary);
      NodePtr condition = either();
      NodePtr otherwise = skip_name("else") ? expression() : nullptr;
      adopt(*node, std::move(condition));
      adopt(*node, std::move(value));
      adopt(*node, std::move(otherwise));
      value = std::move(node);
    }
    return value;
  }
  NodePtr either() {
    NodePtr left = both();
    while (skip_name("or")) left = pair(Kind::Or, "or", std::move(left), both());
    return left;
  }
  NodePtr both() {
    NodePtr left = negation();
    while (skip_name("and")) left = pair(Kind::And, "and", std::move(left), negation());
    return left;
  }
  NodePtr negation() {
    Descent descent(*this);
    if (skip_name("not")) return pair(Kind::Not, "not", negation(), nullptr);
    return comparison();
  }
  NodePtr comparison() {
    NodePtr first = sum();
    NodePtr node;
    for (;;) {
      std::string op;
      if (is(TokenType::Operator) && (is_op("==") || is_op("!=") || is_op("<") || is_op("<=") || is_op(">") || is_op(">=")))
        op = next().text;
      else if (skip_name("in")) op = "in";
      else if (is_name("not") && look().type == TokenType::Name && look().text == "in") {
        next(), next();
        op = "not in";
      } else break;
      if (!node) {
        node = make(Kind::Compare);
        adopt(*node, std::move(first));
      }
      node->names.push_back(op);
      adopt(*node, sum());
    }
    return node ? std::move(node) : std::move(first);
  }
  NodePtr sum() {
    NodePtr left = concatenation();
    while (is_op("+") || is_op("-")) {
      std::string op = next().text;
      left = pair(Kind::Binary, op, std::move(left), concatenation());
    }
    return left;
  }
  NodePtr concatenation() {
    NodePtr first = product();
    if (!is_op("~")) return first;
    NodePtr node = make(Kind::Concat);
    adopt(*node, std::move(first));
    while (skip_op("~")) adopt(*node, product());
    return node;
  }
  NodePtr product() {
    NodePtr left = power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
      std::string op = next().text;
      left = pair(Kind::Binary, op, std::move(left), power());
    }
    return left;
  }
  NodePtr power() {
    NodePtr left = unary(true);
    while (skip_op("**")) left = pair(Kind::Binary, "**", std::move(left), unary(true));
    return left;
  }
  NodePtr unary(bool with_filter) {
    Descent descent(*this);
    NodePtr node;
    if (is_op("-") || is_op("+")) {
      Kind kind = next().text == "-" ? Kind::Negative : Kind::Positive;
      node = pair(kind, "", unary(false), nullptr);
    } else {
      node = postfix(primary());
    }
    return with_filter ? filters(std::move(node)) : std::move(node);
  }

  NodePtr constant(Value value) const {
    NodePtr node = make(Kind::Constant);
    node->constant = std::move(value);
    return node;
  }
  NodePtr number() {
    Token token = next();
    if (token.type == TokenType::Float) return constant(real(std::strtod(token.text.c_str(), nullptr)));
    bool prefixed = token.text.size() > 2 && token.text[0] == '0' && (token.text[1] & 0x40);
    int base = !prefixed ? 10 : (token.text[1] | 0x20) == 'x' ? 16 : (token.text[1] | 0x20) == 'o' ? 8 : 2;
    if (base == 10 && token.text.size() > 4300) error("an integer of more than 4300 digits");
    auto x = BigInteger::from_digits(std::string_view(token.text).substr(prefixed ? 2 : 0), base);
    if (!x) error("not an integer: " + token.text);
    return constant(integer(*x));
  }
  NodePtr primary() {
    Descent descent(*this);
    const Token& token = current();
    if (token.type == TokenType::Name) {
      std::string name = next().text;
      if (name == "true" || name == "True") return constant(boolean(true));
      if (name == "false" || name == "False") return constant(boolean(false));
      if (name == "none" || name == "None") return constant(none());
      return make(Kind::Name, name);
    }
    if (token.type == TokenType::Text) {
      std::string text;
      while (is(TokenType::Text)) text += next().text;
      return constant(string(text));
    }
    if (token.type == TokenType::Integer || token.type == TokenType::Float) return number();
    if (skip_op("(")) {
      NodePtr node = tuple(true, {}, true);
      expect_op(")");
      return node;
    }
    if (is_op("[")) return list_literal();
    if (is_op("{")) return dict_literal();
    error(fmt::format("unexpected '{}'", describe(token)));
  }
  NodePtr list_literal() {
    NodePtr node = make(Kind::List);
    expect_op("[");
    while (!is_op("]")) {
      if (!node->children.empty()) expect_op(",");
      if (is_op("]")) break;
      adopt(*node, expression());
    }
    expect_op("]");
    return node;
  }
  NodePtr dict_literal() {
    NodePtr node = make(Kind::Dict);
    expect_op("{");
    while (!is_op("}")) {
      if (!node->children.empty()) expect_op(",");
      if (is_op("}")) break;
      adopt(*node, expression());
      expect_op(":");
      adopt(*node, expression());
    }
    expect_op("}");
    return node;
  }

  bool tuple_ends(const Words& extra) const {
    if (is(TokenType::VariableEnd) || is(TokenType::BlockEnd) || is_op(")")) return true;
    for (const char* word : extra)
      if (is_name(word)) return true;
    return false;
  }
  NodePtr tuple(bool with_condition, const Words& end_words, bool parentheses) {
    Descent descent(*this);
    NodePtr node = make(Kind::Tuple);
    bool is_tuple = false;
    for (;;) {
      if (!node->children.empty()) expect_op(",");
      if (tuple_ends(end_words)) break;
      adopt(*node, expression(with_condition));
      if (!is_op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple) {
      if (!node->children.empty()) return std::move(node->children[0]);
      if (!parentheses) error(fmt::format("Expected an expression, got '{}'", describe(current())));
    }
    return node;
  }

  NodePtr postfix(NodePtr node) {
    for (;;) {
      if (skip_op(".")) {
        if (is(TokenType::Name)) node = pair(Kind::Attribute, next().text, std::move(node), nullptr);
        else if (is(TokenType::Integer)) node = pair(Kind::Subscript, "", std::move(node), number());
        else error("expected name or number");
      } else if (is_op("[")) node = subscript(std::move(node));
      else if (is_op("(")) node = call(std::move(node));
      else return node;
    }
  }
  NodePtr filters(NodePtr node) {
    for (;;) {
      if (is_op("|")) node = filter(std::move(node), false);
      else if (is_name("is")) node = test(std::move(node));
      else if (is_op("(")) node = call(std::move(node));
      else return node;
    }
  }
  NodePtr subscript(NodePtr node) {
    expect_op("[");
    NodePtr index;
    do {
      if (index && is_op("]")) break;
      NodePtr part = subscript_part();
      if (!index) index = std::move(part);
      else {
        if (index->kind != Kind::Tuple || index->text != "index") {
          NodePtr both = make(Kind::Tuple, "index");
          adopt(*both, std::move(index));
          index = std::move(both);
        }
        adopt(*index, std::move(part));
      }
    } while (skip_op(","));
    expect_op("]");
    return pair(Kind::Subscript, "", std::move(node), std::move(index));
  }
  NodePtr subscript_part() {
    NodePtr begin;
    if (!is_op(":")) {
      begin = expression();
      if (!is_op(":")) return begin;
    }
    expect_op(":");
    NodePtr end, step;
    auto absent = [&] { return is_op("]") || is_op(",") || is_op(":"); };
    if (!absent()) end = expression();
    if (skip_op(":") && !absent()) step = expression();
    NodePtr node = make(Kind::Slice);
    adopt(*node, std::move(begin));
    adopt(*node, std::move(end));
    adopt(*node, std::move(step));
    return node;
  }
  void call_arguments(Node& node) {
    expect_op("(");
    bool first = true, named = false;
    for (; !is_op(")"); first = false) {
      if (!first) {
        expect_op(",");
        if (is_op(")")) break;
      }
      Argument argument;
      if (skip_op("*")) argument.form = Argument::Star;
      else if (skip_op("**")) argument.form = Argument::DoubleStar;
      else if (is(TokenType::Name) && look().type == TokenType::Operator && look().text == "=") {
        argument.form = Argument::Named;
        argument.name = next().text;
        next();
      }
      if (argument.form == Argument::Positional && named) error("invalid syntax for function call expression");
      named = named || argument.form != Argument::Positional;
      argument.value = expression();
      adopt(node, std::move(argument));
    }
    expect_op(")");
  }
  NodePtr call(NodePtr callee) {
    NodePtr node = make(Kind::Call);
    adopt(*node, std::move(callee));
    call_arguments(*node);
    return node;
  }
  std::string dotted_name() {
    std::string name = expect_any_name();
    while (skip_op(".")) name += "." + expect_any_name();
    return name;
  }
  // subject may be null: the filter of a block. inline_: the first filter needs no "|".
  NodePtr filter(NodePtr subject, bool inline_) {
    while (is_op("|") || inline_) {
      if (!inline_) next();
      NodePtr node = make(Kind::Filter, dotted_name());
      if (!is_filter(node->text)) throw JinjaError("TemplateAssertionError", fmt::format("No filter named '{}'.", node->text), node->line);
      adopt(*node, std::move(subject));
      if (is_op("(")) call_arguments(*node);
      subject = std::move(node);
      inline_ = false;
    }
    return subject;
  }
  NodePtr test(NodePtr subject) {
    expect_name("is");
    bool negated = skip_name("not");
    NodePtr node = make(Kind::Test, dotted_name());
    adopt(*node, std::move(subject));
    TokenType t = current().type;
    if (is_op("(")) call_arguments(*node);
    else if ((t == TokenType::Name && !is_name("else") && !is_name("or") && !is_name("and")) || t == TokenType::Text ||
             t == TokenType::Integer || t == TokenType::Float || is_op("[") || is_op("{")) {
      if (is_name("is")) error("You cannot chain multiple tests with is");
      Argument argument;
      argument.value = postfix(primary());
      adopt(*node, std::move(argument));
    }
    if (!is_test(node->text)) throw JinjaError("TemplateAssertionError", fmt::format("No test named '{}'.", node->text), node->line);
    return negated ? pair(Kind::Not, "not", std::move(node), nullptr) : std::move(node);
  }

  // ---- statements
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
    if (node.kind == Kind::Tuple || node.kind == Kind::List) {
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
      std::string word = next().text;
      if (word == "elif") continue;
      if (word == "else") node->orelse = statements({"endif"}, true);
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
      node.names.push_back(expect_any_name());
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
  result.has_generation = parser.has_generation;
  return result;
}

}  // namespace loraine::jinja
