// The one thread that owns the engine. Others queue what is to be generated and read what has come; they never wait for a step. Made by
// Service.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "loraine/generate/engine.h"
#include "loraine/serve/metrics.h"

namespace loraine {

struct ServedAdapter;
using EngineClock = std::chrono::steady_clock;
inline double seconds(EngineClock::duration time) { return std::chrono::duration<double>(time).count(); }

// One sequence to be generated, and what has come of it. The engine's thread writes, one reader takes.
class Generation {
 public:
  std::vector<int32_t> prompt;
  std::shared_ptr<const ServedAdapter> adapter;  // held until the sequence has left the engine; nullptr: the base
  GenerateOptions options;
  std::shared_ptr<TokenMask> mask = {};                              // what it may be; nullptr: anything
  std::optional<std::string> prefix_key = {}, base_prefix_key = {};  // as in Request
  std::string client = {};                                           // as Request::client
  std::optional<size_t> same_prompt_as = {};                         // place of an earlier one in the request, with the same prompt
  // As in Request, called in threads of the engine.
  std::function<void(std::span<const float>)> on_prompt_hidden = {}, on_logits = {};
  EngineClock::time_point arrived = EngineClock::now();

  struct Fresh {
    std::vector<int32_t> ids;              // new ones since the last take, stop ids included
    std::vector<TokenLogprobs> logprobs;   // with options.logprobs: one for each
    std::vector<TokenLogprobs> of_prompt;  // with options.prompt_logprobs
    bool done = false;                     // nothing follows
    std::exception_ptr failure;            // it ended with this
  };
  Fresh take();
  void hold(bool held) { held_ = held; }  // takes part in no step until it is let go; EngineLoop::wake makes it count

  struct Times {
    EngineClock::time_point started, first, last;
  };
  Times times() const;
  int64_t cached() const { return cached_; }  // tokens of the prompt that were read for an earlier request

 private:
  friend class EngineLoop;
  mutable std::mutex mutex_;
  Fresh fresh_;
  Times times_{};
  std::atomic<bool> held_{false};
  std::atomic<int64_t> cached_{0};
  // Of the engine's thread alone:
  int64_t number_ = -1;
  bool started_ = false, is_held_ = false;
  Fresh staged_;
  std::shared_ptr<struct QueuedRequest> request_;
};

// The sequences of one request: they are queued together, and counted as one.
struct QueuedRequest {
  std::vector<std::shared_ptr<Generation>> sequences;
  std::function<void()> notify;  // in the engine's thread, when any of them has something new
  int64_t unstarted = 0;         // of the engine loop
};

enum class Admission : uint8_t { taken, full, draining };

class EngineLoop {
 public:
  struct Sizes {
    int64_t rows = 0, sequences = 16, columns = 1;  // of the engine
    int64_t most_queued = 256;                      // requests of which a sequence still waits
  };
  EngineLoop(const Model& model, const Sizes& sizes, Metrics& metrics, GpuBase* gpu = nullptr);  // gpu: where the engine computes
  ~EngineLoop();

  // From any thread.
  Admission submit(std::shared_ptr<QueuedRequest> request);
  void cancel(std::shared_ptr<Generation> sequence);  // it leaves before the next step
  void wake();
  void drain(std::exception_ptr why);  // nothing more is taken; what waits fails with `why`
  void fail_all(std::exception_ptr why);
  bool idle() const;
  MetricsNow now() const;
  int64_t waiting_requests() const { return waiting_requests_; }
  int64_t capacity() const { return sizes_.rows; }

 private:
  void work();
  void enter(const std::shared_ptr<QueuedRequest>& request);
  void leave(const std::shared_ptr<Generation>& sequence);
  void follow_holds();
  void publish(EngineClock::time_point began, EngineClock::time_point at);  // of the step
  void end(const std::shared_ptr<Generation>& sequence, std::exception_ptr failure);
  void mark_started(const std::shared_ptr<Generation>& sequence, EngineClock::time_point at);

  const Model& model_;
  const Sizes sizes_;
  Metrics& metrics_;
  mutable std::mutex mutex_;
  std::condition_variable wakes_;
  std::deque<std::shared_ptr<QueuedRequest>> inbox_;
  std::deque<std::shared_ptr<Generation>> cancelled_;
  std::optional<std::exception_ptr> drain_, fail_;
  bool draining_ = false, stopping_ = false, woken_ = false;
  EngineLoad load_;
  std::string running_adapters_, waiting_adapters_;
  std::atomic<int64_t> waiting_requests_{0}, alive_{0};
  std::unique_ptr<Engine> engine_;
  std::vector<std::shared_ptr<Generation>> active_;  // of the engine's thread
  std::thread thread_;
};

}  // namespace loraine
