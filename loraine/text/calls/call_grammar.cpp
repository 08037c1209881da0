// See call_grammar.h. What read_call.cpp reads of each form, in the spelling that its models were trained on.
#include "loraine/text/calls/call_grammar.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/grammar/json_schema.h"

namespace loraine {
namespace {

using namespace grammar;
using Node = Rules::Node;

// One tool: its name and what its arguments may be.
struct Tool {
  std::string name;
  const Json* parameters;  // nullptr: none
  bool strict;
  std::string path;
};

bool is_tool_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string::npos;
}

std::vector<Tool> tools_of(const CallGrammar& wanted) {
  if (!wanted.tools.is_array() || wanted.tools.empty())
    throw Error(ErrorKind::usage, "tools: no list of tools, but calls of them are asked for");
  std::vector<Tool> out;
  for (size_t i = 0; i < wanted.tools.size(); ++i) {
    const Json& given = wanted.tools[i];
    const bool inside = given.is_object() && given.contains("function");
    const Json& function = inside ? given["function"] : given;
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string() ||
        !is_tool_name(function["name"].get<std::string>()))
      throw Error(ErrorKind::usage, fmt::format("tools: the name of tool {} is none; letters, digits, _ and - are taken, 64 at most", i));
    const std::string name = function["name"].get<std::string>();
    if (!wanted.name.empty() && name != wanted.name) continue;
    const auto parameters = function.find("parameters");
    const bool given_any = parameters != function.end() && !parameters->is_null();
    const auto strict = function.find("strict");
    out.push_back({name, given_any ? &*parameters : nullptr, strict != function.end() && strict->is_boolean() && strict->get<bool>(),
                   fmt::format("#/tools/{}{}/parameters", i, inside ? "/function" : "")});
  }
  if (out.empty()) throw Error(ErrorKind::usage, fmt::format("tool_choice: `{}` is not among the tools", wanted.name));
  return out;
}

class Builder {
 public:
  explicit Builder(const CallGrammar& wanted)
      : wanted_(wanted),
        tools_(wanted.format ? tools_of(wanted) : std::vector<Tool>()),
        values_(rules_, spelling(), quote()),
        json_(rules_, Spelling::json) {}

  std::shared_ptr<const Automaton> run() {
    std::vector<Node> parts;
    if (wanted_.thoughts) parts.push_back(thought());
    parts.push_back(body());
    return compile(rules_, rules_.add("calls", rules_.sequence(std::move(parts))));
  }

 private:
  bool is_special(std::string_view text) const {
    return std::find(wanted_.special_tokens.begin(), wanted_.special_tokens.end(), text) != wanted_.special_tokens.end();
  }
  Node body() {
    if (!wanted_.format) return shape_rules(rules_, *wanted_.shape);
    if (wanted_.required) return calls();
    return wanted_.shape ? rules_.choice({calls(), shape_rules(rules_, *wanted_.shape)}) : text_with_calls();
  }
  Node marker(std::string_view text) { return rules_.literal(is_special(text) ? special_token(text) : std::string(text)); }
  Node text(std::string_view words) { return rules_.literal(words); }

  Spelling spelling() const {
    return !wanted_.format                                  ? Spelling::json
           : wanted_.format->form == CallForm::gemma        ? Spelling::gemma
           : wanted_.format->form == CallForm::python_calls ? Spelling::python
                                                            : Spelling::json;
  }
  std::string quote() const { return is_special("<|\"|>") ? special_token("<|\"|>") : "<|\"|>"; }

  Node thought() {
    const ThoughtMarks& marks = *wanted_.thoughts;
    std::vector<Node> parts;
    if (!wanted_.in_thought) parts.push_back(marker(marks.open));
    if (is_special(marks.close)) parts.insert(parts.end(), {utf8_graph(rules_, without(marks.close)), marker(marks.close)});
    else parts.push_back(utf8_graph(rules_, up_to(marks.close)));
    parts.push_back(rules_.repeat(text("\n"), 0, 2));
    const Node whole = rules_.sequence(std::move(parts));
    return wanted_.in_thought ? whole : rules_.optional(whole);
  }

  // Text and special tokens that begin no call, then calls, any number of times; text again.
  Node text_with_calls() {
    CharacterAutomaton plain = of_length(0, -1);
    for (const std::string_view opener : wanted_.format->openers)
      if (!is_special(opener)) plain = both(plain, without(opener));
    std::vector<Node> others;
    for (const std::string& token : wanted_.special_tokens) {
      const auto begins = [&](std::string_view opener) { return opener.starts_with(token); };  // Gemma's goes on behind its token
      if (std::none_of(wanted_.format->openers.begin(), wanted_.format->openers.end(), begins)) others.push_back(marker(token));
    }
    const Node words = utf8_graph(rules_, plain);
    const Node free = rules_.sequence({words, rules_.repeat(rules_.sequence({rules_.choice(std::move(others)), words}), 0)});
    return rules_.sequence({rules_.repeat(rules_.sequence({free, rules_.call(rules_.add("calls", calls()))}), 0), free});
  }

  // Several of them, or one.
  Node several(Node one, Node between) {
    const Node call = rules_.call(rules_.add("call", one));
    return wanted_.parallel ? rules_.sequence({call, rules_.repeat(rules_.sequence({between, call}), 0)}) : call;
  }

  template <class F>
  Node each_tool(const F& write) {
    std::vector<Node> nodes;
    for (const Tool& tool : tools_) nodes.push_back(write(tool));
    return rules_.choice(std::move(nodes));
  }

  // Whether the schema can be enforced; throws for a strict tool where it cannot.
  bool follows_schema(const Tool& tool) const {
    if (!tool.parameters) return false;
    try {
      Rules rules;
      const Values values(rules, spelling());
      check_names(JsonSchema(values, *tool.parameters, tool.path).object(), tool);
      compile(rules, JsonSchema(values, *tool.parameters, tool.path).rule());
      return true;
    } catch (const GrammarError&) {
      if (tool.strict) throw;
      return false;
    }
  }

  // Forms that write keys bare cannot hold every name.
  void check_names(const ObjectShape& shape, const Tool& tool) const {
    const CallForm form = wanted_.format->form;
    const bool tags = form == CallForm::function_tags || form == CallForm::argument_pairs;
    if (!tags && form != CallForm::python_calls && form != CallForm::gemma) return;
    static const CharacterAutomaton kWord = parse_regex("[A-Za-z_][A-Za-z0-9_]*"), kInTags = parse_regex("[^<>\\s]+(?: [^<>\\s]+)*");
    for (const ObjectShape::Property& property : shape.properties)
      if (!(tags ? kInTags : kWord).matches(property.name))
        throw GrammarError("unsupported_schema", tool.path + "/properties/" + property.name,
                           fmt::format("the form {} cannot write this name", wanted_.format->name));
  }

  Node object(const Values& values, const Tool& tool) {
    if (!tool.parameters) return tool.strict ? text("{}") : values.any_object();
    return follows_schema(tool) ? rules_.call(JsonSchema(values, *tool.parameters, tool.path).rule()) : values.any_object();
  }

  Node named_object(const Tool& tool, std::string_view arguments) {
    return rules_.sequence({text(fmt::format("{{\"name\": \"{}\", \"{}\": ", tool.name, arguments)), object(json_, tool), text("}")});
  }

  // Arguments one after the other, each `write` of a key and a value; a property that is not required may be absent.
  template <class F>
  Node listed(const Tool& tool, const Values& values, Node between, bool bare_texts, const F& write) {
    if (!tool.parameters && tool.strict) return rules_.nothing();
    ObjectShape shape;
    if (follows_schema(tool)) {
      shape = JsonSchema(values, *tool.parameters, tool.path).object(bare_texts);
      shape.open = false;
    } else {
      shape.open = true;
    }
    const int32_t n = static_cast<int32_t>(shape.properties.size());
    std::vector<Rules::Edge> edges;  // states as in json_schema.cpp: 2i before property i with none so far, 2i + 1 with some
    for (int32_t i = 0; i < n; ++i) {
      const ObjectShape::Property& property = shape.properties[static_cast<size_t>(i)];
      const Node member = write(text(property.name), property.text, rules_.call(property.value));
      edges.push_back({2 * i, 2 * i + 3, member});
      edges.push_back({2 * i + 1, 2 * i + 3, rules_.sequence({between, member})});
      if (property.required) continue;
      edges.push_back({2 * i, 2 * i + 2, rules_.nothing()});
      edges.push_back({2 * i + 1, 2 * i + 3, rules_.nothing()});
    }
    if (shape.open) {
      static const CharacterAutomaton kName = parse_regex("[A-Za-z_][A-Za-z0-9_]*");
      const Node member = write(utf8_graph(rules_, kName), std::optional(of_length(0, -1)), values.any());
      edges.push_back({2 * n, 2 * n + 1, member});
      edges.push_back({2 * n + 1, 2 * n + 1, rules_.sequence({between, member})});
    }
    return rules_.graph(2 * n + 2, std::move(edges), {2 * n, 2 * n + 1});
  }

  // A text as it is, without the mark that ends it; anything else as JSON.
  Node bare(const std::optional<CharacterAutomaton>& characters, Node value, std::string_view mark, std::string_view end) {
    if (!characters) return rules_.sequence({value, text(end)});
    return rules_.sequence({utf8_graph(rules_, both(*characters, without(mark))), text(end)});
  }

  Node calls() {
    const Node line = text("\n");
    switch (wanted_.format->form) {
      case CallForm::tagged_json:
        return several(
            rules_.sequence({marker("<tool_call>"), line, each_tool([&](const Tool& tool) { return named_object(tool, "arguments"); }),
                             line, marker("</tool_call>")}),
            line);
      case CallForm::function_tags:
        return several(
            rules_.sequence({marker("<tool_call>"), line, each_tool([&](const Tool& tool) {
                               const Node parameters =
                                   listed(tool, json_, rules_.nothing(), true, [&](Node key, const auto& characters, Node value) {
                                     return rules_.sequence({text("<parameter="), key, text(">\n"),
                                                             bare(characters, value, "</parameter>", "\n</parameter>\n")});
                                   });
                               return rules_.sequence({text(fmt::format("<function={}>\n", tool.name)), parameters, text("</function>\n")});
                             }),
                             marker("</tool_call>")}),
            line);
      case CallForm::argument_pairs:
        return several(rules_.sequence({marker("<tool_call>"), each_tool([&](const Tool& tool) {
                                          const Node pairs = listed(
                                              tool, json_, rules_.nothing(), true, [&](Node key, const auto& characters, Node value) {
                                                return rules_.sequence({text("<arg_key>"), key, text("</arg_key>\n<arg_value>"),
                                                                        bare(characters, value, "</arg_value>", "</arg_value>"), line});
                                              });
                                          return rules_.sequence({text(tool.name + "\n"), pairs});
                                        }),
                                        marker("</tool_call>")}),
                       line);
      case CallForm::llama_json: return several(each_tool([&](const Tool& tool) { return named_object(tool, "parameters"); }), text("; "));
      case CallForm::mistral:
        if (is_special("[ARGS]"))
          return several(rules_.sequence({marker("[TOOL_CALLS]"), each_tool([&](const Tool& tool) {
                                            return rules_.sequence({text(tool.name), marker("[ARGS]"), object(json_, tool)});
                                          })}),
                         rules_.nothing());
        return rules_.sequence({marker("[TOOL_CALLS]"), rules_.optional(text(" ")), text("["),
                                several(each_tool([&](const Tool& tool) { return named_object(tool, "arguments"); }), text(", ")),
                                text("]")});
      case CallForm::gemma:
        return several(rules_.sequence({gemma_opener(), each_tool([&](const Tool& tool) {
                                          return rules_.sequence({text(tool.name), object(values_, tool)});
                                        }),
                                        marker("<tool_call|>")}),
                       rules_.nothing());
      case CallForm::python_calls:
        return rules_.sequence({marker("<|tool_call_start|>"), text("["),
                                several(each_tool([&](const Tool& tool) {
                                          const Node arguments =
                                              listed(tool, values_, text(", "), false, [&](Node key, const auto&, Node value) {
                                                return rules_.sequence({key, text("="), value});
                                              });
                                          return rules_.sequence({text(tool.name + "("), arguments, text(")")});
                                        }),
                                        text(", ")),
                                text("]"), marker("<|tool_call_end|>")});
      case CallForm::functools:
        return rules_.sequence({text("functools["),
                                several(each_tool([&](const Tool& tool) { return named_object(tool, "arguments"); }), text(", ")),
                                text("]")});
      case CallForm::deepseek: {
        const Node one =
            rules_.sequence({marker("<｜tool▁call▁begin｜>"), text("function"), marker("<｜tool▁sep｜>"), each_tool([&](const Tool& tool) {
                               return rules_.sequence({text(tool.name + "\n```json\n"), object(json_, tool), text("\n```")});
                             }),
                             marker("<｜tool▁call▁end｜>")});
        return rules_.sequence({marker("<｜tool▁calls▁begin｜>"), several(one, line), marker("<｜tool▁calls▁end｜>")});
      }
      case CallForm::toolcall_list:
        return rules_.sequence({marker("<TOOLCALL>"), text("["),
                                several(each_tool([&](const Tool& tool) { return named_object(tool, "arguments"); }), text(", ")),
                                text("]"), marker("</TOOLCALL>")});
      case CallForm::command:
        return rules_.sequence({text("Action:\n```json\n[\n"),
                                several(each_tool([&](const Tool& tool) {
                                          return rules_.sequence({text(fmt::format("    {{\n        \"tool_name\": \"{}\",\n"
                                                                                   "        \"parameters\": ",
                                                                                   tool.name)),
                                                                  object(json_, tool), text("\n    }")});
                                        }),
                                        text(",\n")),
                                text("\n]```")});
      case CallForm::action:
        return several(each_tool([&](const Tool& tool) {
                         return rules_.sequence({text(fmt::format("Action: {}\nAction Input: ", tool.name)), object(json_, tool)});
                       }),
                       line);
      case CallForm::bare_json: {
        const Node one = rules_.call(rules_.add("call", each_tool([&](const Tool& tool) { return named_object(tool, "arguments"); })));
        if (!wanted_.parallel) return one;
        return rules_.choice({one, rules_.sequence({text("["), several(one, text(", ")), text("]")})});
      }
    }
    return rules_.never();
  }

  // Its first part may be a special token.
  Node gemma_opener() {
    return is_special("<|tool_call>") ? rules_.sequence({marker("<|tool_call>"), text("call:")}) : text("<|tool_call>call:");
  }

  const CallGrammar& wanted_;
  Rules rules_;
  std::vector<Tool> tools_;
  Values values_, json_;
};

}  // namespace

std::shared_ptr<const Automaton> call_grammar(const CallGrammar& wanted) {
  if (!wanted.format && !wanted.shape) return nullptr;
  if (wanted.format && !wanted.shape && !wanted.required && wanted.format->openers.empty()) return nullptr;
  if (wanted.format && !wanted.shape && !wanted.required && wanted.format->form == CallForm::llama_json)
    return nullptr;  // it mostly begins without its marker
  return Builder(wanted).run();
}

}  // namespace loraine
