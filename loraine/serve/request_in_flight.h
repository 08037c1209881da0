// A request whose sequences are in the engine: how they get there, and what happens when the client goes or time runs out. What comes of
// them is an answer's (answer.h) or a run's (sequence_run.h). All but submit() runs in the server's thread.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "loraine/serve/service.h"

namespace loraine {

class RequestInFlight : public std::enable_shared_from_this<RequestInFlight> {
 public:
  virtual ~RequestInFlight() = default;
  void tick(EngineClock::time_point now);  // whether it takes longer than request_timeout

 protected:
  RequestInFlight(Service& service, Call call) : service_(service), call_(std::move(call)) {}

  // From a worker. It is in flight from then on, or refused: the queue is full, the server is ending. The sequences are of the call's
  // client.
  void submit(std::vector<std::shared_ptr<Generation>> sequences);
  virtual void entered() {}  // the engine has taken it
  virtual void pump() = 0;   // something of the sequences is new
  virtual void client_went() = 0;
  virtual void cancel_all() = 0;  // those that the engine still has
  virtual void fail(const ApiError& error) = 0;
  void over();  // no longer in flight

  Service& service_;
  const Call call_;
  bool over_ = false;

 private:
  void enter(const std::shared_ptr<QueuedRequest>& request);

  EngineClock::time_point arrived_{};
  std::atomic<bool> pump_posted_{false};
};

}  // namespace loraine
