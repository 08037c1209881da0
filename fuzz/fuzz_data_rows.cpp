// Bytes as the rows of a data set in every layout, as a JSON list and as JSON lines, down to token ids and labels. See ./dev fuzz.
#include <nlohmann/json.hpp>

#include "fuzz/input_folder.h"
#include "loraine/data/dataset.h"

using namespace loraine;

namespace {

// One id per byte: rows are under fuzz here, not tokenizers.
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

constexpr const char* kTemplate =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

constexpr const char* kSets = R"({
  "alpaca": {"file_name": "rows", "columns": {"prompt": "instruction", "query": "input", "response": "output", "history": "history",
             "system": "system", "tools": "tools"}},
  "sharegpt": {"file_name": "rows", "formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system",
               "tools": "tools"}},
  "openai": {"file_name": "rows", "formatting": "openai", "columns": {"messages": "messages", "tools": "tools"},
             "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                      "observation_tag": "tool", "function_tag": "function", "system_tag": "system"}},
  "tokenized": {"file_name": "rows", "formatting": "tokenized"}})";

void read(const InputFolder& folder, const std::string& set, const char* named, bool skip, DataStage stage = DataStage::sft) {
  static const ChatTemplate chat(kTemplate, nlohmann::ordered_json::object(), "template");
  ByteTokenizer tokenizer;
  SpecialTokens special;
  DataOptions options;
  options.datasets = {set};
  options.dataset_dir = folder.path();
  if (named) options.template_name = named;
  options.cutoff_len = 64;
  options.today = "26 Jul 2024";
  options.vocab_size = 300;
  options.stage = stage;
  options.skip_bad_rows = skip ? 1000000 : 0;
  expect_value_or_refusal([&] { data_fingerprint(open_data(options, &tokenizer, &chat, special).train.examples); });
}

}  // namespace

// The first byte picks layout (or, by the path alone, kind of file and stage), file kind and template; the rest is the file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  if (size == 0) return 0;
  static const char* const sets[] = {"alpaca", "sharegpt", "openai", "tokenized"};
  static const char* const names[] = {nullptr, "default", "llama3", "mistral", "qwen3", "qwen", "gemma", "empty"};
  const char* name = names[(data[0] >> 2) & 7];
  if (data[0] & 0x20) {
    static const char* const own[] = {"own.json", "own.jsonl", "own.csv", "own.txt"};
    const std::string file = folder.write(own[data[0] & 3], data + 1, size - 1);
    read(folder, file, name, data[0] & 0x40, data[0] & 0x80 ? DataStage::pretraining : DataStage::sft);
    return read(folder, file, name, data[0] & 0x40, DataStage::decisions), 0;
  }
  const char* file = data[0] & 0x80 ? "rows.jsonl" : "rows.json";
  std::string info(kSets);
  for (size_t at = info.find("\"rows\""); at != std::string::npos; at = info.find("\"rows\"", at))
    info.replace(at, 6, "\"" + std::string(file) + "\"");
  folder.write("dataset_info.json", reinterpret_cast<const uint8_t*>(info.data()), info.size());
  folder.write(file, data + 1, size - 1);
  read(folder, sets[data[0] & 3], name, data[0] & 0x40);
  return 0;
}
