// loraine chat: a conversation with a model and its adapters, streamed; /adapter switches in an instant.
#include <fmt/format.h>
#include <histedit.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>

#include "loraine/adapters/peft_files.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/open_text.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/io/durable_file.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

std::atomic<bool> interrupted{false};
void on_interrupt(int) { interrupted = true; }

// Lines from the terminal with editing and history, or from a pipe.
class LineReader {
 public:
  LineReader() {
    if (!isatty(0)) return;
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, 500);
    editor_ = el_init("loraine", stdin, stdout, stderr);
    el_set(
        editor_, EL_PROMPT, +[](EditLine*) -> char* {
          static char prompt[] = "User: ";
          return prompt;
        });
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
  }
  ~LineReader() {
    if (editor_) el_end(editor_);
    if (history_) history_end(history_);
  }
  bool next(std::string& line) {
    if (!editor_) return static_cast<bool>(std::getline(std::cin, line));
    int count = 0;
    const char* text = el_gets(editor_, &count);
    if (!text || count <= 0) return false;
    line.assign(text, static_cast<size_t>(count));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    HistEvent event;
    if (!line.empty()) history(history_, &event, H_ENTER, line.c_str());
    return true;
  }

 private:
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

struct Chat {
  TrainConfig config;
  ModelFiles files;
  ModelText text;
  Model model;
  std::map<std::string, AdapterSet> adapters;
  const AdapterSet* adapter = nullptr;
  std::unique_ptr<Engine> engine;
  GenerateOptions options;
  Context ctx;
  std::string system;
  nlohmann::ordered_json history = nlohmann::ordered_json::array();
};

std::vector<int32_t> stop_ids(const Chat& chat) {
  std::vector<int32_t> ids = chat.model.config.eos_token_ids;
  if (chat.files.generation_config && chat.files.generation_config->contains("eos_token_id")) {
    const Json& eos = (*chat.files.generation_config)["eos_token_id"];
    for (const Json& id : eos.is_array() ? eos : Json::array({eos}))
      if (id.is_number_integer()) ids.push_back(id.get<int32_t>());
  }
  if (chat.files.tokenizer_config && chat.files.tokenizer_config->contains("eos_token")) {
    const Json& eos = (*chat.files.tokenizer_config)["eos_token"];
    std::string token = eos.is_string() ? eos.get<std::string>() : eos.is_object() ? eos.value("content", "") : "";
    if (auto id = chat.text.tokenizer->token_to_id(token)) ids.push_back(*id);
  }
  return ids;
}

void load_adapters(Chat& chat) {
  for (const std::string& item : split_list(chat.config.adapter_name_or_path)) {
    size_t equals = item.find('=');
    std::string path = equals == std::string::npos ? item : item.substr(equals + 1);
    std::string name = equals == std::string::npos ? path.substr(path.find_last_of('/') + 1) : item.substr(0, equals);
    if (name.empty() || chat.adapters.count(name))
      throw Error(ErrorKind::usage, "two adapters are called '" + name + "'", "give them names: name=path,other=path");
    bool first = chat.adapters.empty();
    AdapterSet& set = chat.adapters[name] = load_adapter(chat.model.sites(), path, false);
    set.name = name;
    if (first) chat.adapter = &set;
  }
}

void answer(Chat& chat, const std::string& question) {
  chat.history.push_back({{"role", "user"}, {"content", question}});
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!chat.system.empty()) messages.push_back({{"role", "system"}, {"content", chat.system}});
  for (const auto& message : chat.history) messages.push_back(message);
  nlohmann::ordered_json kwargs = {{"add_generation_prompt", true}};
  if (chat.config.enable_thinking) kwargs["enable_thinking"] = *chat.config.enable_thinking;
  std::vector<int32_t> prompt = chat.text.tokenizer->encode(chat.text.chat_template->render(messages, kwargs).text);
  Detokenizer out(*chat.text.tokenizer, chat.config.skip_special_tokens);
  std::string reply;
  auto put = [&](const std::string& piece) {
    reply += piece;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  put("");
  std::fputs("Assistant: ", stdout);
  interrupted = false;
  auto start = std::chrono::steady_clock::now();
  std::vector<int32_t> ids = chat.engine->generate(chat.ctx, prompt, chat.adapter, chat.options, [&](int32_t id) {
    bool stop = std::find(chat.options.stop_ids.begin(), chat.options.stop_ids.end(), id) != chat.options.stop_ids.end();
    if (!stop) put(out.push(id));
    return !interrupted;
  });
  put(out.finish());
  std::fputs("\n", stdout);
  std::fflush(stdout);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (isatty(2))
    print_stderr(fmt::format("[{} + {} tokens, {:.1f} tokens/s]\n", prompt.size(), ids.size(), static_cast<double>(ids.size()) / seconds));
  chat.history.push_back({{"role", "assistant"}, {"content", reply}});
}

// Commands of the prompt; true when the line was one.
bool command(Chat& chat, const std::string& line) {
  std::string word = line.substr(0, line.find(' ')), rest = line.find(' ') == std::string::npos ? "" : line.substr(line.find(' ') + 1);
  if (line == "clear") {
    chat.history = nlohmann::ordered_json::array();
    print_stderr("history cleared\n");
  } else if (word == "/adapter" || word == "/base") {
    auto it = chat.adapters.find(rest);
    if (word == "/adapter" && it == chat.adapters.end()) {
      std::string known;
      for (const auto& [name, set] : chat.adapters) known += " " + name;
      print_stderr("no adapter is called '" + rest + "'; there are:" + known + "\n");
      return true;
    }
    auto start = std::chrono::steady_clock::now();
    chat.adapter = word == "/base" ? nullptr : &it->second;
    double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    print_stderr(fmt::format("now: {} ({:.1f} µs)\n", chat.adapter ? chat.adapter->name : "base", us));
  } else if (word == "/system") {
    chat.system = rest;
  } else if (word == "/save") {
    if (rest.empty()) print_stderr("/save needs a file name\n");
    else {
      write_file(rest, chat.history.dump(2) + "\n");
      print_stderr("saved to " + rest + "\n");
    }
  } else {
    return false;
  }
  return true;
}

}  // namespace

int run_chat(const std::vector<std::string>& args) {
  Chat chat;
  if (!read_config(args, "chat", chat.config)) return 0;
  const TrainConfig& c = chat.config;
  if (c.template_name)
    throw Error(ErrorKind::unsupported,
                "chat speaks the model's own chat template; template: " + *c.template_name + " is not built for chat yet",
                "leave template out");
  chat.files = open_model_files(c.model_name_or_path);
  chat.text = open_text(chat.files);
  if (!chat.text.tokenizer || !chat.text.chat_template)
    throw Error(ErrorKind::bad_data, c.model_name_or_path + ": chat needs tokenizer.json and a chat template, and one is missing");
  chat.model = load_model(chat.files, c.bf16);
  load_adapters(chat);
  int64_t widest = 1;
  for (const auto& [name, set] : chat.adapters)
    for (const auto& site : set.sites)
      if (site) widest = std::max(widest, site->saved_width());
  chat.engine = std::make_unique<Engine>(chat.model, std::min<int64_t>(chat.model.config.max_position_embeddings, 8192), widest);
  chat.options = {c.max_new_tokens,     c.do_sample, c.temperature,  c.top_p,
                  c.repetition_penalty, c.top_k,     stop_ids(chat), static_cast<uint64_t>(c.seed)};
  chat.system = c.default_system.value_or("");
  std::signal(SIGINT, on_interrupt);
  if (isatty(0)) print_stderr("exit ends, clear forgets; /adapter NAME, /base, /system TEXT, /save FILE\n");
  LineReader reader;
  for (std::string line; reader.next(line);) {
    if (line == "exit") break;
    if (line.empty() || command(chat, line)) continue;
    answer(chat, line);
  }
  return 0;
}

}  // namespace loraine
