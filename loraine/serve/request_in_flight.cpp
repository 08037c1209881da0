// See request_in_flight.h.
#include "loraine/serve/request_in_flight.h"

#include <fmt/format.h>

namespace loraine {

void RequestInFlight::submit(std::vector<std::shared_ptr<Generation>> sequences) {
  arrived_ = sequences.at(0)->arrived;
  auto request = std::make_shared<QueuedRequest>();
  for (const auto& sequence : sequences) sequence->client = call_.client;
  request->sequences = std::move(sequences);
  request->notify = [&service = service_, weak = weak_from_this()] {
    const std::shared_ptr<RequestInFlight> here = weak.lock();
    if (!here || here->pump_posted_.exchange(true)) return;
    service.http->post([here] {
      here->pump_posted_ = false;
      here->pump();
    });
  };
  // In the server's thread, so that nothing of it comes before it is among those in flight.
  service_.http->post([here = shared_from_this(), request] { here->enter(request); });
}

void RequestInFlight::enter(const std::shared_ptr<QueuedRequest>& request) {
  if (call_.reply->gone()) return;
  switch (service_.loop->submit(request)) {
    case Admission::taken: break;
    case Admission::full:
      return call_.fail({429, fmt::format("{} requests wait already (max_queued_requests)", service_.config.max_queued_requests), "",
                         "queue_full", service_.retry_after()});
    case Admission::draining: return call_.fail({503, "the server is ending", "", "shutting_down", 1});
  }
  service_.in_flight.insert(shared_from_this());
  call_.reply->when_gone([weak = weak_from_this()] {
    if (const std::shared_ptr<RequestInFlight> here = weak.lock(); here && !here->over_) here->client_went();
  });
  entered();
}

void RequestInFlight::tick(EngineClock::time_point now) {
  const double limit = service_.config.request_timeout;
  if (over_ || limit <= 0 || seconds(now - arrived_) < limit) return;
  cancel_all();
  fail({503, fmt::format("the answer took longer than {} seconds (request_timeout)", limit), "", "timeout", 1});
}

void RequestInFlight::over() {
  over_ = true;
  service_.in_flight.erase(shared_from_this());
}

}  // namespace loraine
