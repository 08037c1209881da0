// A request that wants figures of the model and no text: its sequences go through the engine together, and when the last one has left it, a
// worker makes the answer. Used by embeddings and decisions.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "loraine/serve/request_in_flight.h"

namespace loraine {

class SequenceRun : public RequestInFlight {
 public:
  using Sequences = std::vector<std::shared_ptr<Generation>>;
  using Done = std::function<void(Service& service, Call& call)>;
  // Throws ApiError where one of them is empty or too long. param: the field that they come from.
  static void check_lengths(const Service& service, const Sequences& sequences, const char* param);
  // From a worker; checks them. What the sequences bring, their own callbacks keep, which must not hold sequences; `done` runs in a worker.
  static void start(Service& service, Call call, Sequences sequences, const char* param, Done done);

 private:
  SequenceRun(Service& service, Call call, Sequences sequences, Done done);
  void pump() override;
  void client_went() override;
  void cancel_all() override;
  void fail(const ApiError& error) override;

  const Sequences sequences_;
  Done done_;
  std::vector<bool> left_;  // which have left the engine
};

}  // namespace loraine
