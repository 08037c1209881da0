// See sequence_run.h. All but the start runs in the server's thread.
#include "loraine/serve/sequence_run.h"

#include <fmt/format.h>

#include <algorithm>

namespace loraine {

SequenceRun::SequenceRun(Service& service, Call call, Sequences sequences, Done done)
    : service_(service), call_(std::move(call)), sequences_(std::move(sequences)), done_(std::move(done)), left_(sequences_.size()) {}

SequenceRun::~SequenceRun() = default;

void SequenceRun::check_lengths(const Service& service, const Sequences& sequences, const char* param) {
  for (const auto& sequence : sequences) {
    const auto length = static_cast<int64_t>(sequence->prompt.size()), wanted = length + sequence->options.max_new_tokens;
    if (length == 0) throw ApiError{400, fmt::format("{} has a text without a token", param), param};
    if (wanted > service.max_model_len)
      throw ApiError{
          400, fmt::format("this model takes at most {} tokens, and {} were asked for; shorten {}", service.max_model_len, wanted, param),
          param, "context_length_exceeded"};
  }
}

void SequenceRun::start(Service& service, Call call, Sequences sequences, const char* param, Done done) {
  check_lengths(service, sequences, param);
  const std::shared_ptr<SequenceRun> run(new SequenceRun(service, std::move(call), std::move(sequences), std::move(done)));
  service.http->post([run] { run->enter(); });
}

void SequenceRun::enter() {
  if (call_.reply->gone()) return;
  auto request = std::make_shared<QueuedRequest>();
  request->sequences = sequences_;
  request->notify = [&service = service_, weak = weak_from_this()] {
    const std::shared_ptr<SequenceRun> here = weak.lock();
    if (!here || here->pump_posted_.exchange(true)) return;
    service.http->post([here] {
      here->pump_posted_ = false;
      here->pump();
    });
  };
  switch (service_.loop->submit(request)) {
    case Admission::taken: break;
    case Admission::full:
      return call_.fail({429, fmt::format("{} requests wait already (max_queued_requests)", service_.config.max_queued_requests), "",
                         "queue_full", service_.retry_after()});
    case Admission::draining: return call_.fail({503, "the server is ending", "", "shutting_down", 1});
  }
  service_.runs.insert(shared_from_this());
  call_.reply->when_gone([weak = weak_from_this()] {
    if (const std::shared_ptr<SequenceRun> here = weak.lock(); here && !here->over_) here->over();
  });
}

void SequenceRun::pump() {
  if (over_) return;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (left_[i]) continue;
    const Generation::Fresh fresh = sequences_[i]->take();
    left_[i] = fresh.done;
    if (fresh.failure) return fail(api_error(fresh.failure));
  }
  if (!std::ranges::all_of(left_, [](bool left) { return left; })) return;
  in_worker(service_, call_, std::move(done_));
  over();
}

void SequenceRun::tick(EngineClock::time_point now) {
  const double limit = service_.config.request_timeout;
  if (over_ || limit <= 0 || std::chrono::duration<double>(now - sequences_[0]->arrived).count() < limit) return;
  fail({503, fmt::format("the answer took longer than {} seconds (request_timeout)", limit), "", "timeout", 1});
}

void SequenceRun::fail(const ApiError& error) {
  call_.fail(error);
  over();
}

void SequenceRun::over() {
  over_ = true;
  for (size_t i = 0; i < sequences_.size(); ++i)
    if (!left_[i]) service_.loop->cancel(sequences_[i]);
  service_.runs.erase(shared_from_this());
}

}  // namespace loraine
