// See settings.h.
#include "loraine/serve/settings.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/serve/reply_format.h"
#include "loraine/train/config/config.h"
#include "loraine/train/memory.h"

namespace loraine {
namespace {

constexpr double kMost = 1e9;

Limits between(double lowest, double highest) {
  Limits limits;
  limits.lowest = lowest;
  limits.highest = highest;
  return limits;
}

Limits comma_list(bool secret = false) {
  Limits limits;
  limits.comma_list = true;
  limits.secret = secret;
  return limits;
}

}  // namespace

void describe(ServeConfig& c, const OptionVisitor& visit) {
  const char* group = "server";
  visit({"host", group, &c.host, "address to listen on; one that others reach needs api_key or insecure"});
  visit({"port", group, &c.port, "port; 0: any that is free, which is then shown", between(0, 65535)});
  visit({"unix_socket", group, &c.unix_socket, "path of a Unix socket to listen on instead of host and port, for this user alone"});
  visit({"api_key", group, &c.api_key,
         "comma list of keys, one of which a request must bring: Authorization: Bearer KEY, or x-api-key: KEY", comma_list(true)});
  visit({"api_key_file", group, &c.api_key_file, "file of such keys, a line each"});
  visit({"insecure", group, &c.insecure, "listen where others reach it without a key"});
  visit({"allowed_origins", group, &c.allowed_origins,
         "comma list of origins (https://example.org) whose pages may ask from a browser; *: all", comma_list()});
  visit({"served_model_name", group, &c.served_model_name, "name of the base model in requests; null: that of its folder"});
  visit({"allow_runtime_lora_updating", group, &c.allow_runtime_lora_updating, "requests may load and unload adapters of adapter_dir"});
  visit({"adapter_dir", group, &c.adapter_dir, "the only folder that such requests may name"});
  visit({"max_loaded_adapters", group, &c.max_loaded_adapters, "most adapters with a name", between(1, kMost)});
  visit({"max_resident_adapters", group, &c.max_resident_adapters,
         "most adapters in memory beside those in use; others are read again when they are asked for", between(1, kMost)});
  visit({"max_seqs", group, &c.max_seqs, "most sequences that run at once; others wait", between(1, 1024)});
  visit({"max_model_len", group, &c.max_model_len, "most tokens of prompt and answer together; null: the model's positions, at most 8192",
         between(2, kMost)});
  visit({"kv_memory", group, &c.kv_memory, "memory for keys and values: a share of what is free, or a size such as 4GiB"});
  visit({"max_queued_requests", group, &c.max_queued_requests, "most requests that wait; further ones get status 429", between(1, kMost)});
  visit({"max_body_size", group, &c.max_body_size, "largest body of a request"});
  visit({"request_timeout", group, &c.request_timeout, "seconds after which an answer is cut off; 0: never", between(0, kMost)});
  visit({"drain_timeout", group, &c.drain_timeout, "seconds that running answers have when the server is asked to end", between(0, kMost)});
  visit({"enable_prefix_caching", group, &c.enable_prefix_caching,
         "keys and values of a prompt's beginning are kept for requests with the same beginning and adapter"});
  visit({"tool_call_parser", group, &c.tool_call_parser,
         "form in which the model writes calls of tools: auto (by its template), hermes, qwen3_coder, llama3_json, mistral, gemma4, "
         "glm4_moe, "
         "pythonic, phi4_mini, deepseek_v3, nemotron_v2, command_r, action, json"});
  visit({"reasoning_parser", group, &c.reasoning_parser,
         "marks around thoughts: auto (by its template), none, think, mistral, seed_oss, gpt_oss, gemma4"});
  visit({"metrics", group, &c.metrics, "GET /metrics for Prometheus"});
  visit({"verbose", group, &c.verbose, "a line for every request, to stderr"});
}

std::vector<Option> options_of(ServeConfig& config) {
  std::vector<Option> all;
  describe(config, [&](const Option& option) { all.push_back(option); });
  return all;
}

std::vector<Setting> environment_settings(const std::function<const char*(const char*)>& get) {
  std::vector<Setting> settings;
  ServeConfig config;
  for (const Option& option : options_of(config)) {
    std::string name = "LORAINE_" + option.name;
    std::ranges::transform(name, name.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
    if (const char* value = get(name.c_str()); value && *value)
      settings.push_back({.key = option.name, .text = value, .typed = false, .where = name});
  }
  return settings;
}

LlamaFactoryApi read_llama_factory_api(const std::function<const char*(const char*)>& get, std::vector<Setting>& settings) {
  const auto value = [&](const char* name) {
    const char* text = get(name);
    return std::string(text ? text : "");
  };
  const auto setting = [&](const char* name, const char* key) {
    if (const std::string text = value(name); !text.empty()) settings.push_back({.key = key, .text = text, .typed = false, .where = name});
  };
  setting("API_HOST", "host");
  setting("API_PORT", "port");
  setting("API_KEY", "api_key");
  setting("MAX_CONCURRENT", "max_seqs");
  const std::string verbose = value("API_VERBOSE");
  settings.push_back({.key = "verbose",
                      .text = verbose.empty() || verbose == "1" || verbose == "true" ? "true" : "false",
                      .typed = false,
                      .where = "API_VERBOSE"});
  LlamaFactoryApi api;
  if (const std::string name = value("API_MODEL_NAME"); !name.empty()) api.model_name = name;
  api.root_path = value("FASTAPI_ROOT_PATH");
  while (api.root_path.ends_with('/')) api.root_path.pop_back();
  if (!api.root_path.empty() && api.root_path[0] != '/')
    throw Error(ErrorKind::usage, "FASTAPI_ROOT_PATH is '" + api.root_path + "', a path that begins with / was expected", "such as /v0");
  return api;
}

bool is_loopback_name(const std::string& host) {
  if (host == "localhost" || host == "::1" || host == "[::1]") return true;
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

void check_serve_config(const ServeConfig& config) {
  const bool has_key = config.api_key || config.api_key_file;
  if (!config.unix_socket && !has_key && !config.insecure && !is_loopback_name(config.host))
    throw Error(ErrorKind::usage,
                fmt::format("host {} is reached from other machines, and no api_key is set: anyone there could use the model", config.host),
                "set api_key, or listen on 127.0.0.1, or say insecure: true");
  if (config.allow_runtime_lora_updating && !config.adapter_dir)
    throw Error(ErrorKind::usage, "allow_runtime_lora_updating is set, and adapter_dir is not",
                "name the folder that requests may load from: adapter_dir FOLDER");
  kv_bytes(config.kv_memory, 0);
  check_reply_parsers({config.tool_call_parser, config.reasoning_parser});
  parse_memory_limit(config.max_body_size);
}

std::vector<std::string> accepted_keys(const ServeConfig& config) {
  std::vector<std::string> keys = split_list(config.api_key);
  if (config.api_key && keys.empty()) throw Error(ErrorKind::usage, "api_key is empty", "give a key, or leave api_key out");
  if (config.api_key_file) {
    const std::string text = read_file(*config.api_key_file, 1 << 20);
    const size_t before = keys.size();
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
      while (!line.empty() && blank(line.back())) line.pop_back();
      while (!line.empty() && blank(line.front())) line.erase(0, 1);
      if (!line.empty() && line[0] != '#') keys.push_back(line);
    }
    if (keys.size() == before) throw Error(ErrorKind::usage, *config.api_key_file + ": holds no key", "write one a line");
  }
  for (const std::string& key : keys)
    if (std::ranges::any_of(key, [](char c) { return c <= 0x20 || c >= 0x7f; }))
      throw Error(ErrorKind::usage, "a key of api_key holds a blank or a character that no header can carry",
                  "use letters, digits and signs");
  return keys;
}

size_t kv_bytes(const std::string& text, size_t free) {
  char* end = nullptr;
  const double share = std::strtod(text.c_str(), &end);
  if (end != text.c_str() && *end == '\0' && share > 0 && share <= 1) return static_cast<size_t>(share * static_cast<double>(free));
  try {
    return parse_memory_limit(text);
  } catch (const Error& error) {
    throw Error(ErrorKind::usage, fmt::format("kv_memory is '{}', expected was a share above 0 and up to 1, or a size", text),
                "such as 0.3, 800MiB or 4GiB");
  }
}

}  // namespace loraine
