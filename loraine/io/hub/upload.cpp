// The story of an upload: account, repository, how each file is to be sent, large contents, the commit.
#include "loraine/io/hub/upload.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/hub/hash.h"
#include "loraine/io/hub/lfs.h"
#include "loraine/io/hub/listing.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFilesAsked = 256, kSample = 512;
constexpr uint64_t kMostInCommit = 256u << 20;  // bytes of small files together

Error refused(const HttpClient& client, const HttpAnswer& answer, const std::string& id, const std::string& doing) {
  if (answer.status == 401 || answer.status == 403) {
    const std::string words = words_of(client, answer);
    return Error(ErrorKind::bad_data,
                 fmt::format("{}: {}: {} answers {}: the token of {} may not write there{}", doing, id, url_host(answer.url), answer.status,
                             client.token().origin, words.empty() ? "" : " (" + words + ")"),
                 fmt::format("make a token with the permission to write at {}/settings/tokens, of an account that may write to {}",
                             client.endpoint(), id));
  }
  return with_context(failed_request(client, answer, id, id, HubKind::model), doing);
}

bool is_good(const HttpAnswer& answer) { return answer.status >= 200 && answer.status < 300; }

void check_token(const HttpClient& client) {
  if (client.token().secret.empty())
    throw Error(ErrorKind::usage, fmt::format("an upload to {} needs an access token, and none is set", url_host(client.endpoint())),
                fmt::format("make one that may write at {}/settings/tokens and set HF_TOKEN or hub_token to it, or run hf auth login",
                            client.endpoint()));
}

std::string account(HttpClient& client) {
  const HttpAnswer answer = client.send({.url = client.endpoint() + "/api/whoami-v2"});
  if (answer.status == 401)
    throw Error(ErrorKind::bad_data, fmt::format("{} does not accept the token of {}", url_host(client.endpoint()), client.token().origin),
                fmt::format("make one that may write at {}/settings/tokens", client.endpoint()));
  if (!is_good(answer)) throw refused(client, answer, "the token's account", "before the upload");
  const Json json = parse_answer(client, answer);
  const std::string name = json.is_object() ? text_of(json, "name") : "";
  if (!is_hub_id(name) || name.find('/') != name.npos)
    throw Error(ErrorKind::bad_data, fmt::format("{}: its answer names no account", url_host(answer.url)));
  return name;
}

// 409: it is there; 401 to 403: perhaps it is there, and the token may write to it but make none.
void make_repository(HttpClient& client, const UploadTarget& target, const std::string& user) {
  const size_t slash = target.id.find('/');
  const std::string owner = target.id.substr(0, slash);
  Json body = {{"type", "model"}, {"name", target.id.substr(slash + 1)}, {"organization", owner == user ? Json() : Json(owner)}};
  if (target.is_private) body["private"] = *target.is_private;
  const HttpAnswer answer = client.send(json_request("POST", client.endpoint() + "/api/repos/create", body));
  if (is_good(answer) || answer.status == 409) return;
  if (answer.status >= 401 && answer.status <= 403 &&
      is_good(client.send({.url = client.endpoint() + "/api/models/" + url_path(target.id)})))
    return;
  throw refused(client, answer, target.id, "while making the repository");
}

void make_branch(HttpClient& client, const UploadTarget& target) {
  if (target.branch == "main") return;
  const std::string url = fmt::format("{}/api/models/{}/branch/{}", client.endpoint(), url_path(target.id), url_part(target.branch));
  const HttpAnswer answer = client.send(json_request("POST", url, Json::object()));
  if (!is_good(answer) && answer.status != 409) throw refused(client, answer, target.id, "while making the branch " + target.branch);
}

std::string first_bytes(const std::string& path, uint64_t size) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  std::string bytes(std::min<uint64_t>(size, kSample), '\0');
  if (!file || std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) throw Error(ErrorKind::io, path + ": cannot be read");
  return bytes;
}

// How the hub wants each file: in the commit or over LFS; and which of them it has already, or ignores.
void ask_for_modes(HttpClient& client, const UploadTarget& target, std::vector<UploadFile>& files) {
  const std::string url = fmt::format("{}/api/models/{}/preupload/{}", client.endpoint(), url_path(target.id), url_part(target.branch));
  for (size_t first = 0; first < files.size(); first += kFilesAsked) {
    Json list = Json::array();
    for (size_t i = first; i < std::min(files.size(), first + kFilesAsked); ++i)
      list.push_back({{"path", files[i].path}, {"size", files[i].size}, {"sample", base64(first_bytes(files[i].place, files[i].size))}});
    const HttpAnswer answer = client.send(json_request("POST", url, {{"files", list}}));
    if (!is_good(answer)) throw refused(client, answer, target.id, "before the upload");
    const Json json = parse_answer(client, answer);
    std::map<std::string, const Json*> told;
    if (json.is_object() && json.contains("files") && json["files"].is_array())
      for (const Json& one : json["files"])
        if (one.is_object() && one.contains("path") && one["path"].is_string()) told[one["path"].get<std::string>()] = &one;
    for (size_t i = first; i < std::min(files.size(), first + kFilesAsked); ++i) {
      UploadFile& file = files[i];
      const auto found = told.find(file.path);
      const std::string mode = found == told.end() ? "" : text_of(*found->second, "uploadMode");
      if (mode != "lfs" && mode != "regular")
        throw Error(ErrorKind::bad_data, fmt::format("{}: {} does not say how {} is to be sent", target.id, url_host(url), file.path),
                    "is the address that of a hub? (HF_ENDPOINT)");
      file.large = mode == "lfs" && file.size > 0;
      file.ignored = found->second->contains("shouldIgnore") && (*found->second)["shouldIgnore"] == true;
      const Json& there = found->second->contains("oid") ? (*found->second)["oid"] : Json();
      if (file.large) file.sha256 = sha256_of_file(file.place);
      if (there.is_string()) file.there = there.get<std::string>() == (file.large ? file.sha256 : git_sha1_of_file(file.place));
    }
  }
}

// One JSON text per line: what the commit says, then its files.
std::string commit_body(const UploadTarget& target, const std::vector<UploadFile>& files) {
  std::string body = Json{{"key", "header"}, {"value", {{"summary", target.message}, {"description", ""}}}}.dump() + "\n";
  uint64_t small = 0;
  for (const UploadFile& file : files) {
    Json value = {{"path", file.path}};
    if (file.large) {
      value.update({{"algo", "sha256"}, {"oid", file.sha256}, {"size", file.size}});
    } else {
      small += file.size;
      if (small > kMostInCommit)
        throw Error(ErrorKind::bad_data,
                    fmt::format("{}: the hub wants files of more than {} bytes in one commit", target.id, kMostInCommit));
      value.update({{"encoding", "base64"}, {"content", base64(read_file(file.place))}});
    }
    body += Json{{"key", file.large ? "lfsFile" : "file"}, {"value", value}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return body;
}

}  // namespace

std::string prepare_upload(const UploadTarget& given, const HubAccess& access) {
  UploadTarget target = given;
  if (!is_hub_id(target.id))
    throw Error(ErrorKind::usage, fmt::format("'{}' is no name of a repository to upload to", target.id),
                "give hub_model_id: org/name, or a name, of letters, digits, -, _ and .");
  if (offline())
    throw Error(ErrorKind::usage, "an upload is asked for, and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set",
                "unset it, or leave push_to_hub out and upload later: hf upload");
  HttpClient client(Hub::hugging_face, access, true);
  check_token(client);
  const std::string user = account(client);
  if (target.id.find('/') == target.id.npos) target.id = user + "/" + target.id;
  make_repository(client, target, user);
  make_branch(client, target);
  return target.id;
}

UploadResult upload_files(const UploadTarget& target, const std::string& folder, const std::vector<std::string>& paths,
                          const HubAccess& access) {
  HttpClient client(Hub::hugging_face, access, true);
  check_token(client);
  std::vector<UploadFile> files;
  for (const std::string& path : paths) {
    UploadFile file{path, folder + "/" + path};
    std::error_code failed;
    file.size = fs::file_size(file.place, failed);
    if (failed || !is_safe_path(path))
      throw Error(ErrorKind::io, file.place + ": cannot be uploaded" + (failed ? ": " + failed.message() : ""));
    files.push_back(std::move(file));
  }
  ask_for_modes(client, target, files);
  std::erase_if(files, [](const UploadFile& file) { return file.ignored || file.there; });
  UploadResult result{page_url(client, target.id, HubKind::model), files.size(), 0};
  for (const UploadFile& file : files) result.bytes += file.size;
  if (files.empty()) return result;
  if (transfer_screen().message)
    transfer_screen().message(
        fmt::format("uploading {} file{}, {} bytes, to {}", files.size(), files.size() == 1 ? "" : "s", result.bytes, result.url));
  upload_large_files(client, target.id, target.branch, files);
  const std::string url = fmt::format("{}/api/models/{}/commit/{}", client.endpoint(), url_path(target.id), url_part(target.branch));
  const HttpAnswer answer =
      client.send({.method = "POST", .url = url, .headers = {"Content-Type: application/x-ndjson"}, .body = commit_body(target, files)});
  if (!is_good(answer)) throw refused(client, answer, target.id, "at the commit");
  const Json json = parse_answer(client, answer);
  if (json.is_object() && json.contains("commitUrl") && json["commitUrl"].is_string())
    result.url = client.safe(json["commitUrl"].get<std::string>());
  return result;
}

}  // namespace loraine
