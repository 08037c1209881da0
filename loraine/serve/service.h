// All that the routes of one server share: the model, its adapters, the engine's loop, figures, settings. Made by run_server (server.h).
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "loraine/api/loaded_model.h"
#include "loraine/serve/adapters.h"
#include "loraine/serve/engine_loop.h"
#include "loraine/serve/grammars.h"
#include "loraine/serve/http/server.h"
#include "loraine/serve/metrics.h"
#include "loraine/serve/mixtures.h"
#include "loraine/serve/protocol/errors.h"
#include "loraine/serve/reply_format.h"
#include "loraine/serve/settings.h"
#include "loraine/serve/stored_responses.h"

namespace loraine {

class RequestInFlight;

// Threads for what takes a while and is no step of the engine: reading bodies, templates, tokens, adapters.
class Workers {
 public:
  explicit Workers(int count);
  ~Workers();
  void add(std::function<void()> work);
  void stop();  // what waits is dropped, what runs is waited for

 private:
  std::mutex mutex_;
  std::condition_variable wakes_;
  std::deque<std::function<void()>> waiting_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

// Sampling where a request says nothing: what the operator set, else generation_config.json, else plain sampling.
struct SamplingDefaults {
  bool do_sample = true;
  double temperature = 1, top_p = 1, repetition_penalty = 1;
  int64_t top_k = 0;
  double min_p = 0;
  std::optional<int64_t> max_tokens;
};
SamplingDefaults sampling_defaults(const TrainConfig& config, const ModelFiles& files, bool llama_factory);

struct Service {
  Service(ServeConfig config, std::string version, bool llama_factory, LlamaFactoryApi api);
  ~Service();

  // Once, by the thread that loads: the model is there; with be_ready() requests are taken.
  void open(std::unique_ptr<LoadedModel> model);
  void be_ready() { open_ = true; }
  bool is_open() const { return open_; }

  const ServeConfig config;
  const std::string version;
  const bool llama_factory;  // as LLaMA-Factory's api answers
  const LlamaFactoryApi api;
  const std::vector<std::string> keys;
  const std::string launch;  // of this process, in the ids it gives
  const int64_t started;     // seconds since 1970
  std::atomic<bool> draining{false};

  // After open():
  std::unique_ptr<LoadedModel> loaded;
  std::shared_mutex text_mutex;  // shared: encoding, decoding; alone: while the tokenizer may get tokens of a template
  std::string model_name;
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<AdapterRegistry> adapters;
  std::unique_ptr<AdapterMixtures> mixtures;
  std::unique_ptr<EngineLoop> loop;
  SamplingDefaults defaults;
  std::unique_ptr<Grammars> grammars;
  std::shared_ptr<const ResponseTemplate> response_template;  // of the model; nullptr: it has none
  std::optional<double> decision_temperature;                 // of decision.json beside the base
  std::shared_ptr<const ValueHead> value_head;                // beside the base; nullptr: there is none
  int64_t max_model_len = 0;
  std::string default_adapter;  // of requests whose `model` is the base or missing; empty: the base itself
  std::mutex scales_mutex;
  std::map<std::string, double> default_lora;  // scales other than 0, set by POST /lora-adapters

  StoredResponses responses;

  HttpServer* http = nullptr;
  Workers workers{4};
  std::set<std::shared_ptr<RequestInFlight>> in_flight;  // of the server's thread

  std::string new_id(const char* prefix);  // "chatcmpl-" + 24 hexadecimal digits
  std::string fingerprint(const ServedAdapter* adapter) const;
  // Of requests that may share the keys and values of their prompts' beginnings; none where nobody may.
  std::optional<std::string> prefix_key(const ServedAdapter* adapter, const std::string& salt) const;
  ReplyFormat reply_format_of(const ServedAdapter* adapter) const;
  int retry_after() const;  // seconds until a place in the queue is likely

 private:
  std::atomic<bool> open_{false};
  std::atomic<uint64_t> next_id_{1};
};

// One request on its way through a route.
struct Call {
  ServerRequest request;
  std::shared_ptr<HttpReply> reply;
  std::string request_id, argument;  // argument: what stands in the place of {id} in the route
  HttpHeaders headers;               // of every answer to it
  ErrorStyle errors = ErrorStyle::openai;
  std::string client;  // the key it came with: who takes turns with others
  void json(const WireJson& value, int status = 200) const;
  void send(HttpResponse response) const;
  void fail(const ApiError& error) const;
};

// Runs `work` in a worker; what it throws is the answer.
void in_worker(Service& service, Call call, std::function<void(Service&, Call&)> work);

// The adapter that a request means: nullptr, the base. Throws 404 with the nearest name.
std::shared_ptr<const ServedAdapter> find_adapter(Service& service, const std::string& model);

}  // namespace loraine
