// See engine_loop.h.
#include "loraine/serve/engine_loop.h"

#include <algorithm>
#include <set>

#include "loraine/core/context.h"
#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/serve/adapters.h"

namespace loraine {
namespace {

constexpr size_t kMostUnread = 1024;  // tokens; a reader that is further behind is waited for

}  // namespace

Generation::Fresh Generation::take() {
  const std::lock_guard lock(mutex_);
  Fresh taken = std::move(fresh_);
  fresh_ = {};
  fresh_.done = taken.done;
  return taken;
}

Generation::Times Generation::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

EngineLoop::EngineLoop(const Model& model, const Sizes& sizes, Metrics& metrics, GpuBase* gpu)
    : model_(model),
      sizes_(sizes),
      metrics_(metrics),
      engine_(std::make_unique<Engine>(model, sizes.rows, sizes.columns, sizes.sequences, gpu)),
      thread_([this] { work(); }) {}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wakes_.notify_all();
  thread_.join();
}

Admission EngineLoop::submit(std::shared_ptr<QueuedRequest> request) {
  {
    const std::lock_guard lock(mutex_);
    if (draining_ || stopping_) return Admission::draining;
    if (waiting_requests_ >= sizes_.most_queued) return Admission::full;
    ++waiting_requests_;
    alive_ += static_cast<int64_t>(request->sequences.size());
    request->unstarted = static_cast<int64_t>(request->sequences.size());
    inbox_.push_back(std::move(request));
  }
  wakes_.notify_all();
  return Admission::taken;
}

void EngineLoop::cancel(std::shared_ptr<Generation> sequence) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(std::move(sequence));
  }
  wakes_.notify_all();
}

void EngineLoop::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wakes_.notify_all();
}

void EngineLoop::drain(std::exception_ptr why) {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
    drain_ = why;
  }
  wakes_.notify_all();
}

void EngineLoop::fail_all(std::exception_ptr why) {
  {
    const std::lock_guard lock(mutex_);
    fail_ = why;
  }
  wakes_.notify_all();
}

bool EngineLoop::idle() const { return alive_ == 0; }

MetricsNow EngineLoop::now() const {
  const std::lock_guard lock(mutex_);
  MetricsNow now;
  now.running = load_.running;
  now.waiting = std::max<int64_t>(alive_ - load_.running, 0);
  now.kv_rows = load_.rows;
  now.kv_capacity = sizes_.rows;
  now.prompt_rows = load_.prompt_rows + load_.reused;
  now.reused_rows = load_.reused;
  now.preempted = load_.preempted;
  now.running_adapters = running_adapters_;
  now.waiting_adapters = waiting_adapters_;
  return now;
}

// The request's sequences to the engine. One that it refuses ends at once.
void EngineLoop::enter(const std::shared_ptr<QueuedRequest>& request) {
  for (const std::shared_ptr<Generation>& sequence : request->sequences) {
    sequence->request_ = request;
    Generation* const one = sequence.get();
    const AdapterSet* set = sequence->adapter ? &sequence->adapter->set : nullptr;
    try {
      if (set) engine_->reserve_rank_columns(rank_columns(*set));
      Request asked;
      asked.prompt = sequence->prompt;
      asked.adapter = set;
      asked.options = sequence->options;
      asked.mask = sequence->mask;
      asked.prefix_key = sequence->prefix_key;
      if (set && !set->invocation.empty()) asked.base_prefix_key = sequence->base_prefix_key;
      asked.client = sequence->client;
      if (sequence->same_prompt_as) asked.same_prompt_as = std::max<int64_t>(request->sequences[*sequence->same_prompt_as]->number_, 0);
      asked.on_token = [one](int32_t id) {
        one->staged_.ids.push_back(id);
        return true;
      };
      if (sequence->options.logprobs >= 0) asked.on_logprobs = [one](const TokenLogprobs& told) { one->staged_.logprobs.push_back(told); };
      if (sequence->options.prompt_logprobs >= 0)
        asked.on_prompt_logprobs = [one](const TokenLogprobs& told) { one->staged_.of_prompt.push_back(told); };
      asked.on_prompt_hidden = sequence->on_prompt_hidden;
      asked.on_logits = sequence->on_logits;
      sequence->number_ = engine_->submit(std::move(asked));
      active_.push_back(sequence);
    } catch (...) { end(sequence, std::current_exception()); }
  }
}

void EngineLoop::mark_started(const std::shared_ptr<Generation>& sequence, EngineClock::time_point at) {
  if (sequence->started_) return;
  sequence->started_ = true;
  if (--sequence->request_->unstarted == 0) --waiting_requests_;
  const std::lock_guard lock(sequence->mutex_);
  sequence->times_.started = at;
}

// It has left the engine: its reader hears it, and its adapter is let go.
void EngineLoop::end(const std::shared_ptr<Generation>& sequence, std::exception_ptr failure) {
  mark_started(sequence, EngineClock::now());
  const std::shared_ptr<QueuedRequest> request = std::move(sequence->request_);
  {
    const std::lock_guard lock(sequence->mutex_);
    if (failure) {
      sequence->staged_ = {};
    } else {
      auto& fresh = sequence->fresh_;
      fresh.ids.insert(fresh.ids.end(), sequence->staged_.ids.begin(), sequence->staged_.ids.end());
    }
    sequence->fresh_.done = true;
    sequence->fresh_.failure = failure;
  }
  --alive_;
  if (request->notify) request->notify();
}

void EngineLoop::leave(const std::shared_ptr<Generation>& sequence) {
  engine_->take(sequence->number_);
  std::erase(active_, sequence);
}

void EngineLoop::follow_holds() {
  for (const std::shared_ptr<Generation>& sequence : active_) {
    bool held = sequence->held_;
    if (!held) {
      const std::lock_guard lock(sequence->mutex_);
      held = sequence->fresh_.ids.size() > kMostUnread;
    }
    if (held == sequence->is_held_) continue;
    sequence->is_held_ = held;
    engine_->hold(sequence->number_, held);
  }
}

// What a step brought goes to the readers.
void EngineLoop::publish(EngineClock::time_point began, EngineClock::time_point at) {
  int64_t step_tokens = 0;
  std::set<QueuedRequest*> heard;
  std::vector<std::shared_ptr<Generation>> done;
  std::set<std::string> running, waiting;
  for (const std::shared_ptr<Generation>& sequence : active_) {
    const std::string name = sequence->adapter ? sequence->adapter->name : "";
    if (!sequence->started_ && engine_->started(sequence->number_)) {
      sequence->cached_ = engine_->reused(sequence->number_);
      mark_started(sequence, began);
    }
    if (!name.empty()) (sequence->started_ ? running : waiting).insert(name);
    auto& staged = sequence->staged_;
    const auto count = static_cast<int64_t>(staged.ids.size());
    const bool finished = engine_->done(sequence->number_);
    if (count > 0 || !staged.of_prompt.empty()) {
      const std::lock_guard lock(sequence->mutex_);
      Generation::Times& times = sequence->times_;
      if (count > 0) {
        const bool is_first = times.first == EngineClock::time_point{};
        if (!is_first) metrics_.between_tokens(seconds(at - times.last));
        metrics_.tokens(name, is_first ? static_cast<int64_t>(sequence->prompt.size()) : 0, count);
        step_tokens += count + (is_first ? static_cast<int64_t>(sequence->prompt.size()) : 0);
        if (is_first) times.first = at;
        times.last = at;
      }
      auto& fresh = sequence->fresh_;
      fresh.ids.insert(fresh.ids.end(), staged.ids.begin(), staged.ids.end());
      std::ranges::move(staged.logprobs, std::back_inserter(fresh.logprobs));
      std::ranges::move(staged.of_prompt, std::back_inserter(fresh.of_prompt));
      staged = {};
      heard.insert(sequence->request_.get());
    }
    if (!finished) continue;
    if (sequence->options.max_new_tokens <= 0) metrics_.tokens(name, static_cast<int64_t>(sequence->prompt.size()), 0);
    done.push_back(sequence);
  }
  for (const std::shared_ptr<Generation>& sequence : done) {
    heard.erase(sequence->request_.get());
    leave(sequence);
    end(sequence, nullptr);
  }
  for (QueuedRequest* request : heard)
    if (request->notify) request->notify();
  if (step_tokens > 0) metrics_.step(step_tokens);
  const auto listed = [](const std::set<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
    return text;
  };
  const std::lock_guard lock(mutex_);
  load_ = engine_->load();
  running_adapters_ = listed(running);
  waiting_adapters_ = listed(waiting);
}

void EngineLoop::work() {
  try {
    start_threads();
  } catch (...) { fail_ = std::current_exception(); }
  Context ctx;
  bool goes_on = false;
  for (;;) {
    std::deque<std::shared_ptr<QueuedRequest>> entering;
    std::deque<std::shared_ptr<Generation>> cancelled;
    std::optional<std::exception_ptr> drained, failed;
    {
      std::unique_lock lock(mutex_);
      wakes_.wait(lock, [&] { return goes_on || stopping_ || woken_ || drain_ || fail_ || !inbox_.empty() || !cancelled_.empty(); });
      if (stopping_) break;
      woken_ = false;
      entering.swap(inbox_);
      cancelled.swap(cancelled_);
      drained = std::exchange(drain_, {});
      failed = std::exchange(fail_, {});
    }
    for (const auto& request : entering) enter(request);
    for (const auto& sequence : cancelled)
      if (sequence->request_) {  // not over yet
        leave(sequence);
        end(sequence, nullptr);
      }
    if (drained || failed)
      for (const auto& sequence : std::vector(active_))
        if (failed || !engine_->started(sequence->number_)) {
          leave(sequence);
          end(sequence, failed ? *failed : *drained);
        }
    follow_holds();
    const EngineClock::time_point began = EngineClock::now();
    try {
      goes_on = engine_->step(ctx);
      check_mapped_files();
    } catch (...) {  // whose fault it was cannot be told: weights that are gone, no memory
      const std::exception_ptr failure = std::current_exception();
      for (const auto& sequence : std::vector(active_)) {
        leave(sequence);
        end(sequence, failure);
      }
      goes_on = false;
    }
    publish(began, EngineClock::now());
  }
  const auto gone = std::make_exception_ptr(Error(ErrorKind::internal, "the server ended"));
  for (const auto& sequence : std::vector(active_)) {
    leave(sequence);
    end(sequence, gone);
  }
}

}  // namespace loraine
