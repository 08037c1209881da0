// A request that wants figures of the model and no text: its sequences go through the engine together, and when the last one has left it, a
// worker makes the answer. Used by embeddings and decisions.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "loraine/serve/service.h"

namespace loraine {

class SequenceRun : public std::enable_shared_from_this<SequenceRun> {
 public:
  using Sequences = std::vector<std::shared_ptr<Generation>>;
  using Done = std::function<void(Service& service, Call& call)>;
  // Throws ApiError where one of them is empty or too long. param: the field that they come from.
  static void check_lengths(const Service& service, const Sequences& sequences, const char* param);
  // From a worker; checks them. What the sequences bring, their own callbacks keep, which must not hold sequences; `done` runs in a worker.
  static void start(Service& service, Call call, Sequences sequences, const char* param, Done done);
  void tick(EngineClock::time_point now);  // whether it takes too long
  ~SequenceRun();

 private:
  SequenceRun(Service& service, Call call, Sequences sequences, Done done);
  void enter();
  void pump();
  void fail(const ApiError& error);
  void over();

  Service& service_;
  Call call_;
  const Sequences sequences_;
  Done done_;
  std::vector<bool> left_;  // which have left the engine
  std::atomic<bool> pump_posted_{false};
  bool over_ = false;
};

}  // namespace loraine
