// An upload to Hugging Face's hub: how each file is to be sent, LFS for large contents, one commit with the small ones in it.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/hub/hash.h"
#include "loraine/io/hub/lfs.h"
#include "loraine/io/hub/listing.h"
#include "loraine/io/hub/upload_protocol.h"

namespace loraine {
namespace {

constexpr size_t kFilesAsked = 256, kSample = 512;
constexpr uint64_t kMostInCommit = 256u << 20;  // bytes of small files together

std::string first_bytes(const std::string& path, uint64_t size) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  std::string bytes(std::min<uint64_t>(size, kSample), '\0');
  if (!file || std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) throw Error(ErrorKind::io, path + ": cannot be read");
  return bytes;
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

class HuggingFaceUpload : public UploadProtocol {
 public:
  using UploadProtocol::UploadProtocol;

  std::string account() override {
    const HttpAnswer answer = client_.send({.url = client_.endpoint() + "/api/whoami-v2"});
    if (answer.status == 401) throw refused_token(client_);
    if (!is_good(answer)) throw refused_upload(client_, answer, "the token's account", "before the upload");
    const Json json = parse_answer(client_, answer);
    return checked_account(json.is_object() ? text_of(json, "name") : "", answer);
  }

  // 409: it is there; 401 to 403: perhaps it is there, and the token may write to it but make none.
  void make_repository(const UploadTarget& target, const std::string& user) override {
    const size_t slash = target.id.find('/');
    const std::string owner = target.id.substr(0, slash);
    Json body = {{"type", "model"}, {"name", target.id.substr(slash + 1)}, {"organization", owner == user ? Json() : Json(owner)}};
    if (target.is_private) body["private"] = *target.is_private;
    const HttpAnswer answer = client_.send(json_request("POST", client_.endpoint() + "/api/repos/create", body));
    if (is_good(answer) || answer.status == 409) return;
    if (answer.status >= 401 && answer.status <= 403 && is_good(client_.send({.url = api_url(target)}))) return;
    throw refused_upload(client_, answer, target.id, "while making the repository");
  }

  void make_branch(const UploadTarget& target) override {
    if (target.branch == "main") return;
    const HttpAnswer answer = client_.send(json_request("POST", api_url(target) + "/branch/" + url_part(target.branch), Json::object()));
    if (!is_good(answer) && answer.status != 409)
      throw refused_upload(client_, answer, target.id, "while making the branch " + target.branch);
  }

  // How the hub wants each file: in the commit or over LFS; and which of them it has already, or ignores.
  void look_at(const UploadTarget& target, std::vector<UploadFile>& files) override {
    const std::string url = api_url(target) + "/preupload/" + url_part(target.branch);
    for (size_t first = 0; first < files.size(); first += kFilesAsked) {
      Json list = Json::array();
      for (size_t i = first; i < std::min(files.size(), first + kFilesAsked); ++i)
        list.push_back({{"path", files[i].path}, {"size", files[i].size}, {"sample", base64(first_bytes(files[i].place, files[i].size))}});
      const HttpAnswer answer = client_.send(json_request("POST", url, {{"files", list}}));
      if (!is_good(answer)) throw refused_upload(client_, answer, target.id, "before the upload");
      const Json json = parse_answer(client_, answer);
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

  std::string send(const UploadTarget& target, const std::vector<UploadFile>& files) override {
    upload_large_files(client_, target.id, target.branch, files);
    const HttpAnswer answer = client_.send({.method = "POST",
                                            .url = api_url(target) + "/commit/" + url_part(target.branch),
                                            .headers = {"Content-Type: application/x-ndjson"},
                                            .body = commit_body(target, files)});
    if (!is_good(answer)) throw refused_upload(client_, answer, target.id, "at the commit");
    const Json json = parse_answer(client_, answer);
    const std::string made = json.is_object() ? text_of(json, "commitUrl") : "";
    return made.empty() ? page_url(client_, target.id, HubKind::model) : client_.safe(made);
  }

 private:
  std::string api_url(const UploadTarget& target) const { return client_.endpoint() + "/api/models/" + url_path(target.id); }
};

}  // namespace

std::unique_ptr<UploadProtocol> hugging_face_upload(HttpClient& client) { return std::make_unique<HuggingFaceUpload>(client); }

}  // namespace loraine
