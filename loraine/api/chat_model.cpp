// ChatModel over a LoadedModel and the engine: messages to ids, ids to text, one answer at a time.
#include "loraine/chat_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <shared_mutex>

#include "loraine/adapters/peft_files.h"
#include "loraine/api/loaded_model.h"
#include "loraine/api/scores.h"
#include "loraine/core/missing_file.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

constexpr int64_t kMostTokens = 8192;  // of prompt and answer together, where the model could have more

const char* kind_text(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage: return "usage";
    case ErrorKind::not_found: return "not_found";
    case ErrorKind::bad_data: return "bad_data";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::out_of_memory: return "out_of_memory";
    case ErrorKind::device: return "device";
    case ErrorKind::numeric: return "numeric";
    case ErrorKind::io: return "io";
    case ErrorKind::internal: break;
  }
  return "internal";
}

// The one place of this interface that turns an Error into what it throws.
template <class Call>
auto at_the_edge(const Call& call) {
  const SignalsElsewhere elsewhere;  // the caller's handlers do not run on a thread that computes
  try {
    return call();
  } catch (const MissingFile& error) { throw ChatError("missing_file", error.what(), error.hint); } catch (const Error& error) {
    throw ChatError(kind_text(error.kind), error.what(), error.hint);
  } catch (const std::bad_alloc&) { throw ChatError("out_of_memory", "out of memory", "use a smaller model"); }
}

Role role_of(const std::string& role) {
  if (role == "user") return Role::user;
  if (role == "assistant") return Role::assistant;
  if (role == "observation" || role == "tool") return Role::observation;
  if (role == "function") return Role::function;
  throw Error(ErrorKind::usage, "messages: the role '" + role + "' is not known",
              "roles are user, assistant, observation and function; system may come first");
}

// Turns, user first; system may come before them.
Conversation turns_of(const std::vector<ChatMessage>& messages) {
  Conversation conversation;
  for (const ChatMessage& message : messages) {
    if (&message == &messages.front() && message.role == "system") {
      conversation.system = message.content;
      continue;
    }
    const Role role = role_of(message.role);
    const bool asks = role == Role::user || role == Role::observation;
    if (asks != (conversation.messages.size() % 2 == 0))
      throw Error(ErrorKind::usage, fmt::format("messages: '{}' stands in place {}", message.role, &message - messages.data()),
                  "user or observation and assistant or function take turns, user first");
    conversation.messages.push_back({role, message.content});
  }
  return conversation;
}

Conversation asked_conversation(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  Conversation conversation = turns_of(messages);
  if (messages.empty() || messages.front().role != "system") conversation.system = options.system.value_or("");
  conversation.tools = options.tools.value_or("");
  if (conversation.messages.size() % 2 == 0)
    throw Error(ErrorKind::usage, "messages: the last one is no question", "end with a user message");
  return conversation;
}

std::vector<Setting> settings_of(const Arguments& arguments) {
  std::vector<Setting> settings;
  for (const auto& [key, value] : arguments)
    settings.push_back({.key = key, .text = value, .typed = false, .bare = false, .where = "arguments"});
  return settings;
}

}  // namespace

struct ChatModel::State {
  std::unique_ptr<LoadedModel> loaded;
  std::unique_ptr<Engine> engine;
  int64_t engine_columns = 0, engine_seats = 0;
  Context ctx;
  std::vector<std::string> notes;
  std::mutex engine_turn;              // held while an answer is generated
  mutable std::shared_mutex adapters;  // held (shared) as long as an adapter found by name is used

  // With both locks held: an engine wide enough for every adapter there is, and for an answer of so many beams.
  void plan_engine(int64_t beams) {
    const int64_t columns = loaded->widest_adapter(), seats = seats_for(loaded->model, 1, beams);
    if (engine && columns <= engine_columns && seats <= engine_seats) return;
    engine.reset();
    const int64_t rows = std::min(loaded->model.config.max_position_embeddings, kMostTokens) * loaded->config.num_beams;
    engine = std::make_unique<Engine>(loaded->model, rows, columns, seats, loaded->gpu.get());
    engine_columns = columns;
    engine_seats = seats;
  }

  GenerateOptions options_of(const ChatOptions& given, const AdapterSet* adapter) const {
    TrainConfig asked = loaded->config;
    const auto take = [](auto& field, const auto& value) {
      if (value) field = *value;
    };
    take(asked.max_new_tokens, given.max_new_tokens);
    take(asked.do_sample, given.do_sample);
    take(asked.temperature, given.temperature);
    take(asked.top_p, given.top_p);
    take(asked.top_k, given.top_k);
    take(asked.repetition_penalty, given.repetition_penalty);
    take(asked.num_beams, given.num_beams);
    take(asked.length_penalty, given.length_penalty);
    take(asked.seed, given.seed);
    for (const Option& option : loraine::options_of(asked)) check_option(option, "options");
    return generate_options(*loaded, adapter, asked);
  }

  Response answer(const std::vector<int32_t>& prompt, const AdapterSet* adapter, const GenerateOptions& options,
                  const std::function<bool(std::string_view)>& on_text, const std::function<bool()>& keep_going) {
    Response response;
    response.prompt_length = static_cast<int64_t>(prompt.size());
    Detokenizer text(*loaded->text.tokenizer, loaded->config.skip_special_tokens);
    bool stopped = false, cancelled = false;
    const auto put = [&](const std::string& piece) {
      response.response_text += piece;
      if (!piece.empty() && on_text && !cancelled) cancelled = !on_text(piece);
    };
    const std::vector<int32_t> ids = engine->generate(
        ctx, prompt, adapter, options,
        [&](int32_t id) {
          stopped = std::ranges::find(options.stop_ids, id) != options.stop_ids.end();
          if (!stopped) put(text.push(id));
          if (!stopped && keep_going && !keep_going()) cancelled = true;
          return !cancelled;
        },
        keep_going);
    put(text.finish());
    check_mapped_files();
    response.response_length = static_cast<int64_t>(ids.size());
    response.finish_reason = cancelled ? "cancelled" : stopped ? "stop" : "length";
    return response;
  }

  // make_ids: of one text or conversation, with the adapter that scores.
  template <class One, class MakeIds>
  std::vector<double> scores(const std::vector<One>& all, const ScoreOptions& given, const MakeIds& make_ids) {
    if (loaded->gpu) throw Error(ErrorKind::unsupported, "get_scores has no GPU code, and the model is on one", "open it with device: cpu");
    if (given.max_length < 0) throw Error(ErrorKind::usage, "max_length is below 0");
    const std::lock_guard turn(engine_turn);
    const std::shared_lock using_adapters(adapters);
    const AdapterSet* adapter = given.adapter ? loaded->find(*given.adapter) : loaded->adapter;
    std::vector<std::vector<int32_t>> sequences;
    for (const One& one : all) sequences.push_back(make_ids(one, adapter));
    return scores_of(ctx, *loaded, adapter, sequences);
  }

  std::vector<Response> answers(const std::vector<ChatMessage>& messages, const ChatOptions& given,
                                const std::function<bool(std::string_view)>& on_text) {
    if (given.num_return_sequences < 1) throw Error(ErrorKind::usage, "num_return_sequences is below 1");
    std::vector<Response> responses;
    const std::lock_guard turn(engine_turn);
    const std::shared_lock using_adapters(adapters);
    const AdapterSet* adapter = given.adapter ? loaded->find(*given.adapter) : loaded->adapter;
    GenerateOptions options = options_of(given, adapter);
    plan_engine(options.num_beams);
    const std::vector<int32_t> prompt = loaded->prompt_ids(asked_conversation(messages, given), adapter);
    for (int64_t n = 0; n < given.num_return_sequences; ++n, ++options.seed) {
      responses.push_back(answer(prompt, adapter, options, on_text, given.keep_going));
      if (responses.back().finish_reason == "cancelled") break;
    }
    return responses;
  }
};

ChatModel::ChatModel(const Arguments& arguments) : state_(std::make_unique<State>()) {
  at_the_edge([&] {
    TrainConfig config;
    for (SettingNote& note : apply_settings(config, settings_of(arguments))) state_->notes.push_back(std::move(note.text));
    check_chat_config(config);
    start_threads();
    state_->loaded = load_for_answers(config, {.gpu = true});
    for (const auto& [kind, text] : state_->loaded->warnings) state_->notes.push_back(text);
    state_->plan_engine(state_->loaded->config.num_beams);
  });
}

ChatModel::~ChatModel() = default;
ChatModel::ChatModel(ChatModel&&) noexcept = default;
ChatModel& ChatModel::operator=(ChatModel&&) noexcept = default;

std::vector<Response> ChatModel::chat(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  return at_the_edge([&] { return state_->answers(messages, options, {}); });
}

Response ChatModel::stream_chat(const std::vector<ChatMessage>& messages, const std::function<bool(std::string_view)>& on_text,
                                const ChatOptions& options) {
  return at_the_edge([&] {
    if (options.num_return_sequences != 1) throw Error(ErrorKind::usage, "stream_chat gives one answer, num_return_sequences must be 1");
    return state_->answers(messages, options, on_text).front();
  });
}

std::vector<double> ChatModel::get_scores(const std::vector<std::string>& texts, const ScoreOptions& options) {
  return at_the_edge([&] {
    return state_->scores(
        texts, options, [&](const std::string& text, const AdapterSet*) { return scored_text(*state_->loaded, text, options.max_length); });
  });
}

std::vector<double> ChatModel::get_scores(const std::vector<std::vector<ChatMessage>>& conversations, const ScoreOptions& options) {
  return at_the_edge([&] {
    return state_->scores(conversations, options, [&](const std::vector<ChatMessage>& messages, const AdapterSet* adapter) {
      const Conversation conversation = turns_of(messages);
      if (conversation.messages.empty() || conversation.messages.size() % 2 != 0 || conversation.messages.back().role != Role::assistant)
        throw Error(ErrorKind::usage, "messages: the last one is no answer, and an answer is scored", "end with an assistant message");
      return scored_conversation(*state_->loaded, conversation, adapter, options.max_length);
    });
  });
}

std::vector<std::string> ChatModel::adapters() const {
  const std::shared_lock lock(state_->adapters);
  std::vector<std::string> names;
  for (const auto& [name, set] : state_->loaded->adapters) names.push_back(name);
  return names;
}

void ChatModel::load_adapter(const std::string& name, const std::string& path) {
  at_the_edge([&] {
    const std::lock_guard turn(state_->engine_turn);
    const std::unique_lock lock(state_->adapters);
    state_->loaded->add_adapter(name, path);
    state_->plan_engine(state_->loaded->config.num_beams);
  });
}

void ChatModel::unload_adapter(const std::string& name) {
  at_the_edge([&] {
    const std::lock_guard turn(state_->engine_turn);
    const std::unique_lock lock(state_->adapters);
    state_->loaded->remove_adapter(name);
  });
}

const std::vector<std::string>& ChatModel::notes() const { return state_->notes; }

}  // namespace loraine
