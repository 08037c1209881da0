// The models that can be named in requests: the base and its adapters; loading and unloading them in the words of vLLM, SGLang and
// llama-server.
#include <fmt/format.h>

#include <algorithm>

#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/fields.h"
#include "loraine/serve/protocol/json_body.h"

namespace loraine {
namespace {

WireJson model_json(const Service& service, const Call& call, const std::string& id, const AdapterListing* adapter) {
  const Model& model = service.loaded->model;
  const bool shows_paths = call.request.local;
  WireJson one = {{"id", id},
                  {"object", "model"},
                  {"created", adapter ? adapter->created : service.started},
                  {"owned_by", "loraine"},
                  {"root", shows_paths ? (adapter ? adapter->place : service.loaded->config.model_name_or_path) : id},
                  {"parent", adapter ? WireJson(service.model_name) : WireJson()},
                  {"max_model_len", service.max_model_len},
                  {"permission", WireJson::array()}};
  if (!adapter) one["meta"] = {{"n_vocab", model.config.vocab_size}, {"n_embd", model.config.hidden_size}};
  return one;
}

// Runs `change` in a worker; what goes wrong is told once, and not sent again by the official clients.
void change_adapters(Service& service, Call call, void (*change)(Service&, Call&, Fields&)) {
  in_worker(service, std::move(call), [change](Service& s, Call& c) {
    try {
      const WireJson body = parse_json_body(c.request.body);
      Fields fields(body);
      change(s, c, fields);
    } catch (...) {
      ApiError error = api_error(std::current_exception());
      error.runs_once = true;
      c.fail(error);
    }
  });
}

void unload(Service& service, const std::string& name) {
  if (name == service.model_name || name == "base") throw ApiError{400, "the base model cannot be unloaded", "lora_name"};
  if (!service.adapters->unload(name))
    throw ApiError{404, fmt::format("no adapter is called '{}'", name.substr(0, 200)), "lora_name", "model_not_found"};
  const std::lock_guard lock(service.scales_mutex);
  service.default_lora.erase(name);
}

WireJson loaded_adapters(const Service& service) {
  WireJson all = WireJson::object();
  for (const AdapterListing& one : service.adapters->list()) all[one.name] = one.place;
  return all;
}

// [{"id" or "name", "scale"}]: what requests have that name neither a model nor `lora`.
void set_lora(Service& service, Call& call) {
  const WireJson body = parse_json_value(call.request.body);
  const std::vector<AdapterListing> all = service.adapters->list();
  if (!body.is_array() || body.size() > 64)
    throw ApiError{400, "the body is " + shown(body) + ", expected was a list of {\"id\", \"scale\"}"};
  std::map<std::string, double> on;
  for (const WireJson& one : body) {
    if (!one.is_object()) throw ApiError{400, "the list has " + shown(one) + ", expected was {\"id\", \"scale\"}"};
    Fields fields(one);
    std::string name = fields.text("name", 128).value_or("");
    if (name.empty()) {
      const auto id = fields.integer("id", 0, static_cast<int64_t>(all.size()) - 1);
      if (!id) fields.fail("id", "the number of an adapter, as GET /lora-adapters gives it");
      name = all[static_cast<size_t>(*id)].name;
    }
    if (!service.adapters->has(name)) throw ApiError{404, fmt::format("no adapter is called '{}'", name), "name", "model_not_found"};
    if (const double scale = fields.number("scale", -100, 100).value_or(1); scale != 0) on[name] = scale;
  }
  std::vector<ScaledAdapter> parts;  // what cannot be on together is refused here, and not when it is asked for
  for (const auto& [name, scale] : on)
    if (auto adapter = service.adapters->find(name)) parts.emplace_back(std::move(adapter), scale);
  try {
    service.mixtures->find(parts);
  } catch (const Error& error) { throw ApiError{400, error.what(), "scale", "unsupported_parameter"}; }
  {
    const std::lock_guard lock(service.scales_mutex);
    service.default_lora = on;
  }
  call.json({{"success", true}});
}

}  // namespace

void list_models(Service& service, Call call) {
  WireJson list = WireJson::array({model_json(service, call, service.model_name, nullptr)});
  if (!service.llama_factory)
    for (const AdapterListing& one : service.adapters->list()) list.push_back(model_json(service, call, one.name, &one));
  call.json({{"object", "list"}, {"data", list}});
}

void get_model(Service& service, Call call) {
  if (call.argument == service.model_name) return call.json(model_json(service, call, call.argument, nullptr));
  std::vector<std::string> names{service.model_name};
  for (const AdapterListing& one : service.adapters->list()) {
    if (one.name == call.argument) return call.json(model_json(service, call, one.name, &one));
    names.push_back(one.name);
  }
  const std::string near = nearest_word(call.argument, names);
  call.fail(
      {404,
       fmt::format("the model '{}' does not exist{}", call.argument.substr(0, 200), near.empty() ? "" : ", did you mean '" + near + "'?"),
       "model", "model_not_found"});
}

void list_lora(Service& service, Call call) {
  WireJson list = WireJson::array();
  const std::lock_guard lock(service.scales_mutex);
  for (const AdapterListing& one : service.adapters->list()) {
    const auto scale = service.default_lora.find(one.name);
    list.push_back({{"id", list.size()},
                    {"name", one.name},
                    {"path", call.request.local ? one.place : one.name},
                    {"scale", scale == service.default_lora.end() ? 0.0 : scale->second}});
  }
  call.json(list);
}

void post_lora(Service& service, Call call) { in_worker(service, std::move(call), set_lora); }

void post_load_vllm(Service& service, Call call) {
  change_adapters(service, std::move(call), [](Service& s, Call& c, Fields& fields) {
    const std::string name = fields.required_text("lora_name", 128), path = fields.required_text("lora_path", 4096);
    s.adapters->load(name, path, fields.boolean("load_inplace").value_or(false), false);
    c.send({.content_type = "text/plain; charset=utf-8", .body = fmt::format("Success: LoRA adapter '{}' added successfully.", name)});
  });
}

void post_unload_vllm(Service& service, Call call) {
  change_adapters(service, std::move(call), [](Service& s, Call& c, Fields& fields) {
    const std::string name = fields.required_text("lora_name", 128);
    unload(s, name);
    c.send({.content_type = "text/plain; charset=utf-8", .body = fmt::format("Success: LoRA adapter '{}' removed successfully.", name)});
  });
}

void post_load_sglang(Service& service, Call call) {
  change_adapters(service, std::move(call), [](Service& s, Call& c, Fields& fields) {
    const std::string name = fields.required_text("lora_name", 128), path = fields.required_text("lora_path", 4096);
    s.adapters->load(name, path, false, fields.boolean("pinned").value_or(false));
    c.json({{"success", true}, {"loaded_adapters", loaded_adapters(s)}});
  });
}

void post_unload_sglang(Service& service, Call call) {
  change_adapters(service, std::move(call), [](Service& s, Call& c, Fields& fields) {
    unload(s, fields.required_text("lora_name", 128));
    c.json({{"success", true}, {"loaded_adapters", loaded_adapters(s)}});
  });
}

}  // namespace loraine
