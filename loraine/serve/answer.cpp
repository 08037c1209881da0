// See answer.h.
#include "loraine/serve/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <random>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr size_t kMostBuffered = 256u << 10;       // bytes that a client has not taken, from which on its request rests
constexpr size_t kCatchUp = 512;                   // tokens at once after which the engine is told that there is room again
constexpr int64_t kMostQueuedTokens = 16'000'000;  // of one request, over its prompts and choices

uint64_t random_seed() {
  static thread_local std::mt19937_64 source{std::random_device{}()};
  return source();
}

double milliseconds(EngineClock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

// Bad words as a model may write them: at the beginning and behind a blank.
std::vector<std::vector<int32_t>> bad_word_ids(const Tokenizer& tokenizer, const std::vector<std::string>& words) {
  std::vector<std::vector<int32_t>> all;
  for (const std::string& word : words)
    for (const std::string& spelling : {word, " " + word}) {
      std::vector<int32_t> ids = tokenizer.encode(spelling);
      if (!ids.empty()) all.push_back(std::move(ids));
    }
  return all;
}

}  // namespace

Answer::Answer(Service& service, Call call, AnswerStart given)
    : RequestInFlight(service, std::move(call)),
      asked_(std::move(given.asked)),
      adapter_(std::move(given.adapter)),
      form_(std::move(given.form)),
      reading_(std::move(given.reading)) {
  state_.id = std::move(given.id);
  state_.prompts = std::move(given.prompts);
}

Answer::~Answer() = default;

void Answer::start(Service& service, Call call, AnswerStart given) {
  const std::shared_ptr<const grammar::TokenGrammar> grammar = std::move(given.grammar);
  const std::shared_ptr<const ThoughtLimit> thoughts = std::move(given.thoughts);
  const std::shared_ptr<Answer> answer(new Answer(service, std::move(call), std::move(given)));
  const Asked& asks = answer->asked_;
  const ChatFormat& format = answer->adapter_ ? answer->adapter_->format : service.loaded->format;
  answer->stop_ids_ = service.loaded->eos_ids;
  answer->stop_ids_.insert(answer->stop_ids_.end(), format.stop_ids.begin(), format.stop_ids.end());
  answer->state_.model = asks.model.empty() ? service.model_name : asks.model;
  answer->state_.fingerprint = service.fingerprint(answer->adapter_.get());
  answer->state_.created = std::time(nullptr);
  std::vector<std::shared_ptr<Generation>> sequences;
  const uint64_t seed = asks.seed ? static_cast<uint64_t>(*asks.seed) : random_seed();
  const Tokenizer& tokenizer = *service.loaded->text.tokenizer;
  GenerateOptions options = asks.options;
  if (!asks.ignore_eos) options.stop_ids = answer->stop_ids_;
  options.stop_ids.insert(options.stop_ids.end(), asks.stop_token_ids.begin(), asks.stop_token_ids.end());
  {
    const std::shared_lock lock(service.text_mutex);
    options.bad_words = bad_word_ids(tokenizer, asks.bad_words);
  }
  const std::optional<std::string> prefix_key = service.prefix_key(answer->adapter_.get(), asks.cache_salt);
  const std::optional<std::string> base_prefix_key = service.prefix_key(nullptr, asks.cache_salt);
  const bool plain = answer->reading_.plain();
  int64_t tokens = 0;
  for (size_t p = 0; p < answer->state_.prompts.size(); ++p) {
    const std::vector<int32_t>& ids = answer->state_.prompts[p].ids;
    const auto length = static_cast<int64_t>(ids.size());
    if (length == 0) throw ApiError{400, "the prompt has no token", "prompt"};
    const std::optional<int64_t> usual = asks.most_tokens ? asks.most_tokens : service.defaults.max_tokens;
    const int64_t room = service.max_model_len - length, most = std::min(room, usual.value_or(room)),
                  wanted = asks.max_tokens.value_or(std::max<int64_t>(most, 1));
    if (wanted > room)
      throw ApiError{
          400,
          fmt::format("this model takes at most {} tokens, prompt and answer together, and {} were asked for: {} of the prompt and {} of "
                      "the answer; shorten one of them",
                      service.max_model_len, length + wanted, length, wanted),
          asks.prompt_field, "context_length_exceeded"};
    options.max_new_tokens = wanted;
    tokens += (length + wanted) * asks.n;
    for (int64_t i = 0; i < asks.n; ++i) {
      auto sequence = std::make_shared<Generation>();
      sequence->prompt = ids;
      sequence->adapter = answer->adapter_;
      sequence->options = options;
      sequence->options.seed = seed_of_answer(seed, static_cast<uint64_t>(i));
      if (i > 0) sequence->options.prompt_logprobs = -1;  // told once
      if (i > 0) sequence->same_prompt_as = sequences.size() - static_cast<size_t>(i);
      if (grammar) sequence->mask = std::make_shared<grammar::GrammarState>(grammar);
      if (thoughts) sequence->mask = std::make_shared<ThoughtBudget>(thoughts, sequence->mask);
      sequence->prefix_key = prefix_key;
      sequence->base_prefix_key = base_prefix_key;
      sequences.push_back(sequence);
      answer->choices_.push_back({sequence,
                                  Detokenizer(tokenizer, plain && asks.skip_special_tokens),
                                  StopStrings(asks.stop, asks.include_stop),
                                  ReplyReader(answer->reading_),
                                  {}});
      answer->state_.choices.emplace_back().prompt = p;
    }
  }
  if (tokens > kMostQueuedTokens)
    throw ApiError{
        400, fmt::format("prompts and answers of this request have {} tokens, at most {} are taken at once", tokens, kMostQueuedTokens),
        "n"};
  answer->submit(std::move(sequences));
}

void Answer::entered() {
  call_.reply->when_drained([&service = service_, weak = weak_from_this()] {
    const std::shared_ptr<Answer> here = std::static_pointer_cast<Answer>(weak.lock());
    if (!here || !std::exchange(here->held_, false)) return;
    for (Choice& choice : here->choices_) choice.sequence->hold(false);
    service.loop->wake();
  });
}

void Answer::client_went() {
  gone_ = true;
  cancel_all();
  pump();
}

void Answer::count(size_t index, const char* reason) {
  const Choice& choice = choices_[index];
  const Generation::Times times = choice.sequence->times();
  const auto now = EngineClock::now(), none = EngineClock::time_point{};
  FinishedChoice done;
  done.adapter = adapter_ ? adapter_->name : "";
  done.reason = reason;
  done.prompt_tokens = static_cast<int64_t>(choice.sequence->prompt.size());
  done.answer_tokens = times.first == none ? 0 : std::max<int64_t>(state_.choices[index].tokens, 1);
  done.queued = seconds((times.started == none ? now : times.started) - choice.sequence->arrived);
  done.to_first = seconds(times.first - choice.sequence->arrived);
  done.prefill = seconds(times.first - times.started);
  done.decode = seconds(times.last - times.first);
  done.whole = seconds(now - choice.sequence->arrived);
  service_.metrics->finished(done);
}

// A special token that is neither shown nor tells parts of the answer apart.
bool Answer::is_hidden(int32_t id) const {
  const Tokenizer& tokenizer = *service_.loaded->text.tokenizer;
  if (reading_.plain() || !asked_.skip_special_tokens || !tokenizer.is_special(id)) return false;
  return reading_.format.marks.find(tokenizer.id_to_token(id).value_or("")) == std::string::npos;
}

void Answer::add_text(size_t index, const std::string& text) {
  if (!text.empty()) add_part(index, choices_[index].reader.push(text));
}

void Answer::add_part(size_t index, AnswerPart part) {
  AnswerPiece& piece = choices_[index].waiting;
  piece.text += part.content;
  if (asked_.include_reasoning) piece.reasoning += part.reasoning;
  const auto new_id = [&] {
    static thread_local std::mt19937_64 random{std::random_device{}()};
    return new_call_id(reading_.format.calls ? *reading_.format.calls : call_format("json"), random);
  };
  for (CallPiece& more : part.pieces) {
    const std::string id = more.begins() ? new_id() : "";
    piece.add({.calls = {{id, std::move(more.name), std::move(more.arguments), !id.empty(), more.ends}}});
  }
  for (ToolCall& call : part.calls) {
    if (!asked_.tools.parallel && state_.choices[index].all.calls.size() + piece.calls.size() > 0) return;  // one was asked for
    piece.calls.push_back({new_id(), std::move(call.name), std::move(call.arguments)});
  }
}

void Answer::end_choice(size_t index, const char* reason, WireJson stop_reason) {
  Choice& choice = choices_[index];
  choice.ended = true;
  if (!choice.left) service_.loop->cancel(choice.sequence);  // it goes on in the engine: the stop string is known here alone
  ChoiceState& state = state_.choices[index];
  add_part(index, choice.reader.finish());
  const bool calls = !state.all.calls.empty() || !choice.waiting.calls.empty();
  state.finish_reason = calls && reason == std::string_view("stop") ? "tool_calls" : reason;
  state.stop_reason = std::move(stop_reason);
  const Generation::Times times = choice.sequence->times();
  if (times.first != EngineClock::time_point{}) {
    state_.timings.prompt_ms = std::max(state_.timings.prompt_ms, milliseconds(times.first - times.started));
    state_.timings.predicted_ms = std::max(state_.timings.predicted_ms, milliseconds(times.last - times.first));
  }
  count(index, reason);
}

void Answer::add_token(size_t index, int32_t id, const TokenLogprobs* told) {
  Choice& choice = choices_[index];
  ChoiceState& state = state_.choices[index];
  ++state.tokens;
  choice.waiting.ids.push_back(id);
  const std::vector<int32_t>& stops = choice.sequence->options.stop_ids;
  if (std::ranges::find(stops, id) != stops.end()) {
    add_text(index, choice.stops.push(choice.text.finish()));
    const bool by_string = choice.stops.stopped_by().has_value();
    add_text(index, choice.stops.finish());
    const bool own = std::ranges::find(stop_ids_, id) != stop_ids_.end();
    end_choice(index, "stop", by_string ? WireJson(*choice.stops.stopped_by()) : own ? WireJson() : WireJson(id));
    return;
  }
  if (told) choice.waiting.logprobs.push_back(*told);
  const bool thinks = choice.reader.in_thought();
  if (!is_hidden(id)) {
    const std::string text = choice.text.push(id);
    add_text(index, state.tokens <= choice.sequence->options.min_tokens ? text : choice.stops.push(text));
  }
  if (thinks || choice.reader.in_thought()) ++state.reasoning_tokens;
  if (choice.stops.stopped_by()) end_choice(index, "stop", *choice.stops.stopped_by());
}

// What has come of one choice.
void Answer::read(size_t index) {
  Choice& choice = choices_[index];
  Generation::Fresh fresh = choice.sequence->take();
  if (fresh.failure) {
    cancel_all();
    return fail(api_error(fresh.failure));
  }
  choice.left = fresh.done;
  if (!choice.sequence->same_prompt_as) state_.prompts[state_.choices[index].prompt].cached = choice.sequence->cached();
  auto& of_prompt = state_.prompts[state_.choices[index].prompt].logprobs;
  of_prompt.insert(of_prompt.end(), fresh.of_prompt.begin(), fresh.of_prompt.end());
  for (size_t i = 0; i < fresh.ids.size() && !choice.ended; ++i)
    add_token(index, fresh.ids[i], i < fresh.logprobs.size() ? &fresh.logprobs[i] : nullptr);
  if (fresh.done && !choice.ended) {
    add_text(index, choice.stops.push(choice.text.finish()));
    const std::optional<std::string> stopped = choice.stops.stopped_by();
    add_text(index, choice.stops.finish());
    end_choice(index, stopped ? "stop" : "length", stopped ? WireJson(*stopped) : WireJson());
  }
  if (fresh.ids.size() >= kCatchUp) service_.loop->wake();
  hand_on(index);
}

// Text that is certain joins the answer, and is sent in a stream.
void Answer::hand_on(size_t index) {
  Choice& choice = choices_[index];
  ChoiceState& state = state_.choices[index];
  if (choice.waiting.says_nothing() && !choice.ended) return;
  AnswerPiece piece = std::exchange(choice.waiting, {});
  state.all.add(piece);
  if (!asked_.stream) {
    state.all.ids.insert(state.all.ids.end(), piece.ids.begin(), piece.ids.end());
    std::ranges::move(piece.logprobs, std::back_inserter(state.all.logprobs));
    return;
  }
  begin();
  if (!piece.says_nothing() || !piece.logprobs.empty() || (asked_.return_token_ids && !piece.ids.empty()))
    send(form_->piece(state_, index, piece));
  if (choice.ended) send(form_->choice_end(state_, index));
}

// The head of a stream, and what its form says first.
void Answer::begin() {
  if (std::exchange(begun_, true)) return;
  HttpResponse head{.content_type = form_->content_type(), .body = form_->begin(state_), .headers = call_.headers, .ping = form_->ping()};
  call_.reply->begin(std::move(head));
}

void Answer::send(const std::string& text) {
  if (text.empty()) return;
  call_.reply->write(text);
  if (call_.reply->buffered() <= kMostBuffered || held_) return;
  held_ = true;
  for (Choice& choice : choices_) choice.sequence->hold(true);
}

void Answer::pump() {
  if (over_) return;
  const std::shared_ptr<RequestInFlight> self = shared_from_this();
  const std::shared_lock lock(service_.text_mutex);
  if (gone_) {
    for (size_t i = 0; i < choices_.size(); ++i)
      if (!choices_[i].ended) count(i, "abort");
    return over();
  }
  for (size_t i = 0; i < choices_.size() && !over_; ++i)
    if (!choices_[i].ended) read(i);
  if (!over_ && std::ranges::all_of(choices_, [](const Choice& choice) { return choice.ended; })) finish();
}

void Answer::finish() {
  if (asked_.stream) {
    send(form_->end(state_));
    call_.reply->end();
  } else {
    call_.json(form_->whole(state_));
  }
  over();
}

void Answer::fail(const ApiError& error) {
  for (size_t i = 0; i < choices_.size(); ++i)
    if (!choices_[i].ended) count(i, "error");
  if (begun_) {
    call_.reply->write(form_->failure(error));
    call_.reply->end(true);
  } else {
    call_.fail(error);
  }
  over();
}

void Answer::cancel_all() {
  for (Choice& choice : choices_)
    if (!choice.left) service_.loop->cancel(choice.sequence);
}

}  // namespace loraine
