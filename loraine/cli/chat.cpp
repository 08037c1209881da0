// loraine chat: a conversation with a model and its adapters, streamed; /adapter switches in an instant.
#include <fmt/format.h>
#include <histedit.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>

#include "loraine/adapters/peft_files.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/open_text.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/template_files.h"
#include "loraine/core/error.h"
#include "loraine/data/encode.h"
#include "loraine/generate/engine.h"
#include "loraine/io/durable_file.h"
#include "loraine/io/mapped_file.h"
#include "loraine/model/attach.h"
#include "loraine/model/finite.h"
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
    if (const char* home = std::getenv("HOME")) file_ = std::string(home) + "/.loraine_history";
    if (!file_.empty()) history(history_, &event, H_LOAD, file_.c_str());  // none yet: nothing to load
    editor_ = el_init("loraine", stdin, stdout, stderr);
    el_set(
        editor_, EL_PROMPT, +[](EditLine*) -> char* {
          static char prompt[] = "User: ";
          return prompt;
        });
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 0);
    el_set(editor_, EL_HIST, history, history_);
  }
  ~LineReader() {
    if (editor_) el_end(editor_);
    if (history_) history_end(history_);
  }
  bool next(std::string& line) {
    if (!editor_) return static_cast<bool>(std::getline(std::cin, line));
    int count = 0;
    const char* text = nullptr;
    for (;;) {  // Ctrl-C at the prompt drops the line, Ctrl-D ends
      interrupted = false;
      text = el_gets(editor_, &count);
      if (text && count > 0) break;
      if (!interrupted) {
        std::fputs("\n", stdout);
        return false;
      }
      std::fputs("\n", stdout);
      el_reset(editor_);
    }
    line.assign(text, static_cast<size_t>(count));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    HistEvent event;
    if (line.empty()) return true;
    history(history_, &event, H_ENTER, line.c_str());
    if (!file_.empty()) history(history_, &event, H_SAVE, file_.c_str());
    return true;
  }

 private:
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  std::string file_;
};

struct Chat {
  TrainConfig config;
  ModelFiles files;
  ModelText text;
  Model model;
  std::map<std::string, AdapterSet> adapters;
  const AdapterSet* adapter = nullptr;
  std::optional<Template> named;  // template: NAME; else the model's own chat template
  SpecialTokens special;
  std::unique_ptr<Engine> engine;
  GenerateOptions options;
  Context ctx;
  std::string system;
  nlohmann::ordered_json history = nlohmann::ordered_json::array();
};

std::vector<int32_t> stop_ids(const Chat& chat) {
  std::vector<int32_t> ids = eos_token_ids(chat.files, chat.model.config);
  ids.insert(ids.end(), chat.special.stop.begin(), chat.special.stop.end());
  if (chat.files.tokenizer_config && chat.files.tokenizer_config->contains("eos_token")) {
    const Json& eos = (*chat.files.tokenizer_config)["eos_token"];
    std::string token = eos.is_string() ? eos.get<std::string>() : eos.is_object() ? eos.value("content", "") : "";
    if (auto id = chat.text.tokenizer->token_to_id(token)) ids.push_back(*id);
  }
  return ids;
}

// name=path adapters wait to be switched on, the first is on at once. Plain paths are merged in turn, as LLaMA-Factory does: all on
// together under the name "all" when there are several; each can also be chosen alone.
void load_adapters(Chat& chat) {
  const std::vector<std::string> items = split_list(chat.config.adapter_name_or_path);
  std::vector<const AdapterSet*> unnamed;
  for (const std::string& item : items) {
    const size_t equals = item.find('=');
    std::string path = equals == std::string::npos ? item : item.substr(equals + 1);
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const std::string name = equals == std::string::npos ? path.substr(path.find_last_of('/') + 1) : item.substr(0, equals);
    if (name.empty() || name == "all" || chat.adapters.count(name))
      throw Error(ErrorKind::usage, "adapter_name_or_path: the name '" + name + "' is empty, taken, or means all of them",
                  "give each a name of its own: name=path,other=path");
    LoraConfig lora;
    AdapterSet& set = chat.adapters[name] = load_adapter(chat.model, path, false, &lora);
    set.name = name;
    input_warning(base_mismatch(lora, path, chat.config.model_name_or_path), chat.config.strict, ErrorKind::usage);
    if (equals == std::string::npos) unnamed.push_back(&set);
    if (!chat.adapter) chat.adapter = &set;
  }
  if (unnamed.size() > 1) {
    AdapterSet& all = chat.adapters["all"] = combine_adapters(unnamed, chat.model.sites());
    all.name = "all";
    chat.adapter = &all;
  }
}

// Ids of the conversation so far, up to where the answer begins.
std::vector<int32_t> prompt_ids(const Chat& chat) {
  if (chat.named) {
    Conversation conversation;
    conversation.system = chat.system;
    for (const auto& message : chat.history)
      conversation.messages.push_back({message["role"] == "user" ? Role::user : Role::assistant, message["content"].get<std::string>()});
    conversation.messages.push_back({Role::assistant, ""});
    EncodeOptions options;
    options.enable_thinking = chat.config.enable_thinking;
    options.split_special_tokens = chat.config.split_special_tokens;
    std::vector<int32_t> ids;
    const std::vector<Turn> turns = encode_turns(*chat.named, *chat.text.tokenizer, chat.special, conversation, options);
    for (size_t i = 0; i < turns.size(); ++i) {
      ids.insert(ids.end(), turns[i].source.begin(), turns[i].source.end());
      if (i + 1 < turns.size()) ids.insert(ids.end(), turns[i].target.begin(), turns[i].target.end());
    }
    return ids;
  }
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!chat.system.empty()) messages.push_back({{"role", "system"}, {"content", chat.system}});
  for (const auto& message : chat.history) messages.push_back(message);
  nlohmann::ordered_json kwargs = {{"add_generation_prompt", true}};
  if (chat.config.enable_thinking) kwargs["enable_thinking"] = *chat.config.enable_thinking;
  const Tokenizer& tokenizer = *chat.text.tokenizer;
  if (!chat.config.split_special_tokens) return tokenizer.encode(chat.text.chat_template->render(messages, kwargs).text);
  return tokenizer.encode_guarded(chat.text.chat_template->render(guarded_messages(messages, tokenizer), kwargs).text);
}

void answer(Chat& chat, const std::string& question) {
  chat.history.push_back({{"role", "user"}, {"content", question}});
  const std::vector<int32_t> prompt = prompt_ids(chat);
  Detokenizer out(*chat.text.tokenizer, chat.config.skip_special_tokens);
  std::string reply;
  auto put = [&](const std::string& piece) {
    reply += piece;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  std::fputs("Assistant: ", stdout);
  std::fflush(stdout);
  interrupted = false;
  auto start = std::chrono::steady_clock::now();
  std::vector<int32_t> ids = chat.engine->generate(chat.ctx, prompt, chat.adapter, chat.options, [&](int32_t id) {
    bool stop = std::find(chat.options.stop_ids.begin(), chat.options.stop_ids.end(), id) != chat.options.stop_ids.end();
    if (!stop) put(out.push(id));
    return !interrupted;
  });
  put(out.finish());
  check_mapped_files();
  std::fputs(interrupted ? " …\n" : "\n", stdout);
  std::fflush(stdout);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (isatty(2))
    print_stderr(fmt::format("[{} + {} tokens, {:.1f} tokens/s]\n", prompt.size(), ids.size(), static_cast<double>(ids.size()) / seconds));
  chat.history.push_back({{"role", "assistant"}, {"content", reply}});
}

constexpr const char* kHelp =
    "exit ends, clear forgets the conversation; /adapter NAME, /base, /system TEXT, /save FILE; Ctrl-C stops an answer\n";

// Commands of the prompt; true when the line was one.
bool command(Chat& chat, const std::string& line) {
  std::string word = line.substr(0, line.find(' ')), rest = line.find(' ') == std::string::npos ? "" : line.substr(line.find(' ') + 1);
  if (word == "/help") {
    print_stderr(kHelp);
  } else if (line == "clear") {
    chat.history = nlohmann::ordered_json::array();
    print_stderr("history cleared\n");
  } else if (word == "/adapter" || word == "/base") {
    auto it = chat.adapters.find(rest);
    if (word == "/adapter" && it == chat.adapters.end()) {
      std::string known;
      for (const auto& [name, set] : chat.adapters) known += (known.empty() ? "" : ", ") + name + (&set == chat.adapter ? " (on)" : "");
      if (known.empty()) print_stderr("no adapters are loaded; give them as adapter_name_or_path: name=path,other=path\n");
      else if (rest.empty()) print_stderr("adapters: " + known + "; now: " + (chat.adapter ? chat.adapter->name : "base") + "\n");
      else print_stderr("no adapter is called '" + rest + "'; there are: " + known + "\n");
      return true;
    }
    auto start = std::chrono::steady_clock::now();
    chat.adapter = word == "/base" ? nullptr : &it->second;
    double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    print_stderr(fmt::format("now: {} ({:.1f} µs)\n", chat.adapter ? chat.adapter->name : "base", us));
  } else if (word == "/system") {
    chat.system = rest;
    print_stderr(rest.empty() ? "system text removed\n" : "system text set\n");
  } else if (word == "/save") {
    if (rest.empty()) print_stderr("/save needs a file name\n");
    else {
      try {
        write_file(rest, chat.history.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
        print_stderr("saved to " + rest + "\n");
      } catch (const Error& error) { print_stderr(std::string(error.what()) + "\n"); }
    }
  } else if (line.size() > 1 && line[0] == '/' && std::isalpha(static_cast<unsigned char>(line[1])) && word.find('/', 1) == word.npos) {
    print_stderr("unknown command " + word + "\n" + kHelp);
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
  chat.files = open_model_files(c.model_name_or_path);
  chat.text = open_text(chat.files);
  if (!chat.text.tokenizer) throw Error(ErrorKind::bad_data, c.model_name_or_path + ": has no tokenizer.json, and chat needs one");
  if (!c.template_name && !chat.text.chat_template)
    throw Error(ErrorKind::bad_data, c.model_name_or_path + ": has no chat template of its own", "name one: --template chatml");
  chat.special = special_tokens_of(chat.files, *chat.text.tokenizer);
  if (c.template_name) {
    chat.named = named_template(*c.template_name);
    apply_template_tokens(*chat.named, *chat.text.tokenizer, chat.special);
  }
  chat.model = load_model(chat.files, c.bf16);
  input_warning(not_finite_text(chat.model), c.strict, ErrorKind::numeric);
  load_adapters(chat);
  int64_t widest = 1;
  for (const auto& [name, set] : chat.adapters) widest = std::max(widest, set.widest());
  chat.engine = std::make_unique<Engine>(chat.model, std::min<int64_t>(chat.model.config.max_position_embeddings, 8192), widest);
  chat.options = {c.max_new_tokens,     c.do_sample, c.temperature,  c.top_p,
                  c.repetition_penalty, c.top_k,     stop_ids(chat), static_cast<uint64_t>(c.seed)};
  chat.system = c.default_system.value_or("");
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // without SA_RESTART: a read at the prompt returns
  sigaction(SIGINT, &action, nullptr);
  if (isatty(0)) print_stderr(fmt::format("{}now: {}\n", kHelp, chat.adapter ? chat.adapter->name : "base"));
  LineReader reader;
  for (std::string line; reader.next(line);) {
    if (line == "exit") break;
    if (line.empty() || command(chat, line)) continue;
    try {
      answer(chat, line);
    } catch (const Error& error) {
      if (!isatty(0)) throw;
      chat.history.erase(chat.history.size() - 1);  // the question that could not be answered
      print_stderr(std::string("error: ") + error.what() + (error.hint.empty() ? "" : "\nhint: " + error.hint) + "\n");
    }
  }
  return 0;
}

}  // namespace loraine
