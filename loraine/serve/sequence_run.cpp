// See sequence_run.h. All but the start runs in the server's thread.
#include "loraine/serve/sequence_run.h"

#include <fmt/format.h>

#include <algorithm>

namespace loraine {

SequenceRun::SequenceRun(Service& service, Call call, Sequences sequences, Done done)

    : RequestInFlight(service, std::move(call)), sequences_(std::move(sequences)), done_(std::move(done)), left_(sequences_.size()) {}

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
  const std::shared_ptr<SequenceRun> run(new SequenceRun(service, std::move(call), sequences, std::move(done)));
  run->submit(std::move(sequences));
}

void SequenceRun::pump() {
  if (over_) return;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    if (left_[i]) continue;
    const Generation::Fresh fresh = sequences_[i]->take();
    left_[i] = fresh.done;
    if (fresh.failure) {
      cancel_all();
      return fail(api_error(fresh.failure));
    }
  }
  if (!std::ranges::all_of(left_, [](bool left) { return left; })) return;
  in_worker(service_, call_, std::move(done_));
  over();
}

void SequenceRun::client_went() {
  cancel_all();
  over();
}

void SequenceRun::cancel_all() {
  for (size_t i = 0; i < sequences_.size(); ++i)
    if (!left_[i]) service_.loop->cancel(sequences_[i]);
}

void SequenceRun::fail(const ApiError& error) {
  call_.fail(error);
  over();
}

}  // namespace loraine
