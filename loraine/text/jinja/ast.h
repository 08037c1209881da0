// The tree of a parsed Jinja template. Made by parser.cpp, walked by run_statements.cpp and run_expressions.cpp.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

enum class Kind {
  // expressions; `children` in the order written
  Constant,
  Name,
  Tuple,
  List,
  Dict,
  Attribute,
  Subscript,
  Slice,
  Call,
  Filter,
  Test,
  Not,
  Negative,
  Positive,
  Binary,
  And,
  Or,
  Concat,
  Compare,
  Ternary,
  NamespaceAttribute,
  // statements
  Data,
  Print,
  For,
  If,
  Set,
  SetBlock,
  Macro,
  CallBlock,
  FilterBlock,
  With,
  Generation,
  Scope,
  Break,
  Continue,
  NoLoader
};

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Argument {
  enum Form { Positional, Named, Star, DoubleStar } form = Positional;
  std::string name;
  NodePtr value;
};

struct Node {
  Kind kind;
  int line = 0;
  int depth = 1;
  std::string text;  // name, operator, attribute, data
  Value constant;
  std::vector<NodePtr>
      children;  // of an expression; a null child is an absent part of a Slice, a Ternary, or the subject of a filter block
  std::vector<std::string> names;   // operators of Compare; parameters of Macro and CallBlock
  std::vector<Argument> arguments;  // of Call, Filter, Test
  std::vector<NodePtr> body, orelse;
  bool recursive = false;                                               // For
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;  // Macro
};
// For: children = target, iterable, condition (may be null). If: children = conditions, one block each; orelse.
// Macro, CallBlock: names = parameters, children = defaults of the last ones; CallBlock: the call is arguments[0]. With: children = target,
// value, …

struct Template {
  std::vector<NodePtr> body;
  bool has_generation = false;
};

Template parse(std::string_view source);

// Throws TemplateAssertionError for a filter or test that does not exist, except where Jinja2 waits until it is reached: directly in an if
// statement or a conditional expression.
void check_names(const std::vector<NodePtr>& body);

}  // namespace loraine::jinja
