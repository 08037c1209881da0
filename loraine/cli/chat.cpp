// loraine chat: a conversation with a model and its adapters, streamed. Adapters are loaded, unloaded and switched while it runs, and /ask
// puts one question to several of them at once.
#include <fmt/format.h>
#include <histedit.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "loraine/api/loaded_model.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/cli/side_by_side.h"
#include "loraine/core/error.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/train/config/named_adapters.h"

namespace loraine {
namespace {

std::atomic<bool> interrupted{false};

struct PromptInput {
  InterruptibleRead read;
  bool interrupted = false;
};

// One character of the terminal, for libedit: UTF-8 whatever the locale says.
int next_character(EditLine* editor, wchar_t* out) {
  PromptInput* input = nullptr;
  el_get(editor, EL_CLIENTDATA, &input);
  std::mbstate_t state{};
  for (;;) {
    if (!input->read.wait(0)) {
      input->interrupted = true;
      return -1;
    }
    char byte = 0;
    const ssize_t count = ::read(0, &byte, 1);
    if (count <= 0) return static_cast<int>(count);
    const size_t used = std::mbrtowc(out, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) continue;  // more bytes of it follow
    if (used == static_cast<size_t>(-1)) *out = 0xfffd;
    return 1;
  }
}

// Lines from the terminal with editing and history, or from a pipe.
class LineReader {
 public:
  LineReader() {
    if (!isatty(0)) return;
    std::setlocale(LC_CTYPE, "C.UTF-8");  // what libedit measures and writes with
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
    el_set(editor_, EL_GETCFN, next_character);
    el_set(editor_, EL_HIST, history, history_);
  }
  ~LineReader() {
    if (editor_) el_end(editor_);
    if (history_) history_end(history_);
  }
  bool next(std::string& line) {
    if (!editor_) return static_cast<bool>(std::getline(std::cin, line));
    PromptInput input;
    el_set(editor_, EL_CLIENTDATA, &input);
    int count = 0;
    const char* text = nullptr;
    for (;;) {  // Ctrl-C at the prompt drops the line, Ctrl-D ends
      input.interrupted = false;
      text = el_gets(editor_, &count);
      if (text && count > 0) break;
      std::fputs("\n", stdout);
      if (!input.interrupted) return false;
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
  std::unique_ptr<LoadedModel> loaded;
  std::unique_ptr<Engine> engine;
  Context ctx;
  std::string shown_template;
  std::string system;
  nlohmann::ordered_json history = nlohmann::ordered_json::array();
};

// Ids of the conversation so far, up to where the answer begins, as this adapter (nullptr: the base) was trained.
std::vector<int32_t> prompt_ids(const Chat& chat, const AdapterSet* adapter) {
  Conversation conversation;
  conversation.system = chat.system;
  for (const auto& message : chat.history)
    conversation.messages.push_back({message["role"] == "user" ? Role::user : Role::assistant, message["content"].get<std::string>()});
  return chat.loaded->prompt_ids(conversation, adapter);
}

bool is_stop(const GenerateOptions& options, int32_t id) {
  return std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end();
}

// Why an answer ended that did not end by itself; empty: it did.
std::string cut_text(const std::vector<int32_t>& ids, const GenerateOptions& options) {
  if (interrupted || (!ids.empty() && is_stop(options, ids.back()))) return "";
  if (static_cast<int64_t>(ids.size()) >= options.max_new_tokens) return fmt::format("cut after {} tokens: max_new_tokens", ids.size());
  return fmt::format("cut after {} tokens: the conversation has no more room; clear begins anew", ids.size());
}

// Where it is not the one shown last.
void show_template(Chat& chat) {
  const std::string text = chat.loaded->format_of(chat.loaded->adapter).choice.text();
  if (text != chat.shown_template) print_stderr("template: " + text + "\n");
  chat.shown_template = text;
}

void answer(Chat& chat, const std::string& question) {
  chat.history.push_back({{"role", "user"}, {"content", question}});
  const AdapterSet* adapter = chat.loaded->adapter;
  const std::vector<int32_t> prompt = prompt_ids(chat, adapter);
  const GenerateOptions options = generate_options(*chat.loaded, adapter);
  Detokenizer out(*chat.loaded->text.tokenizer, chat.loaded->config.skip_special_tokens);
  std::string reply;
  auto put = [&](const std::string& piece) {
    reply += piece;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  std::fputs("Assistant: ", stdout);
  std::fflush(stdout);
  auto start = std::chrono::steady_clock::now();
  std::vector<int32_t> ids = chat.engine->generate(
      chat.ctx, prompt, adapter, options,
      [&](int32_t id) {
        if (!is_stop(options, id)) put(out.push(id));
        return !interrupted;
      },
      [] { return !interrupted; });
  put(out.finish());
  check_mapped_files();
  const std::string cut = cut_text(ids, options);
  std::fputs(interrupted || (!cut.empty() && isatty(1)) ? " …\n" : "\n", stdout);
  std::fflush(stdout);
  if (!cut.empty()) print_stderr("[" + cut + "]\n");
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (isatty(2))
    print_stderr(fmt::format("[{} + {} tokens, {:.1f} tokens/s]\n", prompt.size(), ids.size(), static_cast<double>(ids.size()) / seconds));
  chat.history.push_back({{"role", "assistant"}, {"content", reply}});
}

// The adapters that a list of names means: `base` is none, `*` is the base and every adapter. False (and a message): a name is unknown.
bool asked_adapters(const Chat& chat, const std::string& names, std::vector<const AdapterSet*>& out) {
  for (const std::string& name : split_list(names)) {
    if (name == "*" || name == "base") out.push_back(nullptr);
    if (name == "*")
      for (const auto& [_, set] : chat.loaded->adapters) out.push_back(&set);
    if (name == "*" || name == "base") continue;
    const auto it = chat.loaded->adapters.find(name);
    if (it == chat.loaded->adapters.end()) {
      print_stderr("no adapter is called '" + name + "'; /adapter lists them\n");
      return false;
    }
    out.push_back(&it->second);
  }
  return !out.empty();
}

std::string name_of(const AdapterSet* adapter) { return adapter ? adapter->name : "base"; }

void print_answers(const std::vector<std::string>& names, const std::vector<std::string>& texts) {
  constexpr int kNarrowest = 20;
  winsize size{};
  const int width = isatty(1) && ioctl(1, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
  std::string out;
  if (width / static_cast<int>(texts.size()) >= kNarrowest) out = side_by_side(names, texts, width);
  else
    for (size_t i = 0; i < texts.size(); ++i) out += "Assistant [" + names[i] + "]: " + texts[i] + "\n";
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

// One question to several adapters, answered in one batch. The conversation stays as it is.
void ask(Chat& chat, const std::vector<const AdapterSet*>& asked, const std::string& question) {
  chat.history.push_back({{"role", "user"}, {"content", question}});
  std::vector<std::vector<int32_t>> prompts;
  std::vector<GenerateOptions> options;
  for (const AdapterSet* adapter : asked) {
    prompts.push_back(prompt_ids(chat, adapter));
    options.push_back(generate_options(*chat.loaded, adapter));
  }
  chat.history.erase(chat.history.size() - 1);
  const auto start = std::chrono::steady_clock::now();
  std::vector<int64_t> requests;
  std::vector<std::string> names, texts, cuts;
  size_t count = 0;
  try {
    for (size_t i = 0; i < asked.size(); ++i)
      requests.push_back(
          chat.engine->submit({prompts[i], asked[i], options[i], [](int32_t) { return !interrupted; }, [] { return !interrupted; }}));
    while (chat.engine->step(chat.ctx)) {}
  } catch (...) {
    for (int64_t request : requests) chat.engine->take(request);
    throw;
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    Detokenizer out(*chat.loaded->text.tokenizer, chat.loaded->config.skip_special_tokens);
    std::string text;
    const std::vector<int32_t> ids = chat.engine->take(requests[i]);
    for (const int32_t id : ids)
      if (!is_stop(options[i], id)) text += out.push(id);
    count += ids.size();
    const std::string cut = cut_text(ids, options[i]);
    texts.push_back(text + out.finish() + (interrupted || (!cut.empty() && isatty(1)) ? " …" : ""));
    names.push_back(name_of(asked[i]));
    if (!cut.empty()) cuts.push_back(fmt::format("[{}: {}]\n", names.back(), cut));
  }
  check_mapped_files();
  print_answers(names, texts);
  for (const std::string& cut : cuts) print_stderr(cut);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (isatty(2))
    print_stderr(fmt::format("[{} × {} + {} tokens, {:.1f} tokens/s]\n", asked.size(), prompts.front().size(), count,
                             static_cast<double>(count) / seconds));
}

// From the given one on; and where ids were found, once.
void print_warnings(LoadedModel& loaded, size_t first) {
  for (const std::string& place : std::exchange(loaded.places, {})) print_stderr(place + "\n");
  for (size_t i = first; i < loaded.warnings.size(); ++i) print_stderr("warning: " + loaded.warnings[i].second + "\n");
}

constexpr const char* kHelp =
    "exit ends, clear forgets the conversation; /adapter lists adapters, /adapter NAME and /base switch, /load NAME=PATH, /unload NAME;\n"
    "/ask NAME,base QUESTION (or * for all) answers side by side; /system TEXT, /save FILE; Ctrl-C stops an answer\n";

void list_adapters(const Chat& chat) {
  std::string known;
  for (const auto& [name, set] : chat.loaded->adapters)
    known += (known.empty() ? "" : ", ") + name + (&set == chat.loaded->adapter ? " (on)" : "");
  if (known.empty()) print_stderr("no adapters are loaded; load one: /load NAME=PATH\n");
  else print_stderr("adapters: " + known + "; now: " + name_of(chat.loaded->adapter) + "\n");
}

// nullptr: the base
void switch_adapter(Chat& chat, const AdapterSet* adapter) {
  const auto start = std::chrono::steady_clock::now();
  chat.loaded->adapter = adapter;
  const double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  print_stderr(fmt::format("now: {} ({:.1f} µs)\n", name_of(chat.loaded->adapter), us));
  show_template(chat);
}

void load_command(Chat& chat, const std::string& item) {
  const NamedAdapter adapter = named_adapter(item);
  if (chat.loaded->adapters.count(adapter.name))
    throw Error(ErrorKind::usage, "an adapter is called '" + adapter.name + "' already",
                "/unload " + adapter.name + ", or load it as NAME=PATH");
  const auto start = std::chrono::steady_clock::now();
  const size_t warned = chat.loaded->warnings.size();
  const AdapterSet& set = chat.loaded->add_adapter(adapter.name, adapter.path);
  print_warnings(*chat.loaded, warned);
  chat.engine->reserve_rank_columns(rank_columns(set));
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  print_stderr(fmt::format("loaded {} from {} ({:.1f} ms)\n", adapter.name, adapter.path, ms));
}

// Commands about adapters.
void adapter_command(Chat& chat, const std::string& word, const std::string& rest) {
  const auto it = chat.loaded->adapters.find(rest);
  const bool names_one = word == "/unload" || (word == "/adapter" && !rest.empty());
  if (names_one && it == chat.loaded->adapters.end()) {
    print_stderr("no adapter is called '" + rest + "'\n");
    list_adapters(chat);
  } else if (word == "/adapter" && rest.empty()) {
    list_adapters(chat);
  } else if (word == "/adapter" || word == "/base") {
    switch_adapter(chat, word == "/base" ? nullptr : &it->second);
  } else if (word == "/load") {
    load_command(chat, rest);
  } else if (word == "/unload") {
    if (chat.loaded->adapter == &it->second) switch_adapter(chat, nullptr);
    chat.loaded->remove_adapter(rest);
    print_stderr("unloaded " + rest + "\n");
  } else if (word == "/ask") {
    const size_t space = rest.find(' ');
    std::vector<const AdapterSet*> asked;
    if (space == std::string::npos) print_stderr("/ask needs names and a question: /ask NAME,base QUESTION\n");
    else if (asked_adapters(chat, rest.substr(0, space), asked)) ask(chat, asked, rest.substr(space + 1));
  }
}

// Commands of the prompt; true when the line was one.
bool command(Chat& chat, const std::string& line) {
  std::string word = line.substr(0, line.find(' ')), rest = line.find(' ') == std::string::npos ? "" : line.substr(line.find(' ') + 1);
  if (word == "/help") {
    print_stderr(kHelp);
  } else if (line == "clear") {
    chat.history = nlohmann::ordered_json::array();
    print_stderr("history cleared\n");
  } else if (word == "/adapter" || word == "/base" || word == "/load" || word == "/unload" || word == "/ask") {
    try {
      adapter_command(chat, word, rest);
    } catch (const Error& error) { print_stderr(std::string(error.what()) + (error.hint.empty() ? "" : "\nhint: " + error.hint) + "\n"); }
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
  TrainConfig config;
  if (!read_config(args, "chat", config)) return 0;
  Chat chat;
  if (!config.default_system.value_or("").empty()) {  // in effect until /system says otherwise
    chat.system = *config.default_system;
    config.default_system.reset();
  }
  chat.loaded = load_for_answers(config, {.gpu = true});
  print_warnings(*chat.loaded, 0);
  constexpr int64_t kAskedAtOnce = 8;
  const Model& model = chat.loaded->model;
  const int64_t beams = chat.loaded->config.num_beams, rows = std::min<int64_t>(model.config.max_position_embeddings, 8192) * beams;
  chat.engine = std::make_unique<Engine>(model, rows, chat.loaded->widest_adapter(), std::max(kAskedAtOnce, seats_for(model, 1, beams)),
                                         chat.loaded->gpu.get());
  std::optional<SignalWatch> watch;  // who asks through a pipe ends the program with Ctrl-C
  if (isatty(0)) watch.emplace(std::initializer_list<int>{SIGINT}, [](int) { interrupted = true; });
  if (isatty(0)) print_stderr(fmt::format("{}now: {}\n", kHelp, name_of(chat.loaded->adapter)));
  show_template(chat);
  LineReader reader;
  for (std::string line; reader.next(line);) {
    interrupted = false;
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
