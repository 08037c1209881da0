// Every row of the table without a key and before the model is there; methods, origins, kinds of body; keys; paths of adapters.
#include "loraine/serve/routes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/serve/folder_beneath.h"

namespace loraine::routes_test {
namespace {

ServerRequest request_to(const Route& route, HttpHeaders headers = {}) {
  ServerRequest request;
  request.method = route.method;
  request.path = route.path;
  if (const size_t at = request.path.find("{id}"); at != std::string::npos) request.path.replace(at, 4, "a");
  request.headers = std::move(headers);
  request.headers.emplace_back("host", "127.0.0.1:8000");
  request.headers.emplace_back("content-type", "application/json");
  return request;
}

ServeConfig with_key() {
  ServeConfig config;
  config.api_key = "one,two";
  return config;
}

int status_of(Service& service, const ServerRequest& request) {
  const auto refusal = check_head(service, request);
  return refusal ? refusal->status : 0;
}

bool is_anthropics(const Route& route) { return std::string_view(route.path).starts_with("/v1/messages"); }
int loading_status(const Route& route) { return is_anthropics(route) ? 529 : 503; }

TEST(Routes, EachWithoutAKey) {
  Service service(with_key(), "0", false, {});
  ASSERT_GT(routes().size(), 20u);
  for (const Route& route : routes()) {
    const int wanted = route.key == Key::no ? 0 : 401;
    EXPECT_EQ(status_of(service, request_to(route)), wanted) << route.path;
    EXPECT_EQ(status_of(service, request_to(route, {{"authorization", "Bearer on"}})), wanted) << route.path;
    EXPECT_EQ(status_of(service, request_to(route, {{"x-api-key", "oneone"}})), wanted) << route.path;
    for (const HttpHeaders& right : {HttpHeaders{{"authorization", "Bearer two"}}, HttpHeaders{{"x-api-key", "one"}}})
      EXPECT_EQ(status_of(service, request_to(route, right)), route.needs_model ? loading_status(route) : 0) << route.path;
  }
}

TEST(Routes, OpenOnesAreFew) {
  std::string open;
  for (const Route& route : routes())
    if (route.key == Key::no) open += std::string(route.path) + " ";
  EXPECT_EQ(open, "/health /ping /v1/health /version /ready ");
}

TEST(Routes, MethodsAndPaths) {
  Service service(ServeConfig{}, "0", false, {});
  for (const Route& route : routes()) {
    ServerRequest request = request_to(route);
    request.method = "PATCH";
    const auto refusal = check_head(service, request);
    ASSERT_TRUE(refusal) << route.path;
    EXPECT_EQ(refusal->status, 405);
    const auto allow = std::ranges::find_if(refusal->headers, [](const auto& h) { return h.first == "allow"; });
    ASSERT_NE(allow, refusal->headers.end());
    EXPECT_NE(allow->second.find(route.method), std::string::npos);
    request.method = "OPTIONS";
    EXPECT_EQ(status_of(service, request), 204);
  }
  for (const char* path : {"/", "/v1", "/v1/models/", "/v1/chat/completions/x", "/v1//models", "*", "/../health", "/healthz", "//health"}) {
    ServerRequest request = request_to(routes()[0]);
    request.path = path;
    EXPECT_EQ(status_of(service, request), std::string(path) == "/v1/models/" ? 503 : 404) << path;
  }
}

TEST(Routes, OnlyPagesThatMayAsk) {
  ServeConfig config;
  config.allowed_origins = "https://good.example";
  Service open(config, "0", false, {}), closed(ServeConfig{}, "0", false, {});
  const HttpHeaders good = {{"origin", "https://good.example"}}, evil = {{"origin", "https://evil.example"}},
                    own = {{"origin", "http://127.0.0.1:8000"}};
  EXPECT_EQ(status_of(open, request_to(routes()[0], good)), 0);
  EXPECT_EQ(status_of(open, request_to(routes()[0], evil)), 403);
  EXPECT_EQ(status_of(closed, request_to(routes()[0], good)), 403);
  EXPECT_EQ(status_of(closed, request_to(routes()[0], own)), 0);
  ServerRequest asks = request_to(routes()[0], good);
  asks.method = "OPTIONS";
  const auto told = check_head(open, asks);
  EXPECT_NE(
      std::ranges::find_if(told->headers,
                           [](const auto& h) { return h.first == "access-control-allow-origin" && h.second == "https://good.example"; }),
      told->headers.end());
  ServerRequest rebound = request_to(routes()[0]);
  rebound.headers[0].second = "evil.example:8000";
  EXPECT_EQ(status_of(closed, rebound), 403);
  Service keyed(with_key(), "0", false, {});
  EXPECT_EQ(status_of(keyed, rebound), 0);
}

TEST(Routes, LlamaFactorysRefusal) {
  Service service(with_key(), "0", true, {.root_path = "/v0"});
  for (const Route& route : routes()) {
    if (route.key != Key::yes || is_anthropics(route)) continue;  // those have errors of their own
    ServerRequest request = request_to(route);
    request.path = "/v0" + request.path;
    const auto refusal = check_head(service, request);
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->status, 401);
    const char* said = std::string_view(route.path).starts_with("/api/") ? "error" : "detail";  // Ollama's errors are a text
    EXPECT_EQ(nlohmann::json::parse(refusal->body)[said], "Invalid API key.");
  }
}

TEST(Keys, WholeAndRight) {
  const std::vector<std::string> keys = {"abc", "longer-key"};
  EXPECT_TRUE(is_key(keys, "abc"));
  EXPECT_TRUE(is_key(keys, "longer-key"));
  for (const char* wrong : {"", "ab", "abcd", "abcabc", "ABC", "longer-ke", "xbc"}) EXPECT_FALSE(is_key(keys, wrong)) << wrong;
  EXPECT_FALSE(is_key({}, "abc"));
}

TEST(Settings, WhatIsRefused) {
  ServeConfig config;
  config.host = "0.0.0.0";
  EXPECT_THROW(check_serve_config(config), Error);
  config.insecure = true;
  check_serve_config(config);
  config.insecure = false;
  config.api_key = "k";
  check_serve_config(config);
  config.allow_runtime_lora_updating = true;
  EXPECT_THROW(check_serve_config(config), Error);
  config.adapter_dir = "x";
  check_serve_config(config);
  config.kv_memory = "lots";
  EXPECT_THROW(check_serve_config(config), Error);
  EXPECT_EQ(kv_bytes("0.5", 1000), 500u);
  EXPECT_EQ(kv_bytes("1MiB", 1000), 1u << 20);
  config.api_key = " , ";
  EXPECT_THROW(accepted_keys(config), Error);
  for (const char* host : {"127.0.0.1", "127.9.9.9", "localhost", "::1"}) EXPECT_TRUE(is_loopback_name(host));
  for (const char* host : {"0.0.0.0", "localhost.evil.example", "10.0.0.1", "::", "127.0.0.1.nip.io"}) EXPECT_FALSE(is_loopback_name(host));
}

TEST(Settings, OfTheEnvironment) {
  const auto get = [](const char* name) -> const char* {
    const std::string_view n = name;
    return n == "LORAINE_MAX_SEQS" ? "3" : n == "API_PORT" ? "9" : n == "FASTAPI_ROOT_PATH" ? "/v/" : nullptr;
  };
  std::vector<Setting> settings = environment_settings(get);
  ASSERT_EQ(settings.size(), 1u);
  EXPECT_EQ(settings[0].key, "max_seqs");
  EXPECT_EQ(read_llama_factory_api(get, settings).root_path, "/v");
  EXPECT_EQ(settings[1].text, "9");
}

TEST(FolderBeneath, NoWayLeadsOut) {
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("loraine_beneath_" + std::to_string(::getpid()));
  fs::create_directories(root / "in/deep/er");
  fs::create_directories(root / "out");
  std::ofstream(root / "in/deep/file") << "x";
  fs::create_directory_symlink(root / "out", root / "in/link");
  fs::create_directories(root / "in/holds");
  fs::create_symlink(root / "out", root / "in/holds/adapter_model.safetensors");
  const std::string at = root / "in";
  EXPECT_TRUE(fs::exists(FolderBeneath(at, "deep").path() + "/file"));
  EXPECT_TRUE(fs::is_directory(FolderBeneath(at, "deep/./er/").path()));
  for (const std::string& bad : {std::string(), std::string("/etc"), std::string("../out"), std::string("deep/../../out"),
                                 std::string("link"), std::string("link/x"), std::string("holds"), std::string("deep/file"),
                                 std::string("nowhere"), std::string("deep\0x", 6), std::string(5000, 'a')})
    EXPECT_THROW(FolderBeneath(at, bad), Error) << bad.substr(0, 40);
  fs::remove_all(root);
}

}  // namespace
}  // namespace loraine::routes_test
