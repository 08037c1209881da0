// See server.h.
#include "loraine/serve/server.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <exception>
#include <thread>

#include "loraine/adapters/loftq.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/core/signals.h"
#include "loraine/io/hub/hub.h"
#include "loraine/serve/request_in_flight.h"
#include "loraine/serve/routes.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/named_adapters.h"
#include "loraine/train/memory.h"

namespace loraine {
namespace {

constexpr int kInterrupted = 130;

// Adapters that the model is opened with: several that are on together (`loraine api`), or one that quantises its base. All others are
// opened by their registry, which can put them away again.
bool opened_with_model(const TrainConfig& config, bool llama_factory) {
  if (!config.adapter_name_or_path) return false;
  if (llama_factory) return true;
  const std::vector<NamedAdapter> adapters = named_adapters(config.adapter_name_or_path);
  return adapters.size() == 1 && quantises_base(read_lora_config(find_place(adapters[0].path, hub_access(config), HubKind::adapter).path));
}

void load(Service& service, const TrainConfig& config, const std::function<void(const std::string&)>& say) {
  const bool with_model = opened_with_model(config, service.llama_factory);
  TrainConfig opened = config;
  if (!with_model) opened.adapter_name_or_path.reset();
  std::unique_ptr<LoadedModel> model = load_for_answers(opened, {.needs_text = false, .gpu = true});
  if (!model->text.tokenizer) throw no_tokenizer(model->files);
  const auto tell = [&](LoadedModel& from) {
    for (const std::string& place : std::exchange(from.places, {})) say(place);
    for (const auto& [kind, text] : std::exchange(from.warnings, {})) say("warning: " + text);
  };
  tell(*model);
  service.open(std::move(model));
  if (!with_model)
    for (const NamedAdapter& adapter : named_adapters(config.adapter_name_or_path)) service.adapters->add_given(adapter.name, adapter.path);
  tell(*service.loaded);
  service.be_ready();
}

}  // namespace

int run_server(ServerStart start) {
  check_serve_config(start.config);
  Service service(start.config, start.version, start.llama_factory, start.api);
  HttpLimits limits;
  limits.max_body = parse_memory_limit(service.config.max_body_size);
  std::atomic<double> drain_ends{0};
  const auto now = [] { return std::chrono::duration<double>(EngineClock::now().time_since_epoch()).count(); };
  bool cut = false;
  HttpHooks hooks;
  hooks.on_head = [&](const ServerRequest& request) { return check_head(service, request); };
  hooks.on_request = [&](ServerRequest request, std::shared_ptr<HttpReply> reply) {
    route_request(service, std::move(request), std::move(reply));
  };
  hooks.on_bad = [&](int status, const std::string& why) { return bad_request(service, status, why); };
  HttpServer http(limits, hooks);
  http.when_ticking([&] {
    const auto each = service.in_flight;
    for (const auto& request : each) request->tick(EngineClock::now());
    if (drain_ends == 0) return;
    if (!cut && now() >= drain_ends && service.is_open()) {
      cut = true;
      service.loop->fail_all(
          std::make_exception_ptr(ApiError{503, "the server ended before the answer did (drain_timeout)", "", "shutting_down", 1}));
    }
    if (now() >= drain_ends + 2) http.stop();  // who does not take its answer
  });
  service.http = &http;
  std::string where;
  if (service.config.unix_socket) {
    http.listen_unix(*service.config.unix_socket);
    where = "unix:" + *service.config.unix_socket;
  } else {
    const int port = http.listen_tcp(service.config.host, static_cast<int>(service.config.port));
    const bool six = service.config.host.find(':') != std::string::npos && service.config.host[0] != '[';
    where = fmt::format("http://{}:{}", six ? "[" + service.config.host + "]" : service.config.host, port);
  }
  if (service.config.insecure && service.keys.empty())
    start.say("warning: insecure: whoever reaches this address can use the model, and see what others ask of it in its metrics");
  start.say(fmt::format("loraine {} listens on {}, and loads the model", service.version, where));

  std::atomic<int> signals{0};
  const SignalWatch watch({SIGINT, SIGTERM}, [&](int) {
    if (signals++ > 0) {
      if (service.config.unix_socket) ::unlink(service.config.unix_socket->c_str());
      ::_exit(kInterrupted);
    }
    service.draining = true;
    drain_ends = now() + service.config.drain_timeout;
    start.say("ending: running answers are finished, nothing new is taken");
    if (service.is_open()) service.loop->drain(std::make_exception_ptr(ApiError{503, "the server is ending", "", "shutting_down", 1}));
    http.finish();
  });

  std::exception_ptr failure;
  std::atomic<bool> is_loaded{false};
  std::thread loader([&] {
    try {
      load(service, start.model, start.say);
      start.say(fmt::format("ready: {} on {}, {} tokens of context, {} of keys and values for {} sequences", service.model_name, where,
                            service.max_model_len, service.loop->capacity() - 1, service.config.max_seqs));
    } catch (...) {
      failure = std::current_exception();
      http.stop();
    }
    is_loaded = true;
  });
  http.run();
  if (!is_loaded && signals > 0) {  // nothing was taken yet, and loading cannot be stopped
    if (service.config.unix_socket) ::unlink(service.config.unix_socket->c_str());
    ::_exit(0);
  }
  loader.join();
  service.workers.stop();  // before the HTTP server, which they speak to, as the engine's thread does
  service.loop.reset();
  if (failure) std::rethrow_exception(failure);
  return 0;
}

}  // namespace loraine
