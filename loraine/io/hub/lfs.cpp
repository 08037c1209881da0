#include "loraine/io/hub/lfs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/hub/listing.h"

namespace loraine {
namespace {

using Json = nlohmann::json;

constexpr size_t kObjectsAsked = 100;
const char* const kLfsType = "application/vnd.git-lfs+json";

[[noreturn]] void malformed(const std::string& id, const std::string& what) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} in the hub's answer about large files", id, what),
              "is the address that of a hub? (HF_ENDPOINT, MODELSCOPE_ENDPOINT)");
}

// Behind a mirror: addresses of the hub itself mean the mirror.
std::string own_address(const HttpClient& client, std::string url) {
  const std::string hub = "https://huggingface.co";
  if (client.endpoint() != hub && url.starts_with(hub + "/")) url = client.endpoint() + url.substr(hub.size());
  return url;
}

// A header that is to be sent along; an end of a line in it would begin another.
bool is_header(const std::string& name, const std::string& value) {
  const auto printable = [](unsigned char c) { return c >= 32 && c < 127; };
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; }) &&
         std::all_of(value.begin(), value.end(), printable);
}

struct Action {
  std::string url;
  std::map<std::string, std::string> header;
};

Action read_action(const HttpClient& client, const std::string& id, const Json& json) {
  if (!json.is_object() || !json.contains("href") || !json["href"].is_string()) malformed(id, "an action without an address");
  Action action{own_address(client, json["href"].get<std::string>()), {}};
  if (json.contains("header") && json["header"].is_object())
    for (const auto& [name, value] : json["header"].items()) {
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      if (!is_header(name, text)) malformed(id, "a header that cannot be sent");
      action.header[name] = text;
    }
  return action;
}

class Sender {
 public:
  Sender(HttpClient& client, const std::string& id, const UploadFile& file)
      : client_(client), id_(id), file_(file), state_{file.path, 0, file.size, 0, false, true}, start_(std::chrono::steady_clock::now()) {}

  void send(const Action& upload) {
    if (const auto size = upload.header.find("chunk_size"); size != upload.header.end()) send_parts(upload, size->second);
    else send_whole(upload);
    state_.done = state_.total;
    state_.finished = true;
    tell();
  }

  void verify(const Action& action) {
    const HttpAnswer answer = client_.send(json_request("POST", action.url, {{"oid", file_.sha256}, {"size", file_.size}}));
    check(answer, "while the hub looked at what it got");
  }

 private:
  void send_whole(const Action& upload) {
    HttpRequest request = put(upload.url, 0, file_.size);
    for (const auto& [name, value] : upload.header) request.headers.push_back(name + ": " + value);
    const HttpAnswer answer = client_.send(request);
    check(answer, "while its content was sent");
    // ModelScope may refuse in the text of a good answer; stores of objects answer nothing.
    const Json json = Json::parse(answer.body, nullptr, false);
    if (client_.hub() == Hub::modelscope && json.is_object() && json.value("Success", Json(true)) == false)
      throw Error(ErrorKind::bad_data, fmt::format("{}, {}: {} does not take its content: {}", id_, file_.path, url_host(answer.url),
                                                   client_.safe(text_of(json, "Message"))));
  }

  void send_parts(const Action& upload, const std::string& size_text) {
    uint64_t size = 0;
    const auto [end, error] = std::from_chars(size_text.data(), size_text.data() + size_text.size(), size);
    if (error != std::errc() || end != size_text.data() + size_text.size() || size == 0) malformed(id_, "a size of parts that is none");
    std::map<uint64_t, std::string> urls;  // by number
    for (const auto& [name, value] : upload.header)
      if (std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c); }) && name.size() < 10)
        urls[std::stoull(name)] = value;
    if (urls.size() != (file_.size + size - 1) / size)
      malformed(id_, fmt::format("{} addresses for the parts of {}", urls.size(), file_.path));
    Json parts = Json::array();
    uint64_t at = 0;
    for (const auto& [number, url] : urls) {
      const HttpAnswer answer = client_.send(put(url, at, std::min(size, file_.size - at)));
      check(answer, "while a part of its content was sent");
      const std::string etag = answer.header("etag");
      if (etag.empty()) malformed(id_, "no ETag of a part");
      parts.push_back({{"partNumber", parts.size() + 1}, {"etag", etag}});
      at += std::min(size, file_.size - at);
    }
    HttpRequest request = json_request("POST", upload.url, {{"oid", file_.sha256}, {"parts", parts}});
    request.headers = {std::string("Accept: ") + kLfsType, std::string("Content-Type: ") + kLfsType};
    check(client_.send(request), "while its parts were put together");
  }

  HttpRequest put(const std::string& url, uint64_t offset, uint64_t size) {
    HttpRequest request{.method = "PUT", .url = own_address(client_, url)};
    request.file = HttpRequest::FilePart{file_.place, offset, size};
    request.may_have_token = client_.hub() == Hub::modelscope;
    request.token_in_domain = true;
    request.progress = [this, offset](uint64_t sent) {
      state_.done = offset + sent;
      tell();
    };
    return request;
  }

  void check(const HttpAnswer& answer, const std::string& when) const {
    if (!is_good(answer)) throw with_context(failed_request(client_, answer, id_ + ", " + file_.path, id_, HubKind::model), when);
  }

  void tell() {
    using Clock = std::chrono::steady_clock;
    if (!transfer_screen().progress) return;
    const auto now = Clock::now();
    if (!state_.finished && now - told_ < std::chrono::milliseconds(100)) return;
    told_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    state_.bytes_per_second = seconds > 0 ? static_cast<double>(state_.done) / seconds : 0;
    transfer_screen().progress(state_);
  }

  HttpClient& client_;
  const std::string& id_;
  const UploadFile& file_;
  TransferState state_;
  std::chrono::steady_clock::time_point start_, told_{};
};

HttpRequest batch_request(const HttpClient& client, const std::string& id, const std::string& branch, const Json& objects) {
  if (client.hub() == Hub::modelscope)
    return json_request("POST", fmt::format("{}/api/v1/repos/models/{}/info/lfs/objects/batch", client.endpoint(), url_path(id)),
                        {{"operation", "upload"}, {"objects", objects}});
  HttpRequest request = json_request("POST", fmt::format("{}/{}.git/info/lfs/objects/batch", client.endpoint(), url_path(id)),
                                     {{"operation", "upload"},
                                      {"transfers", {"basic", "multipart"}},
                                      {"objects", objects},
                                      {"hash_algo", "sha256"},
                                      {"ref", {{"name", branch}}}});
  request.headers = {std::string("Accept: ") + kLfsType, std::string("Content-Type: ") + kLfsType};
  return request;
}

// What the hub says of each content: where it is to be sent, or that it has it. ModelScope is silent about those that it has.
void send_objects(HttpClient& client, const std::string& id, const std::string& branch, const std::vector<const UploadFile*>& files) {
  Json objects = Json::array();
  for (const UploadFile* file : files) objects.push_back({{"oid", file->sha256}, {"size", file->size}});
  const HttpAnswer answer = client.send(batch_request(client, id, branch, objects));
  if (!is_good(answer)) throw with_context(failed_request(client, answer, id, id, HubKind::model), "before large files were sent");
  const bool silent = client.hub() == Hub::modelscope;
  Json json = parse_answer(client, answer);
  if (silent && json.is_object() && json.contains("Data")) json = Json(json["Data"]);
  if (silent && json.is_object() && json.value("objects", Json()).is_null()) return;
  if (!json.is_object() || !json.contains("objects") || !json["objects"].is_array()) malformed(id, "no list of objects");
  std::set<std::string> told;
  for (const Json& one : json["objects"]) {
    const std::string oid = one.is_object() && one.contains("oid") && one["oid"].is_string() ? one["oid"].get<std::string>() : "";
    const auto found = std::find_if(files.begin(), files.end(), [&](const UploadFile* file) { return file->sha256 == oid; });
    if (found == files.end()) malformed(id, "an object that was not asked for");
    if (one.contains("error"))
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} does not take {}: {}", id, url_host(answer.url), (*found)->path, client.safe(one["error"].dump())));
    told.insert(oid);
    if (!one.contains("actions") || !one["actions"].is_object() || !one["actions"].contains("upload")) continue;  // it is there
    Sender sender(client, id, **found);
    sender.send(read_action(client, id, one["actions"]["upload"]));
    if (one["actions"].contains("verify")) sender.verify(read_action(client, id, one["actions"]["verify"]));
  }
  for (const UploadFile* file : files)
    if (!silent && !told.contains(file->sha256)) malformed(id, "nothing about " + file->path);
}

}  // namespace

HttpRequest json_request(const std::string& method, const std::string& url, const Json& body) {
  return {.method = method,
          .url = url,
          .headers = {"Content-Type: application/json"},
          .body = body.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

void upload_large_files(HttpClient& client, const std::string& id, const std::string& branch, const std::vector<UploadFile>& files) {
  std::vector<const UploadFile*> large;
  std::set<std::string> seen;  // contents may be alike
  for (const UploadFile& file : files)
    if (file.large && seen.insert(file.sha256).second) large.push_back(&file);
  for (size_t first = 0; first < large.size(); first += kObjectsAsked)
    send_objects(client, id, branch,
                 {large.begin() + static_cast<std::ptrdiff_t>(first),
                  large.begin() + static_cast<std::ptrdiff_t>(std::min(large.size(), first + kObjectsAsked))});
}

}  // namespace loraine
