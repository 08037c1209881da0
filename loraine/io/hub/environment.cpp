#include "loraine/io/hub/environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <ctime>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/hub/modelscope_login.h"
#include "loraine/io/hub/url.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

// ~ at the start of what a variable names.
fs::path expanded(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  return fs::path(variable("HOME").value_or("/")) / path.substr(std::min<size_t>(2, path.size()));
}

fs::path cache_home() {
  if (const auto home = variable("XDG_CACHE_HOME")) return *home;
  return fs::path(variable("HOME").value_or("/")) / ".cache";
}

fs::path hugging_face_home() {
  if (const auto home = variable("HF_HOME")) return expanded(*home);
  return cache_home() / "huggingface";
}

int64_t seconds(const char* name, int64_t otherwise) {
  const auto text = variable(name);
  if (!text) return otherwise;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < 1 || value > 86400)
    throw Error(ErrorKind::usage,
                fmt::format("the environment variable {} is '{}', expected a whole number of seconds from 1", name, *text));
  return value;
}

// What is around it is no part of a token.
std::string trimmed(std::string text) {
  const char* blanks = " \t\r\n";
  text.erase(std::min(text.find_last_not_of(blanks) + 1, text.size()));
  return text.substr(std::min(text.find_first_not_of(blanks), text.size()));
}

// A line end within would begin a header of its own.
HubToken checked(HubToken token) {
  token.secret = trimmed(token.secret);
  if (!is_token(token.secret))
    throw Error(ErrorKind::usage, fmt::format("the token of {} holds blanks or letters that no token has", token.origin),
                "copy it once more from the hub's page of access tokens");
  return token;
}

std::string token_file() {
  if (const auto path = variable("HF_TOKEN_PATH")) return expanded(*path).string();
  return (hugging_face_home() / "token").string();
}

HubToken hugging_face_token(const HubAccess& access, bool to_write) {
  if (!access.token.empty()) return {access.token, access.token_key};
  if (!to_write && is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return {};
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (const auto token = variable(name)) return {*token, name};
  std::error_code failed;
  if (const std::string file = token_file(); fs::is_regular_file(file, failed)) return {read_file(file, 1 << 16), "the file " + file};
  return {};
}

HubToken modelscope_token(const HubAccess& access) {
  if (!access.modelscope_token.empty()) return {access.modelscope_token, "ms_hub_token"};
  if (const char* token = std::getenv("MODELSCOPE_API_TOKEN")) return {token, "MODELSCOPE_API_TOKEN"};  // an empty one: none is sent
  std::error_code failed;
  const std::string file = modelscope_cookies().string();
  if (!fs::is_regular_file(file, failed)) return {};
  std::string host = url_host(endpoint(Hub::modelscope));
  host = host.substr(0, host.find(':'));
  return {session_cookie(file, read_file(file, 1 << 20), host, std::time(nullptr)), "the file " + file};
}

}  // namespace

bool is_token(const std::string& text) {
  return text.size() <= 8192 && std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > 32 && c < 127; });
}

bool is_set(const char* name) {
  std::string value = variable(name).value_or("");
  std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

bool offline() { return variable("HF_HUB_OFFLINE") ? is_set("HF_HUB_OFFLINE") : is_set("TRANSFORMERS_OFFLINE"); }

Hub preferred_hub() { return is_set("USE_MODELSCOPE_HUB") ? Hub::modelscope : Hub::hugging_face; }

fs::path cache_root(Hub hub, const HubAccess& access) {
  if (!access.cache_dir.empty()) return access.cache_dir;
  if (hub == Hub::modelscope) {
    if (const auto root = variable("MODELSCOPE_CACHE")) return expanded(*root);
    return fs::path(variable("HOME").value_or("/")) / ".cache" / "modelscope";
  }
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const auto root = variable(name)) return expanded(*root);
  return hugging_face_home() / "hub";
}

std::string endpoint(Hub hub) {
  const char* name = "HF_ENDPOINT";
  std::string address = variable(name).value_or("https://huggingface.co");
  if (hub == Hub::modelscope) {
    name = variable("MODELSCOPE_ENDPOINT") ? "MODELSCOPE_ENDPOINT" : "MODELSCOPE_DOMAIN";
    address = variable(name).value_or("https://www.modelscope.cn");
    if (address.find("://") == address.npos) address = "https://" + address;
  }
  while (address.ends_with('/')) address.pop_back();
  const size_t host = address.find("://");
  const bool plain = std::all_of(address.begin(), address.end(), [](unsigned char c) { return c > 32 && c < 127; });
  if (!plain || !(address.starts_with("http://") || address.starts_with("https://")) || address.size() == host + 3 ||
      address.find('@') != address.npos)
    throw Error(ErrorKind::usage, fmt::format("the environment variable {} is no address of a hub", name),
                "expected one like https://huggingface.co, without a name or password in it");
  return address;
}

HubToken hub_token(Hub hub, const HubAccess& access, bool to_write) {
  return checked(hub == Hub::modelscope ? modelscope_token(access) : hugging_face_token(access, to_write));
}

int64_t download_timeout() { return seconds("HF_HUB_DOWNLOAD_TIMEOUT", 10); }
int64_t answer_timeout() { return seconds("HF_HUB_ETAG_TIMEOUT", 10); }

}  // namespace loraine
