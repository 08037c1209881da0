// Ollama's protocol: which models there are, and what they are.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "loraine/io/hub/hash.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/fields.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/ollama.h"

namespace loraine {
namespace {

constexpr const char* kTag = ":latest";

std::string time_text(int64_t seconds) { return ollama_time(std::chrono::system_clock::from_time_t(seconds)); }

std::string digest_of(const std::string& text) {
  if (text.size() == 64) return text;  // a SHA-256 already
  Hash hash = Hash::sha256();
  hash.add(text.data(), text.size());
  return hash.hex();
}

// "134.5M", "1.2B"
std::string short_count(int64_t count) {
  const auto n = static_cast<double>(count);
  return n >= 1e9 ? fmt::format("{:.1f}B", n / 1e9) : n >= 1e6 ? fmt::format("{:.2f}M", n / 1e6) : fmt::format("{:.1f}K", n / 1e3);
}

// The type that most elements of the layers' matrices have.
std::string stored_type(const Model& model) {
  std::map<std::string, int64_t> elements;
  for (const WeightPart* part : model.block_parts()) elements[name_of(part->weight.dtype)] += part->weight.numel();
  const auto most = std::ranges::max_element(elements, {}, [](const auto& one) { return one.second; });
  return most == elements.end() ? "F32" : most->first;
}

std::string family(const Service& service) {
  const auto& config = service.loaded->files.config;
  return config.contains("model_type") && config["model_type"].is_string() ? config["model_type"].get<std::string>() : "unknown";
}

WireJson details(const Service& service, bool adapter) {
  const Model& model = service.loaded->model;
  const bool gguf = service.loaded->files.path.ends_with(".gguf");
  return {{"parent_model", adapter ? service.model_name : ""},
          {"format", gguf ? "gguf" : "safetensors"},
          {"family", family(service)},
          {"families", {family(service)}},
          {"parameter_size", short_count(model.parameter_count())},
          {"quantization_level", stored_type(model)}};
}

WireJson model_entry(const Service& service, const std::string& name, const AdapterListing* adapter) {
  const std::string hash = adapter ? (adapter->hash.empty() ? adapter->name : adapter->hash) : service.loaded->files.fingerprint;
  return {{"name", name + kTag},
          {"model", name + kTag},
          {"modified_at", time_text(adapter ? adapter->created : service.started)},
          {"size", service.loaded->model.weight_bytes()},
          {"digest", digest_of(hash)},
          {"details", details(service, adapter != nullptr)}};
}

void show(Service& service, Call& call) {
  const WireJson body = parse_json_body(call.request.body);
  Fields fields(body);
  std::string asked = fields.text("model", 512).value_or("");
  if (asked.empty()) asked = fields.required_text("name", 512);
  const std::shared_ptr<const ServedAdapter> adapter = find_adapter(service, untagged(asked));
  const Model& model = service.loaded->model;
  const ChatFormat& format = adapter ? adapter->format : service.loaded->format;
  const SamplingDefaults& d = service.defaults;
  const std::string kind = family(service);
  const std::string chat_template = format.named ? format.named->name : service.loaded->files.chat_template.value_or("");
  std::string licences;
  for (const NamedText& one : service.loaded->files.licences) licences += one.text;
  WireJson info = {{"general.architecture", kind},
                   {"general.basename", adapter ? adapter->name : service.model_name},
                   {"general.parameter_count", model.parameter_count()},
                   {kind + ".context_length", service.max_model_len},
                   {kind + ".embedding_length", model.config.hidden_size},
                   {kind + ".block_count", model.config.num_hidden_layers},
                   {kind + ".attention.head_count", model.config.num_attention_heads},
                   {kind + ".vocab_size", model.config.vocab_size}};
  WireJson answer = {
      {"license", licences},
      {"modelfile", fmt::format("FROM {}\n", service.model_name) + (adapter ? fmt::format("ADAPTER {}\n", adapter->name) : "")},
      {"parameters", fmt::format("temperature {}\ntop_p {}\ntop_k {}\nrepeat_penalty {}", d.do_sample ? d.temperature : 0.0, d.top_p,
                                 d.top_k, d.repetition_penalty)},
      {"template", chat_template},
      {"details", details(service, adapter != nullptr)},
      {"model_info", std::move(info)},
      {"capabilities", {"completion", "embedding"}},
      {"modified_at", time_text(adapter ? adapter->created : service.started)}};
  call.json(answer);
}

}  // namespace

void get_ollama_version(Service& service, Call call) { call.json({{"version", service.version}}); }

void get_ollama_tags(Service& service, Call call) {
  WireJson models = WireJson::array({model_entry(service, service.model_name, nullptr)});
  if (!service.llama_factory)
    for (const AdapterListing& one : service.adapters->list()) models.push_back(model_entry(service, one.name, &one));
  call.json({{"models", std::move(models)}});
}

void get_ollama_running(Service& service, Call call) {
  WireJson models = WireJson::array();
  const auto add = [&](const std::string& name, const AdapterListing* adapter) {
    WireJson one = model_entry(service, name, adapter);
    one["expires_at"] = "9999-12-31T23:59:59Z";  // it stays
    one["size_vram"] = 0;
    one["context_length"] = service.max_model_len;
    models.push_back(std::move(one));
  };
  add(service.model_name, nullptr);
  if (!service.llama_factory)
    for (const AdapterListing& one : service.adapters->list())
      if (one.resident) add(one.name, &one);
  call.json({{"models", std::move(models)}});
}

void post_ollama_show(Service& service, Call call) { in_worker(service, std::move(call), show); }

void refuse_ollama(Service&, Call call) {
  call.fail({501,
             fmt::format("{} is not built: the models of this server are those it was started with, and adapters loaded by "
                         "/v1/load_lora_adapter",
                         call.request.path),
             "", "not_built"});
}

}  // namespace loraine
