// How the server is: for load balancers, dashboards and clients that look first.
#include <fmt/format.h>

#include <cstdio>

#include "loraine/serve/handlers/handlers.h"
#include "loraine/train/memory.h"

namespace loraine {

void get_health(Service&, Call call) { call.json({{"status", "ok"}}); }

void get_ready(Service& service, Call call) {
  if (service.draining) return call.fail({503, "the server is ending", "", "shutting_down", 1});
  if (!service.is_open()) return call.fail({503, "the model is still being loaded", "", "loading", 1});
  call.json({{"status", "ready"}});
}

void get_version(Service& service, Call call) { call.json({{"version", service.version}}); }

void get_metrics(Service& service, Call call) {
  if (!service.config.metrics) return call.fail({404, "no metrics are given (metrics: false)", "", "not_found"});
  MetricsNow now = service.loop->now();
  now.most_adapters = service.adapters->most();
  now.resident_bytes = resident_size();
  call.send({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = service.metrics->text(now)});
}

// The part of llama-server's object that says what a client can ask for.
void get_props(Service& service, Call call) {
  const ChatFormat& format = service.loaded->format;
  const SamplingDefaults& d = service.defaults;
  call.json({{"default_generation_settings",
              {{"n_ctx", service.max_model_len},
               {"params",
                {{"temperature", d.do_sample ? d.temperature : 0.0},
                 {"top_p", d.top_p},
                 {"top_k", d.top_k},
                 {"min_p", d.min_p},
                 {"repeat_penalty", d.repetition_penalty}}}}},
             {"total_slots", service.config.max_seqs},
             {"model_alias", service.model_name},
             {"model_path", call.request.local ? service.loaded->config.model_name_or_path : ""},
             {"chat_template", format.named ? format.named->name : service.loaded->files.chat_template.value_or("")},
             {"build_info", "loraine " + service.version}});
}

void log_line(const std::string& text) { std::fputs((text + "\n").c_str(), stderr); }

void log_request(const Call& call) {
  log_line(fmt::format("{} {} {} {} bytes", call.request_id, call.request.method, call.request.path, call.request.body.size()));
}

}  // namespace loraine
