// `loraine tokenize`: rows of text or messages to token ids, one JSON object per line; to check tokenizer and chat template against others.
#include <nlohmann/json.hpp>

#include "loraine/api/open_text.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_lines.h"
#include "loraine/io/model_files.h"
#include "loraine/train/config/hub_access.h"

namespace loraine {
namespace {

Value tokenize_text(const Tokenizer& tokenizer, const JsonRow& row, bool split_special_tokens) {
  const auto specials = row.value.find("add_special_tokens");
  if (specials != row.value.end() && !specials->is_boolean())
    throw Error(ErrorKind::bad_data, row.place + ": `add_special_tokens` is not true or false");
  const bool add = specials != row.value.end() && specials->get<bool>();
  const std::vector<int32_t> ids = tokenizer.encode(text_field(row, {"text"}), add, split_special_tokens);
  return {{"ids", ids}, {"decoded", tokenizer.decode(ids)}};
}

Value tokenize_messages(const Tokenizer& tokenizer, const ChatTemplate& chat, const JsonRow& row, bool split_special_tokens) {
  try {
    std::string text = chat.render(row.value["messages"], row.value.value("kwargs", Value::object())).text;
    return {{"rendered", text}, {"ids", tokenizer.encode(text, false, split_special_tokens)}};
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
  ModelFiles files = open_text_files(config.model_name_or_path, hub_access(config));
  print_place(files.place_note);
  ModelText model = open_text(files);
  if (!model.tokenizer) throw no_tokenizer(files);
  input_warning(files.tokenizer_note, config.strict, ErrorKind::usage);
  if (!chat_file.empty()) {
    const Value specials = files.tokenizer_config ? Value::parse(files.tokenizer_config->dump()) : Value::object();
    model.chat_template = std::make_unique<ChatTemplate>(read_file(chat_file, 1 << 24), specials, chat_file);
  }

  std::string answers;
  for (const JsonRow& row : read_json_rows(input)) {
    const bool text = row.value.contains("text");
    if (!text && !row.value.contains("messages")) throw Error(ErrorKind::bad_data, row.place + ": it has neither `text` nor `messages`");
    try {
      if (!text && !model.chat_template) throw no_chat_template(files);
      const Value answer = text ? tokenize_text(*model.tokenizer, row, config.split_special_tokens)
                                : tokenize_messages(*model.tokenizer, *model.chat_template, row, config.split_special_tokens);
      answers += answer.dump(-1, ' ', false, Value::error_handler_t::replace) + "\n";
    } catch (const Error& error) { throw with_context(error, row.place); }
  }
  write_file(output, answers);
  return 0;
}

}  // namespace loraine
