// Grammars by the texts that they take, and masks against a slow reference that tries every token.
#include "loraine/grammar/grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "loraine/grammar/json_schema.h"

namespace loraine::grammar::grammar_test {
namespace {

// Every byte is a token, and texts of several; the last one ends an answer.
std::shared_ptr<const Vocabulary> vocabulary_of(std::vector<std::string> texts, bool drops_first_space = false) {
  std::vector<TokenBytes> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
  for (std::string& text : texts) tokens.push_back({std::move(text)});
  tokens.push_back({"<mark>", true});
  tokens.push_back({"</s>", true});
  return std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{static_cast<int32_t>(tokens.size() - 1)}, drops_first_space);
}

bool takes(const std::shared_ptr<const Automaton>& automaton, std::string_view text) {
  static const auto vocabulary = vocabulary_of({});
  GrammarState state(std::make_shared<TokenGrammar>(automaton, vocabulary));
  return state.accept_text(text) && state.complete();
}

struct Refusal {
  std::string code, path;
};
template <class F>
Refusal refusal(const F& make) {
  try {
    make();
  } catch (const GrammarError& error) { return {error.code, error.path}; }
  return {"none", ""};
}

TEST(Grammar, AnyJsonObject) {
  const auto object = json_object();
  for (const char* text :
       {"{}", R"({"a": 1})", R"({"a":[1,-2.5e3,{"b":null}],"c":"x\n\u00e9\ud83d\ude00é","d":{}})", "{\n  \"a\": true,\n  \"b\": []\n}"})
    EXPECT_TRUE(takes(object, text)) << text;
  for (const char* text : {"[]", "1", "{", R"({"a": 01})", R"({"a": 1,})", R"({'a': 1})", R"({"a" 1})", R"({"a": "\ud83d"})",
                           "{\"a\": \"\n\"}", "{} ", "{\n\n}", "{\"a\": \"\xff\"}", "{\"a\": \"\xc3\"}", R"({"a": NaN})"})
    EXPECT_FALSE(takes(object, text)) << text;
  EXPECT_TRUE(takes(object, "{" + std::string(32, ' ') + "}"));
  EXPECT_FALSE(takes(object, "{" + std::string(33, ' ') + "}"));
  const auto nested = [](int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += "{\"a\":";
    return text + "1" + std::string(static_cast<size_t>(depth), '}');
  };
  EXPECT_TRUE(takes(object, nested(500)));
}

struct SchemaCase {
  const char* schema;
  std::vector<const char*> taken, refused;
};

TEST(Grammar, KeywordsOfSchemas) {
  const std::vector<SchemaCase> cases{
      {R"({"type": "string"})", {R"("")", R"("a\"b")"}, {"a", "1", "\"a"}},
      {R"({"type": ["integer", "null"]})", {"0", "-17", "null"}, {"1.5", "-0", "01", "true"}},
      {R"({"type": "number"})", {"0", "-1.25", "1e5", "2E-3"}, {"1.", ".5", "1e", "+1"}},
      {R"({"type": "integer", "minimum": -12, "maximum": 345})",
       {"-12", "-9", "0", "7", "99", "345"},
       {"-13", "346", "1000", "-0", "-100"}},
      {R"({"type": "integer", "exclusiveMinimum": 9.5, "exclusiveMaximum": 21})", {"10", "20"}, {"9", "21"}},
      {R"({"type": "integer", "minimum": 98})", {"98", "99", "100", "1000", "123456789012345678"}, {"97", "0", "-98"}},
      {R"({"enum": ["a\nb", 1, 1.5, null, [1, {"x": "é"}]]})",
       {R"("a\nb")", "1", "1.5", "null", R"([1, {"x": "é"}])", R"([1,{"x":"é"}])"},
       {"\"a\"", "2", "[1]"}},
      {R"({"const": {"a": {}}})", {R"({"a": {}})"}, {"{}", R"({"a": 1})"}},
      {R"({"type": "integer", "enum": [1, "a", 7, 2], "maximum": 5})", {"1", "2"}, {"7", "\"a\""}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {R"("ab")", R"("日本é")", R"("a\n\"")", R"("\u00e9b")"},
       {R"("a")", R"("abcd")"}},
      {R"({"type": "string", "pattern": "^[a-c]+\"?$", "maxLength": 3})",
       {R"("a")", R"("ab\"")", R"("cba")"},
       {R"("")", R"("abcd")", R"("d")", R"("abc\"")"}},
      {R"({"type": "string", "format": "date"})",
       {R"("2024-02-29")", R"("1999-12-31")"},
       {R"("2023-02-29")", R"("2024-04-31")", R"("0000-01-01")", R"("2024-13-01")"}},
      {R"({"format": "uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"}, {R"("123e4567")", "1"}},
      {R"({"format": "ipv4"})", {R"("255.0.10.199")"}, {R"("256.1.1.1")", R"("01.1.1.1")"}},
      {R"({"format": "date-time"})", {R"("2024-02-29T23:59:59.5+01:30")"}, {R"("2024-02-29 23:59:59Z")"}},
      {R"({"format": "email"})", {R"("a.b@c-d.org")"}, {R"("a@")", R"("a b@c")"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
       {"[1]", "[1, 2,3]"},
       {"[]", "[1,2,3,4]", "[\"a\"]", "[1,]"}},
      {R"({"type": "array", "prefixItems": [{"const": 1}, {"const": "b"}], "items": {"type": "null"}, "minItems": 1})",
       {"[1]", "[1,\"b\"]", "[1,\"b\",null,null]"},
       {"[]", "[\"b\"]", "[1,\"b\",2]"}},
      {R"({"type": "array", "prefixItems": [{"const": 1}], "items": false})", {"[]", "[1]"}, {"[1,1]"}},
      {R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"]})",
       {R"({"a": 1, "b": "x"})", R"({"b":"x"})"},
       {"{}", R"({"a": 1})", R"({"b":"x","c":1})", R"({"a":"x","b":"x"})"}},
      {R"({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}})",
       {"{}", R"({"a":[]})", R"({"a":[],"b":1})", R"({"ab":1,"":2})"},
       {R"({"b":"x"})", R"({"b":1,"a":[]})"}},
      {R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"a":1})"}},
      {R"({"required": ["x"]})", {R"({"x":1})"}, {"{}", "1"}},
      {R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]})", {"1", "[1,[2,[]]]"}, {"\"a\"", "[\"a\"]"}},
      {R"({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"const": 2}, "a": {"maximum": 9}}}]})",
       {R"({"a":9})", R"({"a":1,"b":2})"},
       {R"({"a":10})", R"({"b":2})"}},
      {R"({"allOf": [{"properties": {"a": {}}, "additionalProperties": false}, {"properties": {"b": {}}}]})",
       {"{}", R"({"a":1})"},
       {R"({"b":1})"}},
      {R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"oneOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["next"]}}})",
       {R"({"next":{"next":null}})"},
       {"{}", R"({"next":1})"}},
      {R"({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"const": 5}}, "maximum": 9})", {"5"}, {"6"}},
      {R"({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "A"}}, "required": ["a"]})",
       {R"({"a":null})", R"({"a":""})"},
       {R"({"a":1})"}},
      {"true", {"1", "{}", "[[]]", "\"a\""}, {"a"}},
      {R"({"description": "anything", "x-own": 3})", {"1", "{}"}, {""}},
  };
  for (const SchemaCase& each : cases) {
    const auto automaton = json_schema(each.schema);
    for (const char* text : each.taken) EXPECT_TRUE(takes(automaton, text)) << each.schema << " takes " << text;
    for (const char* text : each.refused) EXPECT_FALSE(takes(automaton, text)) << each.schema << " refuses " << text;
  }
}

TEST(Grammar, WhatIsNotBuiltIsNamed) {
  struct Case {
    const char *schema, *code, *path;
  };
  const Case cases[] = {
      {R"({"properties": {"a/b": {"not": {}}}})", "unsupported_schema", "#/properties/a~1b/not"},
      {R"({"items": {"anyOf": [{}, {"multipleOf": 2}]}})", "unsupported_schema", "#/items/anyOf/1/multipleOf"},
      {R"({"$defs": {"x": {"uniqueItems": true}}, "allOf": [{"$ref": "#/$defs/x"}]})", "unsupported_schema", "#/$defs/x/uniqueItems"},
      {R"({"if": {}})", "unsupported_schema", "#/if"},
      {R"({"patternProperties": {"a": {}}})", "unsupported_schema", "#/patternProperties"},
      {R"({"type": "object", "minProperties": 1})", "unsupported_schema", "#/minProperties"},
      {R"({"type": "number", "minimum": 0})", "unsupported_schema", "#/minimum"},
      {R"({"type": "string", "format": "uri"})", "unsupported_schema", "#/format"},
      {R"j({"type": "string", "pattern": "a(?=b)"})j", "invalid_regex", "#/pattern"},
      {R"({"$ref": "other.json#/a"})", "unsupported_schema", "#/$ref"},
      {R"({"$ref": "#/nowhere"})", "invalid_schema", "#/$ref"},
      {R"({"$ref": "#"})", "unsupported_schema", "#"},
      {R"({"anyOf": [{"$ref": "#"}]})", "unsupported_schema", "#"},
      {R"({"type": "text"})", "invalid_schema", "#/type"},
      {R"({"enum": []})", "invalid_schema", "#/enum"},
      {R"({"type": "integer", "minimum": 5, "maximum": 4})", "unsupported_schema", "#"},
      {R"({"type": "array", "items": [{}]})", "unsupported_schema", "#/items"},
      {"false", "unsupported_schema", "#"},
      {"3", "invalid_schema", "#"},
      {"{", "invalid_schema", ""},
  };
  for (const Case& each : cases) {
    const Refusal got = refusal([&] { json_schema(each.schema); });
    EXPECT_EQ(got.code, each.code) << each.schema;
    EXPECT_EQ(got.path, each.path) << each.schema;
  }
  for (const char* idle :
       {R"({"uniqueItems": false})", R"({"minProperties": 0})", R"({"unevaluatedProperties": true, "patternProperties": {}})"})
    EXPECT_EQ(refusal([&] { json_schema(idle); }).code, "none") << idle;
}

TEST(Grammar, SchemasHaveLimits) {
  std::string deep = "{\"type\": \"integer\"}", wide = "{\"anyOf\": [", huge = "{\"description\": \"" + std::string(300'000, 'a') + "\"}";
  for (int i = 0; i < 40; ++i) deep = "{\"items\": " + deep + "}";
  for (int i = 0; i < 5000; ++i) wide += "{\"type\": \"string\", \"minLength\": " + std::to_string(i) + "},";
  wide.back() = ']';
  wide += "}";
  for (const std::string& text : {deep, wide, huge, std::string(1000, '['), std::string(R"({"pattern": "(a|b)*a(a|b){20}"})"),
                                  std::string(R"({"pattern": "a{9999}{9999}"})"), std::string(R"({"pattern": "((a{1000}){1000}){1000}"})"),
                                  std::string(R"({"minItems": 1000000})")}) {
    const std::string code = refusal([&] { json_schema(text); }).code;
    EXPECT_TRUE(code == "grammar_too_large" || (code == "invalid_regex" && text.find("9999") != text.npos))
        << text.substr(0, 60) << ": " << code;
  }
  EXPECT_TRUE(takes(json_schema(R"({"type": "string", "maxLength": 1000000})"), "\"abc\""));
}

TEST(Grammar, RegularExpressions) {
  struct Case {
    const char* pattern;
    std::vector<const char*> taken, refused;
  };
  const std::vector<Case> cases{
      {"a|bc*", {"a", "b", "bcc"}, {"", "ac", "ab"}},
      {"^(foo|bar)?$", {"", "foo", "bar"}, {"foobar"}},
      {"^a$|^b$", {"a", "b"}, {"ab"}},
      {R"([^\d\s]{2,3}?)", {"ab", "éü日"}, {"a", "a1", "abcd", "a b"}},
      {R"(\w+@\w+\.(?:com|org))", {"a_1@b.org"}, {"a@b.net", "é@b.org"}},
      {R"((?P<y>\d{4})-(?<m>\d{2}))", {"2024-12"}, {"2024-1"}},
      {".", {"a", "日", "\xF0\x9F\x98\x80"}, {"\n", "ab", "\xF0\x9F\x98"}},
      {R"([\u00e0-\u00ff\x41\]\-]+)", {"éA]-"}, {"B", "Ā"}},
      {R"(\u{1F600}|\ud83d\ude01)", {"😀", "😁"}, {"😂"}},
      {"a{,3}", {"", "aaa"}, {"aaaa"}},
      {"x{a}|{}", {"x{a}", "{}"}, {"x"}},
      {"[a-]+", {"a-"}, {"b"}},
      {R"(a\.b\/c\$)", {"a.b/c$"}, {"axb/c$"}},
  };
  for (const Case& each : cases) {
    const auto automaton = regex(each.pattern);
    for (const char* text : each.taken) EXPECT_TRUE(takes(automaton, text)) << each.pattern << " takes " << text;
    for (const char* text : each.refused) EXPECT_FALSE(takes(automaton, text)) << each.pattern << " refuses " << text;
  }
  for (const char* bad : {"(",     ")",   "a**",   "*a", "[b-a]",    "[a",  "a{3,2}", R"(\1)", R"(\b)",  "(?=a)",
                          "(?i)a", "a^b", "(a$)b", "\\", R"(\p{L})", "a++", "(^a)*",  "[]",    R"(\x4)", "[^\\u0000-\\u{10FFFF}]"})
    EXPECT_EQ(refusal([&] { regex(bad); }).code, "invalid_regex") << bad;
}

TEST(Grammar, Choices) {
  const auto automaton = choice({"yes", "yes please", "нет", ""});
  for (const char* text : {"yes", "yes please", "нет", ""}) EXPECT_TRUE(takes(automaton, text));
  for (const char* text : {"ye", "no", "yes "}) EXPECT_FALSE(takes(automaton, text));
  EXPECT_EQ(refusal([] { choice({}); }).code, "grammar_too_large");
}

TEST(Grammar, CountsAreTakenExactly) {
  Rules rules;
  const Rules::Rule part = rules.add("part", rules.choice({rules.literal("a"), rules.literal("bb")}));
  for (const auto& [least, most] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {0, 3}, {2, 2}, {2, 5}, {3, -1}, {1, 1}, {0, -1}}) {
    const Rules::Rule root =
        rules.add("root", rules.sequence({rules.literal("<"), rules.call(rules.counted("parts", part, least, most)), rules.literal(">")}));
    const auto automaton = compile(rules, root);
    for (int64_t n = 0; n < 8; ++n) {
      std::string text = "<";
      for (int64_t i = 0; i < n; ++i) text += i % 2 ? "bb" : "a";
      EXPECT_EQ(takes(automaton, text + ">"), n >= least && (most < 0 || n <= most)) << n << " of " << least << " to " << most;
    }
  }
}

TEST(Grammar, RulesThatHaveNoEndAreRefused) {
  Rules rules;
  const Rules::Rule loop = rules.add("loop");
  rules.define(loop, rules.sequence({rules.optional(rules.literal("a")), rules.call(loop)}));
  EXPECT_EQ(refusal([&] { compile(rules, loop); }).code, "unsupported_schema");  // nothing can be derived
  const Rules::Rule left = rules.add("left");
  rules.define(
      left, rules.choice({rules.literal("b"), rules.sequence({rules.optional(rules.literal("a")), rules.call(left), rules.literal("c")})}));
  EXPECT_EQ(refusal([&] { compile(rules, left); }).path, "left");
  const Rules::Rule right = rules.add("right");
  rules.define(right, rules.choice({rules.nothing(), rules.sequence({rules.literal("a"), rules.call(right)})}));
  EXPECT_TRUE(takes(compile(rules, right), std::string(10'000, 'a')));
}

std::vector<std::string> json_pieces(std::mt19937& random, int count) {
  const std::string source = R"({"name": "Ann é日本", "age": 31, "tags": ["a", "b\n"], "next": {"name": null, "x": [[1.5e3, true], {}]}}],)"
                             "\n  \"}]}, {\"\": \"\\u00e9\", \"items\": [[[false]]], \"-12\": \"2024-02-29\"}   \n    ";
  std::set<std::string> pieces;
  while (pieces.size() < static_cast<size_t>(count)) pieces.insert(source.substr(random() % (source.size() - 1), 2 + random() % 9));
  return {pieces.begin(), pieces.end()};
}

// Every token tried on a copy.
std::vector<uint64_t> slow_mask(const GrammarState& state, const Vocabulary& vocabulary) {
  std::vector<uint64_t> bits(vocabulary.words());
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.size()); ++id)
    if (GrammarState copy = state; copy.accept(id)) bits[static_cast<size_t>(id) / 64] |= 1ull << (id & 63);
  return bits;
}

TEST(Grammar, MasksAreThoseOfTheSlowReference) {
  std::mt19937 random(7);
  const auto vocabulary = vocabulary_of(json_pieces(random, 900)), spaced = vocabulary_of(json_pieces(random, 300), true);
  const std::vector<std::shared_ptr<const Automaton>> grammars{
      json_object(),
      json_schema(
          R"({"type": "object", "properties": {"name": {"type": "string", "minLength": 2, "maxLength": 12}, "age": {"type": "integer", "minimum": 0,
        "maximum": 120}, "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}, "minItems": 1, "maxItems": 4}, "next": {"$ref": "#"}},
        "required": ["name"], "additionalProperties": {"type": ["null", "boolean"]}})"),
      json_schema(R"({"anyOf": [{"enum": ["a", "b\n", {"name": null}]}, {"format": "date"}, {"type": "array", "items": {"$ref": "#"}}]})"),
      regex(R"((a|b|"|[é日]){0,40}(\[|true)*)"), choice({"{\"name\": ", "{\"", "{\"name\": \"Ann\"}"})};
  int states = 0, allowed = 0;
  for (const auto& automaton : grammars)
    for (const auto& words : {vocabulary, spaced}) {
      const auto masks = std::make_shared<TokenGrammar>(automaton, words);
      for (int text = 0; text < 6; ++text) {
        GrammarState state(masks);
        for (int step = 0; step < 12; ++step, ++states) {
          std::vector<uint64_t> bits(words->words(), ~0ull);
          state.fill(bits);
          ASSERT_EQ(bits, slow_mask(state, *words)) << "after " << step << " tokens";
          std::vector<int32_t> ids;
          for (int32_t id = 0; id < static_cast<int32_t>(words->size()); ++id)
            if (bits[static_cast<size_t>(id) / 64] >> (id & 63) & 1) ids.push_back(id);
          ASSERT_FALSE(ids.empty());
          allowed += static_cast<int>(ids.size());
          const int32_t id = ids[random() % ids.size()];
          ASSERT_TRUE(state.accept(id));
          if (words->is_end(id)) break;
        }
      }
    }
  EXPECT_GE(states, 200);
  EXPECT_GT(allowed, 2000);
}

TEST(Grammar, EndsAndForks) {
  const auto vocabulary = vocabulary_of({"yes", "no"});
  const auto masks = std::make_shared<TokenGrammar>(choice({"yes", "yesno"}), vocabulary);
  const int32_t yes = 256, no = 257, mark = 258, end = 259;
  std::vector<uint64_t> bits(vocabulary->words());
  const auto has = [&](int32_t id) { return (bits[static_cast<size_t>(id) / 64] >> (id & 63) & 1) != 0; };
  GrammarState state(masks);
  state.fill(bits);
  EXPECT_TRUE(has(yes) && has('y'));
  EXPECT_FALSE(has(no) || has(end) || has(mark));
  EXPECT_FALSE(state.accept(end));
  EXPECT_FALSE(state.accept(-1) || state.accept(1000) || state.accept(no));
  EXPECT_TRUE(state.accept(yes));
  GrammarState fork = state;
  state.fill(bits);
  EXPECT_TRUE(has(no) && has(end) && state.complete() && !state.finished());
  EXPECT_TRUE(fork.accept(no) && fork.finished() && !state.finished());
  EXPECT_TRUE(state.accept(end) && state.finished());
  EXPECT_FALSE(state.accept(no));
  state.fill(bits);
  EXPECT_TRUE(has(end) && !has(no));
  EXPECT_THROW(state.fill(std::span(bits).first(1)), Error);
  EXPECT_THROW(Vocabulary({}, {3}), Error);
}

TEST(Grammar, AVocabularyWithoutAByteEndsTheAnswer) {
  const std::vector<TokenBytes> tokens{{"a"}, {"</s>", true}};
  const auto vocabulary = std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{1});
  GrammarState state(std::make_shared<TokenGrammar>(choice({"ab"}), vocabulary));
  std::vector<uint64_t> bits(1);
  state.fill(bits);
  EXPECT_EQ(bits[0], 1u);
  EXPECT_TRUE(state.accept(0));
  state.fill(bits);
  EXPECT_EQ(bits[0], 2u);
  EXPECT_TRUE(state.stuck() && state.accept(1));
}

TEST(Grammar, SpecialTokensAreNoText) {
  const auto vocabulary = vocabulary_of({"<ma"});
  Rules rules;
  const auto automaton =
      compile(rules, rules.add("root", rules.choice({rules.literal(special_token("<mark>") + "!"), rules.literal("<mark>?")})));
  const auto masks = std::make_shared<TokenGrammar>(automaton, vocabulary);
  GrammarState state(masks), text(masks);
  EXPECT_TRUE(state.accept(257) && state.accept('!') && state.complete());
  EXPECT_TRUE(text.accept(256) && text.accept('r') && text.accept('k') && text.accept('>') && !text.accept('!') && text.accept('?'));
  GrammarState none(std::make_shared<TokenGrammar>(json_object(), vocabulary));
  EXPECT_FALSE(none.accept(257) || none.accept(0xff));
}

TEST(Grammar, MasksAreKept) {
  std::mt19937 random(3);
  const auto vocabulary = vocabulary_of(json_pieces(random, 200));
  std::vector<uint64_t> bits(vocabulary->words());
  const auto run = [&](const std::shared_ptr<TokenGrammar>& masks) {
    GrammarState state(masks);
    std::vector<std::vector<uint64_t>> all;
    for (const char c : std::string_view(R"({"a": [1, {"b": "text"}, [2, [3]], "x"], "c": {"d": null}})")) {
      state.fill(bits);
      all.push_back(bits);
      EXPECT_TRUE(state.accept(static_cast<uint8_t>(c)));
    }
    return all;
  };
  const auto masks = std::make_shared<TokenGrammar>(json_object(), vocabulary),
             forgetful = std::make_shared<TokenGrammar>(json_object(), vocabulary, 0);
  const auto first = run(masks);
  const int64_t made = masks->counts().made;
  EXPECT_EQ(run(masks), first);
  EXPECT_EQ(masks->counts().made, made);
  EXPECT_EQ(run(forgetful), first);
  EXPECT_GT(forgetful->counts().made, made);
}

}  // namespace
}  // namespace loraine::grammar::grammar_test
