// `loraine tokenize`: rows of text or messages to token ids, one JSON object per line; to check tokenizer and chat template against others.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/model_files.h"
#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {
namespace {

Value tokenize_text(const Tokenizer& tokenizer, const Value& row) {
  if (!row["text"].is_string()) throw Error(ErrorKind::bad_data, "field 'text' is not a string");
  if (row.contains("add_special_tokens") && !row["add_special_tokens"].is_boolean())
    throw Error(ErrorKind::bad_data, "field 'add_special_tokens' is not true or false");
  std::vector<int32_t> ids = tokenizer.encode(row["text"].get<std::string>(), row.value("add_special_tokens", false));
  return {{"ids", ids}, {"decoded", tokenizer.decode(ids)}};
}

Value tokenize_messages(const Tokenizer& tokenizer, const ChatTemplate* chat, const Value& row) {
  if (!chat)
    throw Error(ErrorKind::bad_data, "the row has messages, and the model has no chat template", "give one with --chat_template FILE");
  try {
    std::string text = chat->render(row["messages"], row.contains("kwargs") ? row["kwargs"] : Value::object()).text;
    return {{"rendered", text}, {"ids", tokenizer.encode(text)}};
  } catch (const Error& error) {  // a template may refuse a conversation: that is its answer
    return {{"error", error.what()}};
  }
}

}  // namespace

int run_tokenize(const std::vector<std::string>& args) {
  TrainConfig config;
  std::string chat_file, input, output;
  const std::vector<Option> own = {
      {"input", "tokenize", &input, "JSON lines: {\"text\", \"add_special_tokens\"} or {\"messages\", \"kwargs\"}"},
      {"output", "tokenize", &output, "where the answers go, a line per row"},
      {"chat_template", "tokenize", &chat_file, "Jinja file used instead of the model's own template"},
  };
  if (!read_config(args, "tokenize", config, own)) return 0;
  if (config.model_name_or_path.empty() || input.empty() || output.empty())
    throw Error(ErrorKind::usage, "tokenize needs model_name_or_path, input and output", "see `loraine help tokenize`");
  ModelFiles files = open_model_files(config.model_name_or_path);
  if (!files.tokenizer_json) throw Error(ErrorKind::bad_data, config.model_name_or_path + ": no tokenizer.json");
  auto tokenizer = Tokenizer::from_json(*files.tokenizer_json, config.model_name_or_path + "/tokenizer.json");
  Value specials = Value::object();
  if (files.tokenizer_config) specials = Value::parse(files.tokenizer_config->dump());
  std::unique_ptr<ChatTemplate> chat;
  if (!chat_file.empty()) chat = std::make_unique<ChatTemplate>(read_file(chat_file, 1 << 24), specials, chat_file);
  else if (files.chat_template) chat = std::make_unique<ChatTemplate>(*files.chat_template, specials, config.model_name_or_path);

  std::string text = read_file(input), answers;
  size_t start = 0;
  for (int line = 1; start < text.size(); ++line) {
    size_t end = std::min(text.find('\n', start), text.size());
    std::string_view one(text.data() + start, end - start);
    start = end + 1;
    if (one.find_first_not_of(" \t\r") == one.npos) continue;
    Value row = Value::parse(one, nullptr, false);
    std::string where = fmt::format("{}:{}", input, line);
    if (!row.is_object() || (!row.contains("text") && !row.contains("messages")))
      throw Error(ErrorKind::bad_data, where + ": expected a JSON object with 'text' or 'messages'");
    try {
      Value answer = row.contains("text") ? tokenize_text(*tokenizer, row) : tokenize_messages(*tokenizer, chat.get(), row);
      answers += answer.dump(-1, ' ', false, Value::error_handler_t::replace) + "\n";
    } catch (const Error& error) { throw with_context(error, where); }
  }
  write_file(output, answers);
  return 0;
}

}  // namespace loraine
