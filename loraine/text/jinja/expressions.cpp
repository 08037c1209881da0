// See expressions.h. The grammar and the error messages are Jinja2's.
#include "loraine/text/jinja/expressions.h"

#include <cstdlib>

namespace loraine::jinja {

NodePtr ExpressionParser::expression(bool with_condition) {
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

NodePtr ExpressionParser::either() {
  NodePtr left = both();
  while (skip_name("or")) left = pair(Kind::Or, "or", std::move(left), both());
  return left;
}

NodePtr ExpressionParser::both() {
  NodePtr left = negation();
  while (skip_name("and")) left = pair(Kind::And, "and", std::move(left), negation());
  return left;
}

NodePtr ExpressionParser::negation() {
  Descent descent(*this);
  if (skip_name("not")) return pair(Kind::Not, "not", negation(), nullptr);
  return comparison();
}

NodePtr ExpressionParser::comparison() {
  NodePtr first = sum();
  NodePtr node;
  for (;;) {
    std::string op;
    if (is(TokenType::Operator) && (is_op("==") || is_op("!=") || is_op("<") || is_op("<=") || is_op(">") || is_op(">="))) op = next().text;
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

NodePtr ExpressionParser::sum() {
  NodePtr left = concatenation();
  while (is_op("+") || is_op("-")) {
    std::string op = next().text;
    left = pair(Kind::Binary, op, std::move(left), concatenation());
  }
  return left;
}

NodePtr ExpressionParser::concatenation() {
  NodePtr first = product();
  if (!is_op("~")) return first;
  NodePtr node = make(Kind::Concat);
  adopt(*node, std::move(first));
  while (skip_op("~")) adopt(*node, product());
  return node;
}

NodePtr ExpressionParser::product() {
  NodePtr left = power();
  while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
    std::string op = next().text;
    left = pair(Kind::Binary, op, std::move(left), power());
  }
  return left;
}

NodePtr ExpressionParser::power() {
  NodePtr left = unary(true);
  while (skip_op("**")) left = pair(Kind::Binary, "**", std::move(left), unary(true));
  return left;
}

NodePtr ExpressionParser::unary(bool with_filter) {
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

NodePtr ExpressionParser::constant(Value value) const {
  NodePtr node = make(Kind::Constant);
  node->constant = std::move(value);
  return node;
}

NodePtr ExpressionParser::number() {
  Token token = next();
  if (token.type == TokenType::Float) return constant(real(std::strtod(token.text.c_str(), nullptr)));
  bool prefixed = token.text.size() > 2 && token.text[0] == '0' && (token.text[1] & 0x40);
  int base = !prefixed ? 10 : (token.text[1] | 0x20) == 'x' ? 16 : (token.text[1] | 0x20) == 'o' ? 8 : 2;
  if (base == 10 && token.text.size() > 4300) error("an integer of more than 4300 digits");
  auto x = BigInteger::from_digits(std::string_view(token.text).substr(prefixed ? 2 : 0), base);
  if (!x) error("not an integer: " + token.text);
  return constant(integer(*x));
}

NodePtr ExpressionParser::primary() {
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

NodePtr ExpressionParser::list_literal() {
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

NodePtr ExpressionParser::dict_literal() {
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

bool ExpressionParser::tuple_ends(const Words& extra) const {
  if (is(TokenType::VariableEnd) || is(TokenType::BlockEnd) || is_op(")")) return true;
  for (const char* word : extra)
    if (is_name(word)) return true;
  return false;
}

NodePtr ExpressionParser::tuple(bool with_condition, const Words& end_words, bool parentheses) {
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

NodePtr ExpressionParser::postfix(NodePtr node) {
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

NodePtr ExpressionParser::filters(NodePtr node) {
  for (;;) {
    if (is_op("|")) node = filter(std::move(node), false);
    else if (is_name("is")) node = test(std::move(node));
    else if (is_op("(")) node = call(std::move(node));
    else return node;
  }
}

NodePtr ExpressionParser::subscript(NodePtr node) {
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

NodePtr ExpressionParser::subscript_part() {
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

void ExpressionParser::call_arguments(Node& node) {
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

NodePtr ExpressionParser::call(NodePtr callee) {
  NodePtr node = make(Kind::Call);
  adopt(*node, std::move(callee));
  call_arguments(*node);
  return node;
}

std::string ExpressionParser::dotted_name() {
  std::string name = expect_any_name();
  while (skip_op(".")) name += "." + expect_any_name();
  return name;
}

// subject may be null: the filter of a block. inline_: the first filter needs no "|".
NodePtr ExpressionParser::filter(NodePtr subject, bool inline_) {
  while (is_op("|") || inline_) {
    if (!inline_) next();
    NodePtr node = make(Kind::Filter, dotted_name());
    adopt(*node, std::move(subject));
    if (is_op("(")) call_arguments(*node);
    subject = std::move(node);
    inline_ = false;
  }
  return subject;
}

NodePtr ExpressionParser::test(NodePtr subject) {
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
  return negated ? pair(Kind::Not, "not", std::move(node), nullptr) : std::move(node);
}

}  // namespace loraine::jinja
