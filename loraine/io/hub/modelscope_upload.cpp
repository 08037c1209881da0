// An upload to ModelScope's hub: which files go apart is the client's to say, by name and size, as modelscope's own client does.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/hub/hash.h"
#include "loraine/io/hub/lfs.h"
#include "loraine/io/hub/listing.h"
#include "loraine/io/hub/upload_protocol.h"

namespace loraine {
namespace {

constexpr uint64_t kMostInline = 64u << 10;  // bytes of a file within the commit
constexpr size_t kMostActions = 2000;        // of a commit
constexpr int kPublic = 5, kPrivate = 1;

// Codes of refusals that mean: there is one of that name.
constexpr std::array<int64_t, 2> kThereAlready = {10010101001, 10010202004};
constexpr int64_t kBranchMoved = 10030000001;  // by another commit: worth another attempt

// The hub reads these itself, wherever they lie; they never go apart.
bool is_read_by_the_hub(const std::string& name) {
  static const std::set<std::string> names = {"readme.md",          ".gitattributes",    ".gitignore",         "configuration.json",
                                              "configuration.yaml", "configuration.yml", "dataset_infos.json", "config.json"};
  return names.contains(name);
}

bool is_large(const UploadFile& file) {
  static const std::set<std::string> suffixes = {".7z",      ".arrow",   ".bin",    ".bz2",     ".ckpt", ".ftz", ".gz",   ".h5",
                                                 ".joblib",  ".mlmodel", ".model",  ".msgpack", ".npy",  ".npz", ".onnx", ".ot",
                                                 ".parquet", ".pb",      ".pickle", ".pkl",     ".pt",   ".pth", ".rar",  ".safetensors",
                                                 ".tar",     ".tflite",  ".tgz",    ".wasm",    ".xz",   ".zip", ".zst"};
  const std::filesystem::path path(lower_case(file.path));
  if (file.size == 0 || is_read_by_the_hub(path.filename().string())) return false;
  return file.size > kMostInline || suffixes.contains(path.extension().string());
}

// The number of a refusal, in whichever answer; 0: none.
int64_t code_of(const HttpAnswer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  return json.is_object() && json.contains("Code") && json["Code"].is_number_integer() ? json["Code"].get<int64_t>() : 0;
}

// A good status with a refusal in its text is one.
bool is_done(const HttpAnswer& answer) {
  if (!is_good(answer)) return false;
  const Json json = Json::parse(answer.body, nullptr, false);
  return !json.is_object() || (json.value("Success", Json(true)) != false && json.value("success", Json(true)) != false);
}

class ModelScopeUpload : public UploadProtocol {
 public:
  using UploadProtocol::UploadProtocol;

  std::string account() override {
    const HttpAnswer answer = client_.send({.url = client_.endpoint() + "/openapi/v1/users/me"});
    if (answer.status == 401) throw refused_token(client_);
    if (!is_done(answer)) throw refused(answer, "the token's account", "before the upload");
    Json json = parse_answer(client_, answer);
    for (const char* key : {"data", "Data"})
      if (json.is_object() && json.contains(key)) json = Json(json[key]);
    std::string name;
    for (const char* key : {"Username", "username", "name", "preferred_username"})
      if (name.empty() && json.is_object()) name = text_of(json, key);
    return checked_account(name, answer);
  }

  void make_repository(const UploadTarget& target, const std::string&) override {
    if (is_done(client_.send({.url = client_.endpoint() + "/api/v1/models/" + url_path(target.id)}))) return;
    const size_t slash = target.id.find('/');
    // The hub wants a licence; the one that its own client gives. Whoever owns the repository changes it there.
    const Json body = {{"Path", target.id.substr(0, slash)},
                       {"Name", target.id.substr(slash + 1)},
                       {"Visibility", target.is_private.value_or(false) ? kPrivate : kPublic},
                       {"License", "Apache-2.0"}};
    const HttpAnswer answer = client_.send(json_request("POST", client_.endpoint() + "/api/v1/models", body));
    const bool there = std::find(kThereAlready.begin(), kThereAlready.end(), code_of(answer)) != kThereAlready.end();
    if (!is_done(answer) && answer.status != 409 && !there) throw refused(answer, target.id, "while making the repository");
  }

  // There is no request that makes a branch: it is there, or the upload is refused before it begins.
  void make_branch(const UploadTarget& target) override {
    if (branch(target) == "master") return;
    const HttpAnswer answer = client_.send({.url = client_.endpoint() + "/api/v1/models/" + url_path(target.id) + "/revisions"});
    if (!is_done(answer)) throw refused(answer, target.id, "while looking for the branch " + target.branch);
    const Json json = parse_answer(client_, answer);
    const Json* list = json.is_object() ? &json : nullptr;
    for (const char* key : {"Data", "RevisionMap", "Branches"}) list = list && list->contains(key) ? &(*list)[key] : nullptr;
    if (list && list->is_array())
      for (const Json& one : *list)
        if (one.is_object() && text_of(one, "Revision") == target.branch) return;
    throw Error(
        ErrorKind::bad_data,
        fmt::format("{}: {} has no branch {} of it, and lets none be made but by git", target.id, url_host(answer.url), target.branch),
        "leave hub_revision out, which means master, or push the branch with git first");
  }

  void look_at(const UploadTarget& target, std::vector<UploadFile>& files) override {
    Listing there;
    try {
      there = ask_for_listing(client_, target.id, HubKind::model);
    } catch (const HubRefusal& error) {
      if (!error.not_there) throw;  // one without a commit has no list
    }
    for (UploadFile& file : files) {
      file.sha256 = sha256_of_file(file.place);
      file.large = is_large(file);
      const ListedFile* listed = there.find(file.path);
      file.there = listed && listed->sha256 == file.sha256 && listed->size == file.size;
    }
  }

  std::string send(const UploadTarget& target, const std::vector<UploadFile>& files) override {
    if (files.size() > kMostActions)
      throw Error(ErrorKind::bad_data, fmt::format("{}: {} files are new, and {} takes {} at once", target.id, files.size(),
                                                   url_host(client_.endpoint()), kMostActions));
    upload_large_files(client_, target.id, branch(target), files);
    Json actions = Json::array();
    for (const UploadFile& file : files)
      actions.push_back({{"action", "create"},  // or change: the hub makes no difference
                         {"path", file.path},
                         {"type", file.large ? "lfs" : "normal"},
                         {"size", file.size},
                         {"sha256", file.large ? file.sha256 : ""},
                         {"content", file.large ? "" : base64(read_file(file.place))},
                         {"encoding", file.large ? "" : "base64"}});
    const std::string url =
        fmt::format("{}/api/v1/repos/models/{}/commit/{}", client_.endpoint(), url_path(target.id), url_path(branch(target)));
    const HttpRequest request = json_request("POST", url, {{"commit_message", target.message}, {"actions", actions}});
    HttpAnswer answer = client_.send(request);
    for (Patience patience; !is_done(answer) && code_of(answer) == kBranchMoved && patience.wait();) answer = client_.send(request);
    if (!is_done(answer)) throw refused(answer, target.id, "at the commit");
    return page_url(client_, target.id, HubKind::model);
  }

 private:
  static std::string branch(const UploadTarget& target) { return target.branch == "main" ? "master" : target.branch; }

  Error refused(const HttpAnswer& answer, const std::string& id, const std::string& doing) const {
    if (!is_good(answer)) return refused_upload(client_, answer, id, doing);
    const std::string words = words_of(client_, answer);
    return Error(ErrorKind::bad_data,
                 fmt::format("{}: {}: {} refuses{}", doing, id, url_host(answer.url), words.empty() ? "" : ": " + words),
                 "look at " + page_url(client_, id, HubKind::model));
  }
};

}  // namespace

std::unique_ptr<UploadProtocol> modelscope_upload(HttpClient& client) { return std::make_unique<ModelScopeUpload>(client); }

}  // namespace loraine
