// Every setting of `loraine serve` and `loraine api`, one line each. Filled by the commands from flags, YAML and the environment.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loraine/core/describe.h"

namespace loraine {

struct ServeConfig {
  std::string host = "127.0.0.1";
  int64_t port = 8000;
  std::optional<std::string> unix_socket;
  std::optional<std::string> api_key, api_key_file;
  bool insecure = false;
  std::optional<std::string> allowed_origins;
  std::optional<std::string> served_model_name;
  bool allow_runtime_lora_updating = false;
  std::optional<std::string> adapter_dir;
  int64_t max_loaded_adapters = 1024, max_resident_adapters = 64;
  int64_t max_seqs = 16;
  std::optional<int64_t> max_model_len;
  std::string kv_memory = "0.3";
  int64_t max_queued_requests = 256;
  std::string max_body_size = "16MiB";
  double request_timeout = 0, drain_timeout = 30;
  bool enable_prefix_caching = true;
  bool metrics = true;
  bool verbose = false;
};

void describe(ServeConfig& config, const OptionVisitor& visit);
std::vector<Option> options_of(ServeConfig& config);

// Settings of the environment, LORAINE_<KEY> each; what is given elsewhere counts before them. get: std::getenv, but for tests.
std::vector<Setting> environment_settings(const std::function<const char*(const char*)>& get);

// LLaMA-Factory's variables of its `api`, read by `loraine api` alone: API_HOST, API_PORT, API_KEY, API_MODEL_NAME, FASTAPI_ROOT_PATH,
// API_VERBOSE, MAX_CONCURRENT. Throws usage naming the variable.
struct LlamaFactoryApi {
  std::string root_path;                     // before every route; "" or "/v"
  std::string model_name = "gpt-3.5-turbo";  // the one id of /v1/models
};
LlamaFactoryApi read_llama_factory_api(const std::function<const char*(const char*)>& get, std::vector<Setting>& settings);

// Rules between keys; throws usage. host beyond loopback needs a key or insecure.
void check_serve_config(const ServeConfig& config);
bool is_loopback_name(const std::string& host);
// The keys that are accepted: of api_key, and the lines of api_key_file. Empty: none is asked for. Throws usage for an empty or unprintable
// one.
std::vector<std::string> accepted_keys(const ServeConfig& config);
// Bytes for keys and values: a share of `free` below 1, or a size such as "4GiB".
size_t kv_bytes(const std::string& text, size_t free);

}  // namespace loraine
