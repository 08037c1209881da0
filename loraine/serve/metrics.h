// Counters and histograms of a server, in Prometheus' text format under vLLM's names. Written by the engine's thread and by answers, read
// by GET /metrics.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace loraine {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void add(double value);
  std::string text(const std::string& name, const std::string& labels) const;
  double sum() const { return sum_; }
  uint64_t count() const { return count_; }

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
  uint64_t count_ = 0;
};

// What one choice was, when it is over. Seconds.
struct FinishedChoice {
  std::string adapter, reason;  // stop, length, abort, error
  int64_t prompt_tokens = 0, answer_tokens = 0;
  double queued = 0, to_first = 0, prefill = 0, decode = 0, whole = 0;
};

struct MetricsNow {  // figures that are looked up when they are asked for
  int64_t running = 0, waiting = 0, kv_rows = 0, kv_capacity = 0;
  int64_t prompt_rows = 0, reused_rows = 0, preempted = 0;  // so far; reused_rows: of prompt_rows, found in the cache of prefixes
  int64_t most_adapters = 0;
  std::string running_adapters, waiting_adapters;  // comma lists
  size_t resident_bytes = 0;
};

class Metrics {
 public:
  explicit Metrics(std::string model_name) : model_name_(std::move(model_name)) {}
  void finished(const FinishedChoice& choice);
  void tokens(const std::string& adapter, int64_t prompt, int64_t answer);  // as they are computed
  void between_tokens(double seconds);
  void step(int64_t tokens);  // of one step of the engine, prompts included
  void adapter_loaded(double seconds);
  std::string text(const MetricsNow& now) const;
  double finished_per_second() const;  // lately; 0: none was finished yet

 private:
  mutable std::mutex mutex_;
  std::string model_name_;
  std::map<std::string, uint64_t> finished_, adapter_tokens_;
  uint64_t prompt_tokens_ = 0, answer_tokens_ = 0;
  static std::vector<double> latencies();
  static std::vector<double> lengths();
  Histogram first_token_{latencies()}, between_{latencies()}, per_token_{latencies()}, whole_{latencies()}, queue_{latencies()},
      prefill_{latencies()}, decode_{latencies()}, prompt_length_{lengths()}, answer_length_{lengths()}, step_tokens_{lengths()},
      adapter_load_{latencies()};
  std::array<double, 32> last_ends_{};  // times at which the last choices ended
  size_t ends_ = 0;
};

}  // namespace loraine
