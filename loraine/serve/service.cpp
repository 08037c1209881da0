// See service.h.
#include "loraine/serve/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>

#include "loraine/core/gpu.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/model/gpu/gpu_base.h"
#include "loraine/serve/request_in_flight.h"
#include "loraine/train/config/named_adapters.h"
#include "loraine/train/memory.h"
#include "loraine/train/records/calibration.h"

namespace loraine {
namespace {

constexpr int64_t kMostTokens = 8192;  // of prompt and answer together, where the model could have more and nobody says

std::string random_hex(int digits) {
  std::random_device source;
  std::string out;
  for (int i = 0; i < digits; ++i) out += "0123456789abcdef"[source() & 15];
  return out;
}

// Bytes that could be had without swapping; 0 when unknown.
size_t free_memory() {
  std::ifstream file("/proc/meminfo");
  size_t free = 0;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) free = static_cast<size_t>(std::strtoull(line.c_str() + 13, nullptr, 10)) << 10;
  if (const auto limit = cgroup_limit()) free = std::min(free, limit->bytes - std::min(limit->bytes, resident_size()));
  return free;
}

std::string own_name(const std::string& model) {
  std::string path = model;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::string name = std::filesystem::path(path).filename().string();
  return name.empty() ? "model" : name;
}

}  // namespace

Workers::Workers(int count) {
  for (int i = 0; i < count; ++i)
    threads_.emplace_back([this] {
      for (;;) {
        std::function<void()> work;
        {
          std::unique_lock lock(mutex_);
          wakes_.wait(lock, [&] { return ends_ || !waiting_.empty(); });
          if (waiting_.empty()) return;
          work = std::move(waiting_.front());
          waiting_.pop_front();
        }
        work();
      }
    });
}

Workers::~Workers() { stop(); }

void Workers::stop() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    waiting_.clear();
  }
  wakes_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Workers::add(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(work));
  }
  wakes_.notify_one();
}

SamplingDefaults sampling_defaults(const TrainConfig& config, const ModelFiles& files, bool llama_factory) {
  SamplingDefaults defaults;
  const auto of_model = [&](const char* key, auto& field) {
    if (!files.generation_config || llama_factory) return;
    const auto found = files.generation_config->find(key);
    if (found != files.generation_config->end() && found->is_number()) found->get_to(field);
  };
  of_model("temperature", defaults.temperature);
  of_model("top_p", defaults.top_p);
  of_model("top_k", defaults.top_k);
  of_model("min_p", defaults.min_p);
  of_model("repetition_penalty", defaults.repetition_penalty);
  const auto of_operator = [&](const char* key, auto& field, const auto& value) {
    if (llama_factory || config.given.contains(key)) field = value;
  };
  of_operator("do_sample", defaults.do_sample, config.do_sample);
  of_operator("temperature", defaults.temperature, config.temperature);
  of_operator("top_p", defaults.top_p, config.top_p);
  of_operator("top_k", defaults.top_k, config.top_k);
  of_operator("repetition_penalty", defaults.repetition_penalty, config.repetition_penalty);
  of_operator("max_new_tokens", defaults.max_tokens, config.max_new_tokens);
  if (defaults.temperature <= 0) defaults.do_sample = false;
  return defaults;
}

Service::Service(ServeConfig given, std::string version_, bool llama_factory_, LlamaFactoryApi api_)
    : config(std::move(given)),
      version(std::move(version_)),
      llama_factory(llama_factory_),
      api(std::move(api_)),
      keys(accepted_keys(config)),
      launch(random_hex(12)),
      started(std::time(nullptr)) {}

Service::~Service() = default;

void Service::open(std::unique_ptr<LoadedModel> model) {
  loaded = std::move(model);
  model_name = llama_factory ? api.model_name : config.served_model_name.value_or(own_name(loaded->config.model_name_or_path));
  metrics = std::make_unique<Metrics>(model_name);
  grammars = std::make_unique<Grammars>(*loaded->text.tokenizer);
  if (const auto& found = loaded->files.tokenizer_config; found && found->contains("response_template"))
    response_template = std::make_shared<const ResponseTemplate>(WireJson::parse(found->at("response_template").dump()),
                                                                 loaded->files.path + "/tokenizer_config.json");
  defaults = sampling_defaults(loaded->config, loaded->files, llama_factory);
  adapters = std::make_unique<AdapterRegistry>(
      *loaded, text_mutex,
      AdapterRegistry::Limits{
          .names = config.max_loaded_adapters, .resident = config.max_resident_adapters, .folder = config.adapter_dir.value_or("")},
      model_name, *metrics);
  mixtures = std::make_unique<AdapterMixtures>(loaded->model);
  // Those that load_for_answers opened; the others were named to it not at all.
  std::string on = loaded->adapter ? loaded->adapter->name : "";
  loaded->adapter = nullptr;
  int64_t columns = 1;
  for (auto& [name, set] : loaded->adapters) {
    columns = std::max(columns, rank_columns(set));
    const auto folder = loaded->folders.find(name);
    adapters->add_open(name, std::move(set), loaded->formats.at(name), folder == loaded->folders.end() ? "" : folder->second);
  }
  loaded->adapters.clear();
  if (const auto calibration = read_calibration(loaded->files.path)) decision_temperature = calibration->temperature;
  value_head = value_head_beside(loaded->files.path, loaded->model.config.hidden_size);
  if (llama_factory) default_adapter = on;

  const Model& m = loaded->model;
  const int64_t positions = std::max<int64_t>(m.config.max_position_embeddings, 2);
  max_model_len = config.max_model_len.value_or(std::min(positions, kMostTokens));
  if (max_model_len > positions)
    throw Error(ErrorKind::usage, fmt::format("max_model_len is {}, and the model has {} positions", max_model_len, positions),
                "lower max_model_len, or give rope_scaling");
  const size_t per_row = kv_cache_bytes(m, max_model_len, 1) / static_cast<size_t>(max_model_len) + 1;
  const size_t bytes = kv_bytes(config.kv_memory, loaded->gpu ? free_gpu_bytes() : free_memory());
  int64_t rows = std::min<int64_t>(config.max_seqs * max_model_len, static_cast<int64_t>(bytes / per_row));
  if (rows < max_model_len) {
    if (config.max_model_len)
      throw Error(ErrorKind::out_of_memory,
                  fmt::format("kv_memory {} holds {} tokens, and max_model_len is {}", config.kv_memory, rows, max_model_len),
                  "raise kv_memory or lower max_model_len");
    max_model_len = std::max<int64_t>(rows, 2);
    rows = max_model_len;
  }
  ++rows;  // the engine wants a row beyond the longest
  loop = std::make_unique<EngineLoop>(
      m, EngineLoop::Sizes{.rows = rows, .sequences = config.max_seqs, .columns = columns, .most_queued = config.max_queued_requests},
      *metrics, loaded->gpu.get());
}

std::string Service::new_id(const char* prefix) { return fmt::format("{}{}{:012x}", prefix, launch, next_id_++); }

std::string Service::fingerprint(const ServedAdapter* adapter) const {
  const std::string base = loaded->files.fingerprint + (adapter ? adapter->hash : "");
  uint64_t hash = 14695981039346656037u;  // FNV-1a: a short name of what are hashes already
  for (const char c : base) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return fmt::format("loraine-{}-{:08x}", version, static_cast<uint32_t>(hash ^ (hash >> 32)));
}

std::optional<std::string> Service::prefix_key(const ServedAdapter* adapter, const std::string& salt) const {
  if (!config.enable_prefix_caching) return {};
  // An adapter without a hash was opened with its base, and stays.
  const std::string of_adapter = !adapter ? "" : adapter->hash.empty() ? "name:" + adapter->name : "hash:" + adapter->hash;
  return fmt::format("{}\n{}\n{}", loaded->files.fingerprint, of_adapter, salt);
}

ReplyFormat Service::reply_format_of(const ServedAdapter* adapter) const {
  return reply_format(adapter ? adapter->format : loaded->format, loaded->files, response_template,
                      {config.tool_call_parser, config.reasoning_parser});
}

int Service::retry_after() const {
  const double rate = metrics->finished_per_second();
  if (rate <= 0) return 1;
  return static_cast<int>(std::clamp(std::ceil(static_cast<double>(loop->waiting_requests()) / rate), 1.0, 60.0));
}

void Call::send(HttpResponse response) const {
  response.headers.insert(response.headers.end(), headers.begin(), headers.end());
  reply->send(std::move(response));
}

void Call::json(const WireJson& value, int status) const { send({.status = status, .body = wire_text(value)}); }

void Call::fail(const ApiError& error) const { send(error_response(error, errors)); }

void in_worker(Service& service, Call call, std::function<void(Service&, Call&)> work) {
  service.workers.add([&service, call = std::move(call), work = std::move(work)]() mutable {
    if (call.reply->gone()) return;
    try {
      work(service, call);
    } catch (...) { call.fail(api_error(std::current_exception())); }
  });
}

std::shared_ptr<const ServedAdapter> find_adapter(Service& service, const std::string& model) {
  std::string name = model;
  if (service.llama_factory) name = service.adapters->has(model) ? model : "";
  if (name == service.model_name || name == "base" || name == service.loaded->config.model_name_or_path) name.clear();
  if (name.starts_with(service.model_name + ":")) name.erase(0, service.model_name.size() + 1);
  if (name.empty()) {
    if (model.empty() || service.llama_factory) name = service.default_adapter;
    if (name.empty()) return nullptr;
  }
  if (auto adapter = service.adapters->find(name)) return adapter;
  // A folder of adapter_dir whose name is asked for is loaded, as LoRAX does.
  if (service.config.allow_runtime_lora_updating && is_adapter_name(name) && name != "." && name != "..") {
    try {
      service.adapters->load(name, name, false, false);
    } catch (const Error&) {}  // it is not there, or no adapter; or somebody else was faster
    if (auto adapter = service.adapters->find(name)) return adapter;
  }
  std::vector<std::string> names{service.model_name};
  for (const AdapterListing& one : service.adapters->list()) names.push_back(one.name);
  const std::string near = nearest_word(name, names);
  throw ApiError{404,
                 fmt::format("the model '{}' does not exist{}", model.substr(0, 200),
                             near.empty() ? "; GET /v1/models lists those there are" : ", did you mean '" + near + "'?"),
                 "model", "model_not_found"};
}

}  // namespace loraine
