// See metrics.h.
#include "loraine/serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace loraine {
namespace {

constexpr size_t kMostAdapters = 200;  // with a line of their own; the others are "other"

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string quoted_label(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') out += "\\n";
    else if (c == '"' || c == '\\') (out += '\\') += c;
    else out += c;
  }
  return out + "\"";
}

std::string heading(const std::string& name, const char* type, const char* help) {
  return fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace

std::vector<double> Metrics::latencies() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 640, 2560};
}
std::vector<double> Metrics::lengths() { return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000}; }

void Histogram::add(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(at - bounds_.begin())];
  sum_ += value;
  ++count_;
}

std::string Histogram::text(const std::string& name, const std::string& labels) const {
  std::string out;
  uint64_t below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bounds_[i], below);
  }
  return out + fmt::format("{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n{0}_count{{{1}}} {2}\n", name, labels, count_, sum_);
}

void Metrics::finished(const FinishedChoice& choice) {
  const std::lock_guard lock(mutex_);
  ++finished_[choice.reason];
  last_ends_[ends_++ % last_ends_.size()] = seconds_now();
  whole_.add(choice.whole);
  queue_.add(choice.queued);
  prompt_length_.add(static_cast<double>(choice.prompt_tokens));
  answer_length_.add(static_cast<double>(choice.answer_tokens));
  if (choice.answer_tokens == 0) return;
  first_token_.add(choice.to_first);
  prefill_.add(choice.prefill);
  decode_.add(choice.decode);
  if (choice.answer_tokens > 1) per_token_.add(choice.decode / static_cast<double>(choice.answer_tokens - 1));
}

void Metrics::tokens(const std::string& adapter, int64_t prompt, int64_t answer) {
  const std::lock_guard lock(mutex_);
  prompt_tokens_ += static_cast<uint64_t>(prompt);
  answer_tokens_ += static_cast<uint64_t>(answer);
  if (adapter.empty()) return;
  const bool own = adapter_tokens_.contains(adapter) || adapter_tokens_.size() < kMostAdapters;
  adapter_tokens_[own ? adapter : "other"] += static_cast<uint64_t>(answer);
}

void Metrics::between_tokens(double seconds) {
  const std::lock_guard lock(mutex_);
  between_.add(seconds);
}

void Metrics::step(int64_t tokens) {
  const std::lock_guard lock(mutex_);
  step_tokens_.add(static_cast<double>(tokens));
}

void Metrics::adapter_loaded(double seconds) {
  const std::lock_guard lock(mutex_);
  adapter_load_.add(seconds);
}

double Metrics::finished_per_second() const {
  const std::lock_guard lock(mutex_);
  const size_t count = std::min(ends_, last_ends_.size());
  if (count == 0) return 0;
  const double oldest = last_ends_[ends_ <= last_ends_.size() ? 0 : ends_ % last_ends_.size()];
  return static_cast<double>(count) / std::max(seconds_now() - oldest, 1e-3);
}

std::string Metrics::text(const MetricsNow& now) const {
  const std::lock_guard lock(mutex_);
  const std::string model = "model_name=" + quoted_label(model_name_);
  std::string out;
  const auto one = [&](const std::string& name, const char* type, const char* help, const std::string& value) {
    out += heading(name, type, help) + fmt::format("{}{{{}}} {}\n", name, model, value);
  };
  const auto histogram = [&](const std::string& name, const char* help, const Histogram& values) {
    out += heading(name, "histogram", help) + values.text(name, model);
  };
  one("vllm:num_requests_running", "gauge", "Sequences that are being read or continued.", std::to_string(now.running));
  one("vllm:num_requests_waiting", "gauge", "Sequences that wait for room.", std::to_string(now.waiting));
  const double used = now.kv_capacity > 0 ? static_cast<double>(now.kv_rows) / static_cast<double>(now.kv_capacity) : 0;
  one("vllm:kv_cache_usage_perc", "gauge", "Share of the rows of keys and values that are reserved; 1 is all.", fmt::format("{}", used));
  one("vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.", std::to_string(now.prompt_rows));
  one("vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.", std::to_string(now.reused_rows));
  one("vllm:num_preemptions_total", "counter", "Sequences that were put back into the queue.", std::to_string(now.preempted));
  one("vllm:prompt_tokens_total", "counter", "Tokens of prompts that were read.", std::to_string(prompt_tokens_));
  one("vllm:generation_tokens_total", "counter", "Tokens that were generated.", std::to_string(answer_tokens_));
  out += heading("vllm:request_success_total", "counter", "Answers that ended, by how.");
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    const auto found = finished_.find(reason);
    out += fmt::format("vllm:request_success_total{{finished_reason=\"{}\",{}}} {}\n", reason, model,
                       found == finished_.end() ? 0 : found->second);
  }
  out += heading("vllm:lora_requests_info", "gauge", "Adapters at work; the value is when that was looked up.");
  out += fmt::format("vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters={},waiting_lora_adapters={}}} {:.3f}\n",
                     now.most_adapters, quoted_label(now.running_adapters), quoted_label(now.waiting_adapters),
                     std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  histogram("vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", first_token_);
  histogram("vllm:inter_token_latency_seconds", "Between two tokens of an answer.", between_);
  histogram("vllm:request_time_per_output_token_seconds", "Mean time per token of an answer.", per_token_);
  histogram("vllm:e2e_request_latency_seconds", "From a request's arrival to its end.", whole_);
  histogram("vllm:request_queue_time_seconds", "Waiting for room.", queue_);
  histogram("vllm:request_prefill_time_seconds", "From leaving the queue to the first token.", prefill_);
  histogram("vllm:request_decode_time_seconds", "From the first token to the last.", decode_);
  histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", prompt_length_);
  histogram("vllm:request_generation_tokens", "Tokens of an answer.", answer_length_);
  histogram("vllm:iteration_tokens_total", "Tokens of one step of the engine.", step_tokens_);
  out += heading("loraine_adapter_tokens_total", "counter", "Tokens that were generated with an adapter.");
  for (const auto& [name, count] : adapter_tokens_)
    out += fmt::format("loraine_adapter_tokens_total{{adapter={}}} {}\n", quoted_label(name), count);
  histogram("loraine_adapter_load_seconds", "Reading an adapter into memory.", adapter_load_);
  out += heading("process_resident_memory_bytes", "gauge", "Memory of this process.") +
         fmt::format("process_resident_memory_bytes {}\n", now.resident_bytes);
  return out;
}

}  // namespace loraine
