// Tokenizer on small hand-made files: added tokens, every part by itself, hostile text, malformed files. Real files:
// tokenizer_golden_test.cpp.
#include "loraine/text/tokenizer/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "loraine/core/error.h"
#include "loraine/text/tokenizer/unicode.h"

namespace loraine::tokenizer_test {
namespace {

using Ids = std::vector<int32_t>;

struct Parts {
  std::string added = "[]", normalizer = "null", pre_tokenizer = "null", post_processor = "null", decoder = R"({"type":"Fuse"})";
  std::string vocab = R"({"a":0,"b":1,"c":2,"ab":3,"abc":4,"bc":5," ":6,"aa":7,"aaaa":8,"é":9,"  ":10})";
  std::string merges = R"(["a b",["ab","c"],"b c","a a","aa aa",[" "," "]])";
  std::string model = "";  // more keys of the model
};

std::string file_of(const Parts& p) {
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":{},"normalizer":{},"pre_tokenizer":{},"post_processor":{},"decoder":{},)"
      R"("model":{{"type":"BPE","vocab":{},"merges":{}{}}}}})",
      p.added, p.normalizer, p.pre_tokenizer, p.post_processor, p.decoder, p.vocab, p.merges, p.model);
}

std::unique_ptr<Tokenizer> make(const Parts& p) { return Tokenizer::from_json(file_of(p), "small.json"); }

std::string error_of(const std::string& json) {
  try {
    (void)Tokenizer::from_json(json, "small.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    return error.what();
  }
  return "no error";
}

std::string added(const char* content, int id, const char* flags = "") {
  return fmt::format(R"({{"id":{},"content":"{}"{}}})", id, content, flags);
}

TEST(Tokenizer, MergesLowestRankFirstThenLeftmost) {
  auto t = make({});
  EXPECT_EQ(t->encode("abc"), (Ids{4}));
  EXPECT_EQ(t->encode("bcabca"), (Ids{5, 4, 0}));
  EXPECT_EQ(t->encode("aaaaaaa"), (Ids{8, 7, 0}));
  EXPECT_EQ(t->encode("aab"), (Ids{0, 3}));
  EXPECT_EQ(t->encode("axéb"), (Ids{0, 9, 1}));  // x stands for nothing and vanishes
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->decode(Ids{4, 99, -1, 9}), "abcé");
  EXPECT_EQ(t->vocab_size(), 11);
  EXPECT_EQ(t->token_to_id("bc"), 5);
  EXPECT_EQ(t->id_to_token(11), std::nullopt);
}

TEST(Tokenizer, GuardedPartsHaveNoSpecialTokens) {
  Parts p;
  p.added = "[" + added("abca", 20, R"(,"special":true)") + "," + added("cc", 21) + "]";
  auto t = make(p);
  EXPECT_EQ(t->encode("abcaabca"), (Ids{20, 20}));
  EXPECT_EQ(t->encode_guarded("abcaabca"), (Ids{20, 20}));
  EXPECT_EQ(t->encode_guarded("abca" + t->guard("abca")), (Ids{20, 4, 0}));
  EXPECT_EQ(t->encode("abca", false, true), (Ids{4, 0}));
  EXPECT_EQ(t->encode_guarded(t->guard("bcc") + "abca"), (Ids{1, 21, 20}));  // added tokens that are not special stay
  EXPECT_EQ(t->encode_guarded(t->guard("a\xEF\xB7\x90"
                                       "bca")),
            (Ids{4, 0}));
}

TEST(Tokenizer, LongWordsAreEncodedAsShortOnes) {
  auto t = make({});
  std::string word;
  Ids expected;
  for (int i = 0; i < 100; ++i) word += "abcé bcaa", expected.insert(expected.end(), {4, 9, 6, 5, 7});
  for (size_t i = 5; i < expected.size(); i += 5) {  // "aa" then "abc": a a|a b c merges "ab" first, "aa" of the rest
    EXPECT_EQ(expected[i], 4);
  }
  EXPECT_EQ(t->encode(word), expected);
}

TEST(Tokenizer, UnknownCharactersAndByteFallback) {
  Parts p;
  p.vocab = R"({"<unk>":0,"a":1,"<0xC3>":2,"<0xBC>":3})";
  p.merges = "[]";
  p.model = R"(,"unk_token":"<unk>","fuse_unk":true,"byte_fallback":true)";
  p.decoder = R"({"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]})";
  auto t = make(p);
  EXPECT_EQ(t->encode("aüa"), (Ids{1, 2, 3, 1}));
  EXPECT_EQ(t->encode("axyza"), (Ids{1, 0, 1}));
  EXPECT_EQ(t->decode(Ids{1, 2, 3, 2, 3, 1, 2}), "aüüa\xEF\xBF\xBD");
  EXPECT_EQ(t->decode(Ids{3, 2, 3, 1}),
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
            "a");
  p.model = R"(,"unk_token":"<unk>")";
  EXPECT_EQ(make(p)->encode("axya"), (Ids{1, 0, 0, 1}));
  p.model = R"(,"unk_token":"<none>")";
  EXPECT_THROW(make(p)->encode("x"), Error);
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  Parts p;
  p.merges = "[]";
  EXPECT_EQ(make(p)->encode("abc"), (Ids{0, 1, 2}));
  p.model = R"(,"ignore_merges":true)";
  EXPECT_EQ(make(p)->encode("abc"), (Ids{4}));
}

TEST(Tokenizer, AddedTokensLeftmostLongestAndTheirFlags) {
  Parts p;
  const char* plain = R"(,"special":false,"normalized":false)";
  p.added = "[" + added("<x>", 20, R"(,"special":true,"normalized":false)") + "," + added("<x><x>", 21, plain) + "," +
            added("bb", 22, R"(,"normalized":false,"single_word":true)") + "," +
            added("L", 23, R"(,"normalized":false,"lstrip":true,"rstrip":true)") + "," + added("N", 24, R"(,"normalized":true)") + "]";
  p.normalizer = R"({"type":"Lowercase"})";
  auto t = make(p);
  EXPECT_EQ(t->encode("a<x>b"), (Ids{0, 20, 1}));
  EXPECT_EQ(t->encode("<x><x><x>"), (Ids{21, 20}));
  EXPECT_EQ(t->encode("a<x><x>", false, true), (Ids{0, 21}));
  EXPECT_EQ(t->encode("a<x>b", false, true), (Ids{3}));  // < x > vanish, and a, b meet
  EXPECT_EQ(t->encode("bb abb"), (Ids{22, 6, 3, 1}));
  EXPECT_EQ(t->encode("a \u3000L  b"), (Ids{0, 23, 1}));
  EXPECT_EQ(t->encode("anA"), (Ids{0, 24, 0}));
  EXPECT_TRUE(t->is_special(20));
  EXPECT_FALSE(t->is_special(21));
  EXPECT_EQ(t->decode(Ids{0, 20, 1}, true), "ab");
  EXPECT_EQ(t->vocab_size(), 25);
  EXPECT_EQ(t->add_token("<new>", true), 25);
  EXPECT_EQ(t->add_token("<new>", true), 25);
  EXPECT_EQ(t->add_token("abc", false), 4);
  EXPECT_EQ(t->encode("c<new>"), (Ids{2, 25}));
  EXPECT_THROW(t->add_token("", true), Error);
}

TEST(Tokenizer, TemplateAddsSpecialTokens) {
  Parts p;
  p.post_processor =
      R"({"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"S","type_id":0}},)"
      R"({"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"E","type_id":0}}],"pair":[],)"
      R"("special_tokens":{"S":{"id":"S","ids":[1],"tokens":["b"]},"E":{"id":"E","ids":[2,2],"tokens":["c","c"]}}}]})";
  EXPECT_EQ(make(p)->encode("a", true), (Ids{1, 0, 2, 2}));
  EXPECT_EQ(make(p)->encode("a", false), (Ids{0}));
}

TEST(Tokenizer, SplitBehaviors) {
  auto ids = [](const char* behavior, bool invert) {
    Parts p;
    p.pre_tokenizer = fmt::format(R"({{"type":"Split","pattern":{{"Regex":"b"}},"behavior":"{}","invert":{}}})", behavior, invert);
    return make(p)->encode("abbcab");
  };
  EXPECT_EQ(ids("Isolated", false), (Ids{0, 1, 1, 2, 0, 1}));
  EXPECT_EQ(ids("Removed", false), (Ids{0, 2, 0}));
  EXPECT_EQ(ids("Removed", true), (Ids{1, 1, 1}));
  EXPECT_EQ(ids("MergedWithPrevious", false), (Ids{3, 1, 2, 0 + 3}));
  EXPECT_EQ(ids("MergedWithNext", false), (Ids{0, 1, 5, 0, 1}));
  EXPECT_EQ(ids("Contiguous", false), (Ids{0, 1, 1, 2, 0, 1}));
}

TEST(Tokenizer, NormalizersInSequence) {
  Parts p;
  p.normalizer = R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Strip","strip_left":true,"strip_right":true},)"
                 R"({"type":"Replace","pattern":{"Regex":"z+"},"content":"b"},{"type":"Prepend","prepend":"a"}]})";
  EXPECT_EQ(make(p)->encode(" \u3000zzzce\u0301 \t"), (Ids{4, 9}));
  p.normalizer = R"({"type":"NFKC"})";
  EXPECT_EQ(make(p)->encode("\uFF41\uFF42"), (Ids{3}));
}

TEST(Tokenizer, MetaspaceAndItsDecoder) {
  Parts p;
  p.vocab = R"({"▁":0,"a":1,"▁a":2})";
  p.merges = R"(["▁ a"])";
  p.pre_tokenizer = R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true})";
  p.decoder = R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true})";
  p.added = "[" + added("<x>", 3, R"(,"normalized":false)") + "]";
  auto t = make(p);
  EXPECT_EQ(t->encode("a a<x>a"), (Ids{2, 2, 3, 1}));
  EXPECT_EQ(t->decode(Ids{2, 2, 1}), "a aa");
}

TEST(Tokenizer, HostileTextTakesLinearishTime) {
  Parts p;
  p.pre_tokenizer = R"({"type":"Split","pattern":{"Regex":"\\s+(?!\\S)|\\s+|\\S+"},"behavior":"Isolated"})";
  p.normalizer = R"({"type":"NFC"})";
  auto t = make(p);
  EXPECT_EQ(t->encode(std::string(1 << 20, 'a')), Ids(1 << 18, 8));
  EXPECT_EQ(t->encode(std::string(1 << 20, ' ')), Ids(1 << 19, 10));
  std::string marks = "a";
  for (int i = 0; i < 200'000; ++i) marks += i % 2 ? "\u0301" : "\u0323";  // must be reordered by the normalizer
  EXPECT_EQ(t->encode(marks + "b").back(), 1);
  EXPECT_EQ(t->encode("a\xFF\xE2\x82"
                      "b"),
            (Ids{3}));  // invalid bytes become U+FFFD, which this vocabulary lacks
}

TEST(Tokenizer, MalformedFilesAreErrorsThatNameThePlace) {
  EXPECT_NE(error_of("").find("small.json"), std::string::npos);
  EXPECT_NE(error_of("[]").find("not an object"), std::string::npos);
  EXPECT_NE(error_of("{}").find("model"), std::string::npos);
  std::string whole = file_of({});
  for (size_t cut = 0; cut < whole.size(); cut += 7) EXPECT_NE(error_of(whole.substr(0, cut)), "no error") << cut;
  auto with = [](auto change) {
    Parts p;
    change(p);
    return error_of(file_of(p));
  };
  EXPECT_NE(with([](Parts& p) { p.normalizer = R"({"type":"Nmt"})"; }).find("Nmt"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.pre_tokenizer = R"({"type":"Nonesuch"})"; }).find("Nonesuch"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.decoder = R"({"type":"Fuse","speed":1})"; }).find("speed"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.model = R"(,"odd":1)"; }).find("odd"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.model = R"(,"dropout":0.1)"; }).find("dropout"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.merges = R"(["a z"])"; }).find("\"z\" is not in the vocabulary"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.merges = R"(["a b c"])"; }).find("two tokens"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.merges = R"([["a"]])"; }).find("pair"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.vocab = R"({"a":2000000000})"; }).find("no id"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.vocab = R"({"a":-1})"; }).find("no id"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.vocab = "{}"; }).find("empty"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.added = "[" + added("q", 0) + "]"; }).find("already"), std::string::npos);
  EXPECT_NE(with([](Parts& p) { p.pre_tokenizer = R"({"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"})"; }).find("compile"),
            std::string::npos);
  EXPECT_NE(with([](Parts& p) {
              std::string open, close;
              for (int i = 0; i < 200; ++i) open += R"({"type":"Sequence","normalizers":[)", close += "]}";
              p.normalizer = open + close;
            }).find("nested"),
            std::string::npos);
}

TEST(Tokenizer, DoubledTokensAndIdsAreErrors) {
  Parts p;
  p.vocab = R"({"a":0,"b":1,"ab":2,"c":2})";
  p.merges = "[]";
  EXPECT_NE(error_of(file_of(p)).find("model.vocab: \"ab\" and \"c\" both have id 2"), std::string::npos) << error_of(file_of(p));
  p.vocab = R"({"a":0,"b":1,"a":2})";
  EXPECT_NE(error_of(file_of(p)).find("model.vocab: \"a\" stands twice, with ids 0 and 2"), std::string::npos) << error_of(file_of(p));
  p.vocab = R"({"a":0,"b":1})";
  p.added = "[" + added("<x>", 2) + "," + added("<y>", 2) + "]";
  EXPECT_NE(error_of(file_of(p)).find("\"<y>\" has id 2, which is already \"<x>\""), std::string::npos) << error_of(file_of(p));
}

// As the library's add_special_tokens and to_str leave the list.
TEST(Tokenizer, NewTokensAreWrittenIntoTheFile) {
  Parts p;
  p.added = "[" + added("<plain>", 11, R"(,"special":false,"normalized":true,"lstrip":true)") + "]";
  const std::string file = file_of(p);
  auto tokenizer = make(p);
  EXPECT_EQ(with_new_tokens(file, tokenizer->new_tokens()), file);
  EXPECT_EQ(tokenizer->add_token("<new>", true), 12);
  EXPECT_EQ(tokenizer->add_token("ab", true), 3);
  EXPECT_EQ(tokenizer->add_token("<plain>", true), 11);
  EXPECT_EQ(tokenizer->add_token("<new>", true), 12);
  EXPECT_EQ(tokenizer->new_tokens().size(), 3u);
  const std::string written = with_new_tokens(file, tokenizer->new_tokens());
  auto again = Tokenizer::from_json(written, "written.json");
  for (const char* text : {"abc", "a <plain>b<new>ab", "<new", "ab<new><new>"})
    EXPECT_EQ(again->encode(text), tokenizer->encode(text)) << text;
  EXPECT_TRUE(again->is_special(3) && again->is_special(11) && again->is_special(12));
  EXPECT_EQ(again->vocab_size(), 13);
  EXPECT_NE(
      written.find("    {\n      \"id\": 12,\n      \"content\": \"<new>\",\n      \"single_word\": false,\n      \"lstrip\": false,\n"
                   "      \"rstrip\": false,\n      \"normalized\": false,\n      \"special\": true\n    }\n  ]"),
      std::string::npos)
      << written;
  EXPECT_NE(written.find("\"lstrip\": true"), std::string::npos);
  EXPECT_TRUE(written.ends_with(file.substr(file.find(",\"normalizer\""))));
  const std::string without = R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[]}})";
  EXPECT_EQ(Tokenizer::from_json(with_new_tokens(without, {{"<é>", 1, true}}), "w")->encode("a<é>"), (Ids{0, 1}));
}

TEST(Detokenizer, NeverEndsInsideACharacter) {
  Parts p;
  p.vocab = R"({"a":0,"Ã":1,"¼":2,"<s>":3})";  // byte-level: c3, bc
  p.merges = "[]";
  p.decoder = R"({"type":"ByteLevel"})";
  p.added = "[" + added("<s>", 3, R"(,"special":true)") + "]";
  auto t = make(p);
  Detokenizer stream(*t, true);
  EXPECT_EQ(stream.push(0), "a");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(3), "");
  EXPECT_EQ(stream.push(2), "ü");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(0),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

// U+1D2C5 is a number since Unicode 15 and U+31350 a letter; the regex library's own tables may be older.
TEST(Tokenizer, NumbersAndLettersOfNewScripts) {
  Parts p;
  p.pre_tokenizer = R"({"type":"Split","pattern":{"Regex":"\\p{N}|\\p{L}+|[^\\p{L}\\p{N}]+"},"behavior":"Isolated","invert":false})";
  p.vocab = "{\"\\\\\":0,\"\U0001D2C5\":1,\"\U00031350\":2,\"\U0001D2C5\\\\\":3,\"\\\\\U00031350\":4,\"a\":5,\"\U00031350a\":6}";
  p.merges = "[[\"\U0001D2C5\",\"\\\\\"],[\"\\\\\",\"\U00031350\"],[\"\U00031350\",\"a\"]]";
  EXPECT_EQ(make(p)->encode("\U0001D2C5\\\U00031350a"), (Ids{1, 0, 6}));
}

// Composition reaches back one character, and over several marks; what lies around it stays.
TEST(Tokenizer, ComposesOnlyWhereNeeded) {
  Parts p;
  p.normalizer = R"({"type":"NFC"})";
  p.vocab = "{\"e\":0,\"é\":1,\"日\":2,\"が\":3,\"か\":4,\"한\":5,\"각\":6,\"ậ\":7,\"x\":8,\"Ω\":9}";
  p.merges = "[]";
  EXPECT_EQ(make(p)->encode("日e\u0301日"), (Ids{2, 1, 2}));
  EXPECT_EQ(make(p)->encode("\u304B\u3099か日"), (Ids{3, 4, 2}));
  EXPECT_EQ(make(p)->encode("\u1112\u1161\u11ABx\uAC00\u11A8"), (Ids{5, 8, 6}));
  EXPECT_EQ(make(p)->encode("xa\u0302\u0323\u2126e"), (Ids{8, 7, 9, 0}));
}

// As the library, whose tables end with Unicode 9: U+A82C (class 9 since Unicode 13) is no mark to it, so what follows is not sorted
// before it and does not reach over it; the pair U+11935 U+11930 does not compose, and U+32FF is its own NFKD.
TEST(Tokenizer, NormalFormsAreThoseOfUnicode9) {
  Parts p;
  p.normalizer = R"({"type":"NFC"})";
  p.vocab = "{\"\u05C7\":0,\"\uA82C\":1,\"\u0332\":2,\"k\":3,\"e\":4,\"\u0301\":5,\"\U00011935\":6,\"\U00011930\":7,\"\u32FF\":8,\"é\":9}";
  p.merges = "[]";
  EXPECT_EQ(make(p)->encode("k\u05C7\uA82C\u0332"), (Ids{3, 0, 1, 2}));
  EXPECT_EQ(make(p)->encode("e\uA82C\u0301e\u0301"), (Ids{4, 1, 5, 9}));
  EXPECT_EQ(make(p)->encode("\U00011935\U00011930"), (Ids{6, 7}));
  p.normalizer = R"({"type":"NFKD"})";
  EXPECT_EQ(make(p)->encode("\u32FF"), (Ids{8}));
}

TEST(Tokenizer, AFillerBeforeHangulTailsStays) {
  Parts p;
  p.normalizer = R"({"type":"NFC"})";
  p.vocab = "{\"\uC004\":0,\"\u11A7\":1,\"\uC005\":2,\"\uAC1B\":3}";
  p.merges = "[]";
  EXPECT_EQ(make(p)->encode("\u1108\u1170\u11A7"), (Ids{0, 1}));
  EXPECT_EQ(make(p)->encode("\u1108\u1170\u11A8\uAC00\u11C2"), (Ids{2, 3}));
}

// A token that no merge makes is taken for a whole word only, also where a long word is cut.
TEST(Tokenizer, IgnoreMergesLooksAtWholeWordsOnly) {
  Parts p;
  p.vocab = R"({"a":0,"b":1,"ab":2,"c":3})";
  p.merges = "[]";
  p.pre_tokenizer = R"({"type":"Split","pattern":{"String":" "},"behavior":"Removed","invert":false})";
  p.model = R"(,"ignore_merges":true)";
  std::string word = "ab";
  Ids expected{2, 0, 1};
  for (int i = 0; i < 60; ++i) word += "cab", expected.insert(expected.end(), {3, 0, 1});
  EXPECT_EQ(make(p)->encode("ab " + word + " ab"), [&] {
    Ids ids = expected;
    ids.push_back(2);
    return ids;
  }());
}

const char* kByteLevel = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})";

std::string byte_vocabulary(const std::vector<std::string>& more) {  // of all 256 bytes, then the tokens in `more`
  std::string vocab = "{";
  int id = 0;
  auto add = [&](const std::string& token) { vocab += fmt::format("{}\"{}\":{}", id ? "," : "", token, id), ++id; };
  for (int b = 0; b < 256; ++b) {
    std::string token(tokens::byte_to_printable(static_cast<unsigned char>(b)));
    add(token == "\"" || token == "\\" ? "\\" + token : token);
  }
  for (const std::string& token : more) add(token);
  return vocab + "}";
}

// In a model over bytes a merge may join the end of one character and the begin of the next: there a word is not cut.
TEST(Tokenizer, MergesOverTheEdgeOfCharacters) {
  Parts p;
  p.pre_tokenizer = kByteLevel;
  // é = c3 a9, spelled Ã ©; 中 = e4 b8 ad, spelled ä ¸ \u0143
  p.vocab = byte_vocabulary({"\u00E4\u00B8", "\u00E4\u00B8\u0143", "\u0143\u00E4", "\u00A9\u00C3"});
  p.merges = "[[\"\u00E4\",\"\u00B8\"],[\"\u00E4\u00B8\",\"\u0143\"],[\"\u0143\",\"\u00E4\"],[\"\u00A9\",\"\u00C3\"]]";
  auto t = make(p);
  EXPECT_EQ(t->encode("中中中"), (Ids{257, 257, 257}));
  std::string word;
  Ids expected{0xC3};
  for (int i = 0; i < 100; ++i) word += "é", expected.push_back(i < 99 ? 259 : 0xA9);
  EXPECT_EQ(t->encode(word), expected);
  EXPECT_EQ(t->encode("éé"), (Ids{0xC3, 259, 0xA9}));
  p.merges = "[[\"\u0143\",\"\u00E4\"],[\"\u00E4\",\"\u00B8\"],[\"\u00E4\u00B8\",\"\u0143\"]]";
  EXPECT_EQ(make(p)->encode("中中中中"), (Ids{256, 258, 0xB8, 258, 0xB8, 258, 0xB8, 0xAD}));
}

}  // namespace
}  // namespace loraine::tokenizer_test
