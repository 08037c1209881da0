// Jinja source to tokens, with trim_blocks and lstrip_blocks as transformers sets them. Used by the parser.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace loraine::jinja {

enum class TokenType { Data, BlockBegin, BlockEnd, VariableBegin, VariableEnd, Name, Text, Integer, Float, Operator, End };

struct Token {
  TokenType type;
  std::string text;  // a Text is already unescaped
  int line;
};

std::vector<Token> tokenize(std::string_view source);
std::string describe(const Token& token);  // as Jinja names it in errors

}  // namespace loraine::jinja
