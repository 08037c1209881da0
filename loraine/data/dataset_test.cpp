// Data sets from files on disk with a tokenizer of one id per byte; and the recorded samples of whole training runs.
#include "loraine/data/dataset.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine::dataset_test {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool, bool) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string guard(std::string_view part) const override { return std::string(part); }
  std::vector<int32_t> encode_guarded(std::string_view text) const override { return encode(text, false, true); }
  std::string decode(std::span<const int32_t> ids, bool) const override { return {ids.begin(), ids.end()}; }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> id_to_token(int32_t) const override { return std::nullopt; }
  int64_t vocab_size() const override { return 300; }
  bool is_special(int32_t) const override { return false; }
  int32_t add_token(const std::string&, bool) override { return 299; }
};

struct Folder {
  std::filesystem::path path;
  Folder() {
    path = std::filesystem::temp_directory_path() /
           ("loraine_data_" + std::to_string(reinterpret_cast<uintptr_t>(this)) + std::to_string(::getpid()));
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name, std::ios::binary) << text; }
};

DataOptions options_for(const Folder& folder) {
  DataOptions options;
  options.datasets = {"d"};
  options.dataset_dir = folder.path.string();
  options.template_name = "empty";
  return options;
}

std::string message_of(const DataOptions& options, ErrorKind kind) {
  ByteTokenizer tokenizer;
  SpecialTokens special;
  try {
    open_data(options, &tokenizer, nullptr, special);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind, kind) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Dataset, AlpacaRows) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"}\r\n\n{\"instruction\":\"x\",\"output\":null}\n");
  ByteTokenizer tokenizer;
  SpecialTokens special;
  auto options = options_for(folder);
  options.skip_bad_rows = 1;
  const DataSplit data = open_data(options, &tokenizer, nullptr, special);
  ASSERT_EQ(data.train.examples.size(), 1u);
  EXPECT_EQ(data.train.examples[0].input_ids, (std::vector<int32_t>{'a', '\n', 'b', 'c'}));
  EXPECT_EQ(data.train.examples[0].labels, (std::vector<int32_t>{-100, -100, -100, 'c'}));
  EXPECT_EQ(data.train.num_rows, 2);
  EXPECT_EQ(data.train.num_dropped, 1);
  EXPECT_EQ(data.train.num_trained, 1);
}

// Stage grpo: a prompt of each question, whose answer is the reference where there is one.
TEST(Dataset, PromptsWithReferences) {
  Folder folder;
  folder.write("dataset_info.json",
               R"({"d": {"file_name": "d.jsonl", "columns": {"prompt": "instruction", "response": "output", "system": "system"}}})");
  folder.write("d.jsonl", R"({"instruction":"abc","output":"c"}
{"instruction":"x"}
{"instruction":"y","output":null,"system":"s"}
{"instruction":"z","output":""})");
  ByteTokenizer tokenizer;
  SpecialTokens special;
  auto options = options_for(folder);
  options.stage = DataStage::prompts;
  options.cutoff_len = 2;
  const DataSplit data = open_data(options, &tokenizer, nullptr, special);
  ASSERT_EQ(data.train.asked.size(), 4u);
  EXPECT_EQ(data.train.size(), 4u);
  const std::vector<AskedExample>& asked = data.train.asked;
  EXPECT_EQ(asked[0].prompt.input_ids, (std::vector<int32_t>{'b', 'c'}));  // cut at the left
  EXPECT_EQ(asked[0].prompt.labels, (std::vector<int32_t>{-100, -100}));
  EXPECT_EQ(asked[0].reference, "c");
  EXPECT_EQ(asked[1].reference, std::nullopt);
  EXPECT_EQ(asked[2].reference, std::nullopt);
  EXPECT_EQ(asked[2].conversation.system, "s");
  EXPECT_EQ(asked[3].reference, "");
  EXPECT_EQ(asked[0].conversation.messages.size(), 1u);
  EXPECT_EQ(asked[0].conversation.messages[0].content, "abc");
  EXPECT_EQ(data.train.num_truncated, 1);
  EXPECT_EQ(data.train.num_untrained, 0);
}

TEST(Dataset, BadRowsAreNamed) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"c\"}\n{\"instruction\":7,\"output\":\"c\"}\n");
  const std::string wrong_type = message_of(options_for(folder), ErrorKind::bad_data);
  EXPECT_NE(wrong_type.find("d.jsonl, line 2"), std::string::npos) << wrong_type;
  EXPECT_NE(wrong_type.find("`instruction`"), std::string::npos) << wrong_type;
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"c\"}\n{\"instruction\":\n");
  EXPECT_NE(message_of(options_for(folder), ErrorKind::bad_data).find("line 2"), std::string::npos);
  auto skip = options_for(folder);
  skip.skip_bad_rows = 1;
  ByteTokenizer tokenizer;
  SpecialTokens special;
  EXPECT_EQ(open_data(skip, &tokenizer, nullptr, special).train.num_dropped, 1);
  auto unknown = options_for(folder);
  unknown.datasets = {"nothing"};
  message_of(unknown, ErrorKind::usage);
}

// num_samples beyond the rows there are: some stand several times, on both sides of a split too, and each is whole.
TEST(Dataset, RowsThatStandSeveralTimes) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl", "num_samples": 12}})");
  folder.write(
      "d.jsonl",
      "{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"c\",\"output\":\"d\"}\n{\"instruction\":\"e\",\"output\":\"f\"}\n");
  ByteTokenizer tokenizer;
  SpecialTokens special;
  for (const bool ahead : {true, false})
    for (const bool packing : {true, false}) {
      auto options = options_for(folder);
      options.val_size = 5;
      options.neat_packing = packing;
      options.keep_whole = ahead ? 0 : 3;  // which keeps rows from being encoded while they are read
      const DataSplit data = open_data(options, &tokenizer, nullptr, special);
      EXPECT_EQ(data.train.num_samples, 7);
      EXPECT_EQ(data.eval.num_samples, 5);
      EXPECT_EQ(data.train.num_dropped + data.eval.num_dropped, 0);
      EXPECT_EQ(data.train.num_tokens, 14);
      EXPECT_EQ(data.eval.num_tokens, 10);
    }
}

// dataset_dir may hold the entries themselves; the files are named from here then. A weight draws so many times as many rows.
TEST(Dataset, EntriesInTheSettings) {
  Folder folder;
  folder.write(
      "d.jsonl",
      "{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"c\",\"output\":\"d\"}\n{\"instruction\":\"e\",\"output\":\"f\"}\n");
  const std::string file = (folder.path / "d.jsonl").string();
  ByteTokenizer tokenizer;
  SpecialTokens special;
  for (const auto& [more, rows] : std::vector<std::pair<std::string, size_t>>{{"", 3},
                                                                              {R"(, "weight": 0.7)", 2},
                                                                              {R"(, "weight": 2)", 6},
                                                                              {R"(, "num_samples": 2, "weight": 1.5)", 3},
                                                                              {R"(, "formatting": "recognised")", 3}}) {
    auto options = options_for(folder);
    options.dataset_dir = R"({"d": {"file_name": ")" + file + "\"" + more + "}}";
    EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.examples.size(), rows) << more;
    options.datasets.push_back(file);  // and a path beside them
    EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.examples.size(), rows + 3) << more;
  }
  for (const char* weight : {"0", "-1", "\"2\"", "1e9"}) {
    auto options = options_for(folder);
    options.dataset_dir = R"({"d": {"file_name": ")" + file + R"(", "weight": )" + weight + "}}";
    EXPECT_NE(message_of(options, ErrorKind::bad_data).find("weight"), std::string::npos);
  }
  auto options = options_for(folder);
  options.dataset_dir = R"({"d": {"file_name": ")" + file + R"(", "weight": 0.1}})";
  EXPECT_NE(message_of(options, ErrorKind::bad_data).find("leaves none of 3 rows"), std::string::npos);
  options.dataset_dir = "{";
  message_of(options, ErrorKind::bad_data);
}

// Contents that are lists of parts: OpenAI's, and the rows of LLaMA-Factory's v1 with their weights.
TEST(Dataset, ContentsInParts) {
  Folder folder;
  ByteTokenizer tokenizer;
  SpecialTokens special;
  const auto rows = [&](const std::string& answer, const std::string& weight) {
    folder.write("d.jsonl", R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, )"
                            R"({"role": "assistant", "content": [)" +
                                answer + R"(], "loss_weight": )" + weight + "}]}\n");
    auto options = options_for(folder);
    options.datasets = {(folder.path / "d.jsonl").string()};
    return options;
  };
  const std::string text = R"({"type": "text", "value": "c"})";
  DataSplit data = open_data(rows(text, "1.0"), &tokenizer, nullptr, special);
  ASSERT_EQ(data.train.examples.size(), 1u);
  EXPECT_EQ(data.train.examples[0].input_ids, (std::vector<int32_t>{'a', 'b', 'c'}));
  data = open_data(rows(R"({"type": "reasoning", "value": "x"}, )" + text, "null"), &tokenizer, nullptr, special);
  EXPECT_EQ(data.train.examples[0].input_ids.size(), 3u + std::string("<think>\nx\n</think>\n\n").size());
  for (const auto& [answer, weight, words] :
       std::vector<std::array<std::string, 3>>{{text, "0.5", "loss_weight"},
                                               {text, "0", "1 is expected of a message of assistant"},
                                               {R"({"type": "image_url", "value": "c"})", "1", "a part of type image_url"},
                                               {R"({"type": "tool_call", "value": "{}"}, )" + text, "1", "text beside tool calls"},
                                               {R"({"type": "tool_call", "value": "{"})", "1", "no JSON object"},
                                               {R"({"value": "c"})", "1", "a part without `type`"}})
    EXPECT_NE(message_of(rows(answer, weight), ErrorKind::bad_data).find(words), std::string::npos) << answer;
}

TEST(Dataset, TokenizedNeedsNoTokenizer) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.json", "formatting": "tokenized"}})");
  folder.write("d.json", R"([{"input_ids":[1,2,3],"labels":[-100,2,3]},{"input_ids":[4],"labels":[4]}])");
  auto options = options_for(folder);
  options.cutoff_len = 2;
  SpecialTokens special;
  const DataSplit data = open_data(options, nullptr, nullptr, special);
  ASSERT_EQ(data.train.examples.size(), 2u);
  EXPECT_EQ(data.train.examples[0].labels, (std::vector<int32_t>{-100, 2}));
  EXPECT_EQ(data.train.num_truncated, 1);
  folder.write("d.json", R"([{"input_ids":[1,2,3],"labels":[-100,2]}])");
  EXPECT_NE(message_of(options, ErrorKind::bad_data).find("row 1"), std::string::npos);
}

// Each bad row alone: the message names the line and the field; with skip_bad_rows the good row is left.
TEST(Dataset, EveryBadRowNamesLineAndField) {
  struct Case {
    std::string info, row, field;
  };
  const std::string alpaca = "{}", chat = R"({"formatting": "sharegpt"})",
                    openai = R"({"formatting": "openai", "columns": {"messages": "messages"}, "tags": {"role_tag": "role", "content_tag":
                    "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system", "observation_tag": "tool",
                    "function_tag": "function"}})";
  const auto turns = [](const std::string& list) { return "{\"conversations\":[" + list + "]}"; };
  const auto said = [](const std::string& role, const std::string& text) { return R"({"from":")" + role + R"(","value":)" + text + "}"; };
  const std::string user = said("human", "\"q\""), gpt = said("gpt", "\"a\""), system = said("system", "\"s\"");
  std::string deep = "1";
  for (int i = 0; i < 100; ++i) deep = "[" + deep + "]";
  const Case cases[] = {
      {alpaca, R"({"instruction":"a"})", "output"},
      {alpaca, R"({"output":"a"})", "instruction"},
      {alpaca, R"({"instruction":"a","output":null})", "output"},
      {alpaca, R"({"instruction":"a","output":["b"]})", "output"},
      {alpaca, R"({"instruction":"a","output":"\ud800"})", "output"},
      {alpaca, "{\"instruction\":\"a\",\"output\":\"\xff\"}", "output"},
      {alpaca, std::string("{\"instruction\":\"a\",\"output\":\"") + '\0' + "\"}", "output"},
      {alpaca, R"({"instruction":"a","output":"b\u0000"})", "output"},
      {alpaca, R"({"instruction":"a","output":"b","output":"c"})", "output"},
      {alpaca, R"({"instruction":"a","output":"b")", "output"},
      {alpaca, R"({"instruction":"a","output":"b","input":)" + deep + "}", "input"},
      {chat, turns(user), "conversations"},
      {chat, turns(gpt + "," + user), "conversations"},
      {chat, turns(user + "," + user + "," + gpt + "," + gpt), "conversations"},
      {chat, turns(""), "conversations"},
      {chat, turns(system + "," + system + "," + user + "," + gpt), "conversations[1].from"},
      {chat, turns(said("robot", "\"x\"") + "," + gpt), "conversations[0].from"},
      {chat, turns(user + "," + said("gpt", "null")), "conversations[1].value"},
      {chat, turns(R"({"from":"human"},)" + gpt), "conversations[0].value"},
      {chat, R"({"messages":[]})", "conversations"},
      {openai, R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null}]})", "messages[1].content"},
  };
  for (const Case& c : cases) {
    Folder folder;
    auto entry = nlohmann::json::parse(c.info);
    entry["file_name"] = "d.jsonl";
    folder.write("dataset_info.json", nlohmann::json{{"d", entry}}.dump());
    folder.write("d.jsonl", "\n" + c.row + "\n");
    const std::string message = message_of(options_for(folder), ErrorKind::bad_data);
    EXPECT_NE(message.find("d.jsonl, line 2"), std::string::npos) << message;
    EXPECT_NE(message.find("`" + c.field), std::string::npos) << message << "\n" << c.row;
  }
}

// All bad rows are counted, in reading and in encoding, before the refusal says what goes on without them.
TEST(Dataset, BadRowsAreCounted) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  std::string text;
  for (int i = 0; i < 1200; ++i)
    text += i % 400 == 399 ? "{\"instruction\":\n" : i == 5 ? "{\"instruction\":7}\n" : "{\"instruction\":\"a\",\"output\":\"c\"}\n";
  folder.write("d.jsonl", text);
  auto options = options_for(folder);
  ByteTokenizer tokenizer;
  SpecialTokens special;
  const auto refusal = [&] {
    try {
      open_data(options, &tokenizer, nullptr, special);
    } catch (const Error& e) { return e.what() + (" | " + e.hint); }
    return std::string();
  };
  std::string said = refusal();
  EXPECT_NE(said.find("4 of 1,200 rows cannot be used; the first is"), std::string::npos) << said;
  EXPECT_NE(said.find("d.jsonl, line 6: field `instruction`"), std::string::npos) << said;
  EXPECT_NE(said.find("skip_bad_rows: 4"), std::string::npos) << said;
  options.skip_bad_rows = 3;
  said = refusal();
  EXPECT_NE(said.find("4 of 1,200 rows cannot be used and skip_bad_rows allows 3"), std::string::npos) << said;
  options.skip_bad_rows = 4;
  EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.num_dropped, 4);
  options.vocab_size = 'b';  // the rows that are read then fail to be encoded
  said = refusal();
  EXPECT_NE(said.find("1,200 of 1,200 rows cannot be used"), std::string::npos) << said;
  EXPECT_NE(said.find("dataset_info.json"), std::string::npos) << said;
}

TEST(Dataset, TextsThatFillNoBlock) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.json", "columns": {"prompt": "text"}}})");
  folder.write("d.json", R"([{"text": "abc"}, {"text": "de"}])");
  auto options = options_for(folder);
  options.stage = DataStage::pretraining;
  options.cutoff_len = 8;
  const std::string said = message_of(options, ErrorKind::bad_data);
  EXPECT_NE(said.find("the texts of 2 rows fill no block of 8 tokens (cutoff_len): end to end they are 7"), std::string::npos) << said;
  options.cutoff_len = 7;  // each text has two letters of end token
  ByteTokenizer tokenizer;
  SpecialTokens special;
  EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.examples.size(), 1u);
}

TEST(Dataset, ListRowsNameTheirLine) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.json"}})");
  folder.write("d.json", "[\n {\"instruction\":\"]\\\"[\",\n  \"output\":\"x\"},\n {\"instruction\":\"a\"}\n]");
  EXPECT_NE(message_of(options_for(folder), ErrorKind::bad_data).find("d.json, line 4 (row 2)"), std::string::npos);
  folder.write("d.json", "[\n {\"instruction\":\"a\",\n \"output\": x}]");
  const std::string broken = message_of(options_for(folder), ErrorKind::bad_data);
  EXPECT_NE(broken.find("d.json, line 3, column 12"), std::string::npos) << broken;
  EXPECT_NE(broken.find("`output`"), std::string::npos) << broken;
}

TEST(Dataset, AllLabelsMaskedIsRefused) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a long question\",\"output\":\"c\"}\n");
  auto options = options_for(folder);
  options.cutoff_len = 1;
  EXPECT_NE(message_of(options, ErrorKind::usage).find("masked"), std::string::npos);
  options.accept_untrained = true;
  ByteTokenizer tokenizer;
  SpecialTokens special;
  const DataSplit data = open_data(options, &tokenizer, nullptr, special);
  EXPECT_EQ(data.train.num_trained, 0);
  EXPECT_EQ(data.train.num_truncated, 1);
}

// As LLaMA-Factory: the end token of an empty answer is trained; such rows are counted.
TEST(Dataset, EmptyAnswersTrainTheEndToken) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"\"}\n{\"instruction\":\"a\",\"output\":\"b\"}\n");
  auto options = options_for(folder);
  options.template_name = "default";
  ByteTokenizer tokenizer;
  SpecialTokens special;
  special.eos = 'E';
  const DataSplit data = open_data(options, &tokenizer, nullptr, special);
  ASSERT_EQ(data.train.examples.size(), 2u);
  EXPECT_EQ(data.train.num_empty_answers, 1);
  EXPECT_EQ(data.train.num_dropped, 0);
  const Example& first = data.train.examples[0];
  std::vector<int32_t> trained;
  for (const int32_t label : first.labels)
    if (label != -100) trained.push_back(label);
  const TokenIds whole = data.train.examples[1].labels;
  ASSERT_FALSE(trained.empty());
  EXPECT_EQ(trained, std::vector<int32_t>(whole.end() - static_cast<std::ptrdiff_t>(trained.size()), whole.end()));
  EXPECT_EQ(std::count_if(whole.begin(), whole.end(), [](int32_t label) { return label != -100; }),
            static_cast<std::ptrdiff_t>(trained.size()) + 1);  // "b"
}

TEST(Dataset, SufficientCutoff) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  std::string text;
  for (int i = 0; i < 100; ++i)
    text += "{\"instruction\":\"" + std::string(static_cast<size_t>(i < 96 ? 10 : 96 + i), 'q') + "\",\"output\":\"abc\"}\n";
  folder.write("d.jsonl", text);
  auto options = options_for(folder);
  options.cutoff_len = 12;
  ByteTokenizer tokenizer;
  SpecialTokens special;
  const DataSplit data = open_data(options, &tokenizer, nullptr, special);
  EXPECT_EQ(data.train.num_truncated, 100);
  EXPECT_EQ(sufficient_cutoff(data.train, 0), 200);    // 95 + 96 + 4 tokens are more than 192
  EXPECT_EQ(sufficient_cutoff(data.train, 0.05), 16);  // 13
  for (const double share : {0.0, 0.05}) {
    options.cutoff_len = sufficient_cutoff(data.train, share);
    EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.num_truncated, share > 0 ? 4 : 0);
  }
}

// Names first, then paths as they stand and within dataset_dir; both in one list.
TEST(Dataset, NamesAndPaths) {
  Folder folder;
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}, "own.jsonl": {"file_name": "d.jsonl"}})");
  folder.write("d.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n");
  folder.write("own.jsonl", "{\"question\":\"c\",\"answer\":\"d\"}\n{\"question\":\"e\",\"answer\":\"f\"}\n");
  ByteTokenizer tokenizer;
  SpecialTokens special;
  auto options = options_for(folder);
  options.datasets = {"d", folder.path.string() + "/own.jsonl"};
  DataSplit data = open_data(options, &tokenizer, nullptr, special);
  EXPECT_EQ(data.train.examples.size(), 3u);
  ASSERT_EQ(data.recognised.size(), 1u);
  EXPECT_NE(data.recognised[0].find("own.jsonl: questions and answers: `question` → `answer`"), std::string::npos) << data.recognised[0];
  options.datasets = {"own.jsonl"};  // the name
  data = open_data(options, &tokenizer, nullptr, special);
  EXPECT_EQ(data.train.examples.size(), 1u);
  EXPECT_TRUE(data.recognised.empty());
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.jsonl"}})");
  EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.examples.size(), 2u);  // within dataset_dir
  std::filesystem::remove(folder.path / "dataset_info.json");
  EXPECT_EQ(open_data(options, &tokenizer, nullptr, special).train.examples.size(), 2u);
  options.datasets = {"nowhere/rows.jsonl"};
  EXPECT_NE(message_of(options, ErrorKind::usage).find("nowhere/rows.jsonl is neither a name"), std::string::npos);
  options.datasets = {"name"};
  EXPECT_NE(message_of(options, ErrorKind::usage).find("no such file"), std::string::npos);
}

TEST(Dataset, PlainTextsBelongToStagePt) {
  Folder folder;
  folder.write("d.txt", "one\r\ntwo\n\nthree");
  folder.write("dataset_info.json", R"({"d": {"file_name": "d.txt", "columns": {"prompt": "text"}}})");
  auto options = options_for(folder);
  EXPECT_NE(message_of(options, ErrorKind::usage).find("stage sft"), std::string::npos);
  options.datasets = {(folder.path / "d.txt").string()};
  EXPECT_NE(message_of(options, ErrorKind::usage).find("plain texts in `text`"), std::string::npos);
  options.stage = DataStage::pretraining;
  options.packing = false;
  ByteTokenizer tokenizer;
  SpecialTokens special;
  special.eos = 'E';
  const DataSplit by_path = open_data(options, &tokenizer, nullptr, special);
  EXPECT_EQ(by_path.train.examples.size(), 4u);  // an empty line is a text too, as for LLaMA-Factory
  EXPECT_EQ(by_path.train.examples[0].input_ids, (std::vector<int32_t>{'o', 'n', 'e', 'E'}));
  options.datasets = {"d"};
  EXPECT_EQ(data_fingerprint(open_data(options, &tokenizer, nullptr, special).train.examples), data_fingerprint(by_path.train.examples));
  folder.write("qa.jsonl", "{\"question\":\"c\",\"answer\":\"d\"}\n");
  options.datasets = {(folder.path / "qa.jsonl").string()};
  EXPECT_NE(message_of(options, ErrorKind::usage).find("stage pt"), std::string::npos);
}

TEST(Dataset, Fingerprint) {
  std::vector<Example> data = {{{1, 2, 3}, {-100, 2, 3}}, {{4}, {4}}};
  const uint64_t hash = data_fingerprint(data);
  EXPECT_EQ(hash, data_fingerprint(data));
  EXPECT_EQ(hash, 0x420230b59d6d1bd4ull);  // kept in checkpoints: must never change
  auto other = data;
  other[0].labels = {-100, -100, 3};
  EXPECT_NE(hash, data_fingerprint(other));
  std::swap(data[0], data[1]);
  EXPECT_NE(hash, data_fingerprint(data));
  EXPECT_NE(data_fingerprint(std::vector<Example>{{{1, 2}, {1, 2}}}), data_fingerprint(std::vector<Example>{{{1}, {1}}, {{2}, {2}}}));
}

TEST(Encode, KeptLengths) {
  EXPECT_EQ(kept_lengths(10, 10, 100), (std::pair<int64_t, int64_t>{10, 10}));
  EXPECT_EQ(kept_lengths(100, 100, 50), (std::pair<int64_t, int64_t>{25, 25}));
  EXPECT_EQ(kept_lengths(10, 100, 50), (std::pair<int64_t, int64_t>{10, 40}));
  EXPECT_EQ(kept_lengths(100, 10, 50), (std::pair<int64_t, int64_t>{40, 10}));
}

}  // namespace
}  // namespace loraine::dataset_test
