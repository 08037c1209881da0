// The layouts of two caches. Called through hub_cache.h.
#include "loraine/io/hub_cache.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

bool is_set(const char* name) {
  std::string value = variable(name).value_or("");
  std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

bool is_there(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

fs::path cache_home() {
  if (const auto home = variable("XDG_CACHE_HOME")) return *home;
  return fs::path(variable("HOME").value_or("/")) / ".cache";
}

fs::path hugging_face_root() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const auto root = variable(name)) return *root;
  if (const auto home = variable("HF_HOME")) return fs::path(*home) / "hub";
  return cache_home() / "huggingface" / "hub";
}

fs::path modelscope_root() {
  if (const auto root = variable("MODELSCOPE_CACHE")) return *root;
  return fs::path(variable("HOME").value_or("/")) / ".cache" / "modelscope";
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += with.size()) text.replace(at, what.size(), with);
  return text;
}

std::string kind_name(HubKind kind) { return kind == HubKind::dataset ? "datasets" : "models"; }

// A revision as part of a path.
bool is_plain(const std::string& revision) { return !revision.empty() && revision.front() != '/' && revision.find("..") == revision.npos; }

struct Snapshot {
  fs::path folder;
  std::string revision;  // a commit, or as it was asked for
};

// Hugging Face: refs/REVISION holds a commit, or REVISION is one.
std::optional<Snapshot> hugging_face_snapshot(const std::string& id, const std::string& revision, HubKind kind) {
  const fs::path repository = hugging_face_root() / (kind_name(kind) + "--" + replaced(id, "/", "--"));
  if (!is_there(repository) || !is_plain(revision)) return std::nullopt;
  std::string commit = revision;
  if (const fs::path ref = repository / "refs" / revision; is_there(ref)) {
    commit = read_file(ref.string(), 4096);
    commit.erase(std::min(commit.find_last_not_of(" \r\n\t") + 1, commit.size()));
  }
  if (is_plain(commit) && commit.find('/') == commit.npos && is_there(repository / "snapshots" / commit))
    return Snapshot{repository / "snapshots" / commit, commit};
  std::vector<std::string> there;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(repository / "snapshots", failed)) there.push_back(entry.path().filename().string());
  std::sort(there.begin(), there.end());
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} in the local cache has no revision {}", id, repository.string(), revision),
              there.empty() ? fmt::format("fetch it: hf download {}", id)
                            : fmt::format("it has {}; name one as model_revision, or fetch it: hf download {} --revision {}",
                                          fmt::join(there, ", "), id, revision));
}

// ModelScope's, old and new.
std::optional<Snapshot> modelscope_snapshot(const std::string& id, const std::string& revision, HubKind kind) {
  const fs::path root = modelscope_root();
  const std::string branch = revision == "main" ? "master" : revision, kinds = kind_name(kind);
  if (id.find('/') == id.npos || !is_plain(branch)) return std::nullopt;
  if (const fs::path folder = root / kinds / replaced(id, "/", "--") / "snapshots" / branch; is_there(folder))
    return Snapshot{folder, branch};
  const std::string spelled = replaced(id, ".", "___");
  for (const fs::path& place :
       {root / kinds / spelled, root / "hub" / kinds / spelled, root / "hub" / spelled, root / spelled, root / "hub" / id})
    if (is_there(place)) return Snapshot{place, "as fetched"};
  return std::nullopt;
}

// Names in the folder; those of links that lead nowhere go to `missing`.
std::vector<std::string> names_in(const fs::path& folder, std::vector<std::string>& missing) {
  std::vector<std::string> names;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    (is_there(entry.path()) ? names : missing).push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void add_missing_shards(const fs::path& folder, const std::string& index, std::vector<std::string>& missing) {
  const Json json = parse_json_file((folder / index).string());
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) return;  // whoever opens it says so
  for (const auto& [tensor, file] : json["weight_map"].items())
    if (file.is_string() && !is_there(folder / file.get<std::string>())) missing.push_back(file.get<std::string>());
}

// The folder, or its one GGUF file; throws where something of it is missing.
std::string complete_place(const std::string& id, const Snapshot& snapshot, HubKind kind) {
  std::vector<std::string> missing;
  const std::vector<std::string> names = names_in(snapshot.folder, missing);
  const auto has = [&](const char* name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  std::vector<std::string> gguf;
  for (const std::string& name : names)
    if (name.ends_with(".gguf")) gguf.push_back(name);
  const bool model = kind == HubKind::model;
  if (model && !has("config.json") && has("adapter_config.json")) return snapshot.folder.string();  // whoever opens it says what it is
  if (model && !has("config.json") && !gguf.empty() && missing.empty()) {
    if (gguf.size() == 1) return (snapshot.folder / gguf[0]).string();
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: {} holds {} GGUF files: {}", id, snapshot.folder.string(), gguf.size(), fmt::join(gguf, ", ")),
                fmt::format("give the path of one: {}", (snapshot.folder / gguf[0]).string()));
  }
  if (model) {
    if (!has("config.json")) missing.push_back("config.json");
    bool weights = has("model.safetensors") || has("pytorch_model.bin");
    for (const char* index : {"model.safetensors.index.json", "pytorch_model.bin.index.json"})
      if (!weights && has(index)) {
        add_missing_shards(snapshot.folder, index, missing);
        weights = true;
      }
    if (!weights && missing.empty()) missing.push_back("model.safetensors");
  } else if (kind == HubKind::adapter) {
    if (!has("adapter_config.json")) missing.push_back("adapter_config.json");
    if (!has("adapter_model.safetensors") && !has("adapter_model.bin")) missing.push_back("adapter_model.safetensors");
  }
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  if (missing.empty()) return snapshot.folder.string();
  const size_t count = missing.size();
  if (count > 10) missing.resize(10);
  throw Error(ErrorKind::bad_data,
              fmt::format("{}: {} in the local cache is incomplete; missing: {}{}", id, snapshot.folder.string(), fmt::join(missing, ", "),
                          count > 10 ? fmt::format(" and {} more", count - 10) : ""),
              fmt::format("fetch the rest: hf download {}{}", id, kind == HubKind::dataset ? " --repo-type dataset" : ""));
}

[[noreturn]] void refuse(const std::string& name, const std::string& revision, HubKind kind) {
  const char* what = kind == HubKind::model ? "no such model folder or file" : "no such adapter folder";
  if (!is_hub_id(name) || name.find('/') == name.npos)
    throw MissingFile(fmt::format("{}: {}", name, what),
                      kind == HubKind::model
                          ? "give the path of a Hugging Face folder or of a .gguf file, or an id like org/name that is in the local cache"
                          : "give the path of its folder, or an id like org/name that is in the local cache");
  const std::string more = revision == "main" ? "" : " --revision " + revision;
  throw MissingFile(
      fmt::format("{}: {}, and no such id in the local caches {} and {}", name, what, hugging_face_root().string(),
                  modelscope_root().string()),
      fmt::format(
          "loraine does not download; fetch it: hf download {0}{1} (into the cache), or hf download {0}{1} --local-dir DIR and give "
          "DIR; from ModelScope: modelscope download --model {0}",
          name, more));
}

}  // namespace

bool is_hub_id(const std::string& name) {
  const auto good = [](const std::string& part) {
    return !part.empty() && part.front() != '.' && part.front() != '-' && part.find("..") == part.npos && part.find("--") == part.npos &&
           std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; });
  };
  const size_t slash = name.find('/');
  return slash == name.npos ? good(name) : good(name.substr(0, slash)) && good(name.substr(slash + 1));
}

std::optional<FoundPlace> find_in_caches(const std::string& id, const std::string& revision, HubKind kind) {
  if (!is_hub_id(id)) return std::nullopt;
  using Find = std::optional<Snapshot> (*)(const std::string&, const std::string&, HubKind);
  std::vector<Find> finders = {hugging_face_snapshot, modelscope_snapshot};
  if (is_set("USE_MODELSCOPE_HUB")) std::swap(finders[0], finders[1]);
  for (const Find find : finders)
    if (const auto snapshot = find(id, revision, kind)) {
      const std::string path = complete_place(id, *snapshot, kind);
      return FoundPlace{path, fmt::format("{}: {} in the local cache, revision {}", id, path, snapshot->revision)};
    }
  return std::nullopt;
}

FoundPlace find_place(const std::string& name, const std::string& revision, HubKind kind) {
  if (is_there(name)) return {name, ""};
  if (auto found = find_in_caches(name, revision, kind)) return *found;
  refuse(name, revision, kind);
}

}  // namespace loraine
