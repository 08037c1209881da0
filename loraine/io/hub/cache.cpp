// The layouts of two caches.
#include "loraine/io/hub/cache.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/hub/listing.h"
#include "loraine/io/hub/selection.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += with.size()) text.replace(at, what.size(), with);
  return text;
}

std::string kind_name(HubKind kind) { return kind == HubKind::dataset ? "datasets" : "models"; }

std::string branch_of(Hub hub, const std::string& revision) { return hub == Hub::modelscope && revision == "main" ? "master" : revision; }

std::optional<Snapshot> hugging_face_snapshot(const fs::path& repository, const std::string& revision) {
  if (!is_there(repository)) return std::nullopt;
  std::string commit = revision;
  if (const fs::path ref = repository / "refs" / revision; is_there(ref)) {
    commit = read_file(ref.string(), 4096);
    commit.erase(std::min(commit.find_last_not_of(" \r\n\t") + 1, commit.size()));
  }
  const fs::path folder = repository / "snapshots" / commit;
  if (!is_plain_revision(commit) || commit.find('/') != commit.npos || !is_there(folder)) return std::nullopt;
  return Snapshot{Hub::hugging_face, repository, folder, commit};
}

std::optional<Snapshot> modelscope_snapshot(const fs::path& root, const fs::path& repository, const std::string& id,
                                            const std::string& branch, HubKind kind) {
  if (id.find('/') == id.npos) return std::nullopt;
  if (const fs::path folder = repository / "snapshots" / branch; is_there(folder))
    return Snapshot{Hub::modelscope, repository, folder, branch};
  const std::string spelled = replaced(id, ".", "___"), kinds = kind_name(kind);
  for (const fs::path& place :
       {root / kinds / spelled, root / "hub" / kinds / spelled, root / "hub" / spelled, root / spelled, root / "hub" / id})
    if (is_there(place)) return Snapshot{Hub::modelscope, place, place, "as fetched"};
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
  for (const std::string& shard : shards_of((folder / index).string(), index))
    if (!is_there(folder / shard)) missing.push_back(shard);
}

// Without a listing: by what there is.
void add_missing_by_names(const fs::path& folder, HubKind kind, std::vector<std::string>& missing) {
  const std::vector<std::string> names = names_in(folder, missing);
  const auto has = [&](const char* name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  const bool gguf = std::any_of(names.begin(), names.end(), [](const std::string& name) { return name.ends_with(".gguf"); });
  if (kind == HubKind::adapter) {
    if (!has("adapter_config.json")) missing.push_back("adapter_config.json");
    if (!has("adapter_model.safetensors") && !has("adapter_model.bin")) missing.push_back("adapter_model.safetensors");
  }
  if (kind != HubKind::model) return;
  if (!has("config.json")) {
    if (has("adapter_config.json")) missing.clear();  // whoever opens it says what it is
    else if (!gguf || !missing.empty()) missing.push_back("config.json");
    return;
  }
  bool weights = has("model.safetensors") || has("pytorch_model.bin");
  for (const char* index : {"model.safetensors.index.json", "pytorch_model.bin.index.json"})
    if (!weights && has(index)) {
      add_missing_shards(folder, index, missing);
      weights = true;
    }
  if (!weights && missing.empty()) missing.push_back("model.safetensors");
}

void add_missing_by_listing(const Listing& listing, const Snapshot& snapshot, HubKind kind, const std::string& subfolder, bool text,
                            std::vector<std::string>& missing) {
  const Selection selection = select_files(listing, kind, subfolder, snapshot.folder.string());
  std::vector<std::string> wanted = selection.files;
  if (!selection.index.empty() && is_there(snapshot.folder / selection.index))
    for (const std::string& shard : shards_of((snapshot.folder / selection.index).string(), selection.index)) wanted.push_back(shard);
  for (const std::string& path : wanted) {
    if (const Need need = need_of(path, kind); need == Need::no || (need == Need::text && !text)) continue;
    const ListedFile* listed = listing.find(path);
    std::error_code failed;
    const uint64_t size = fs::file_size(snapshot.folder / path, failed);
    if (failed || !listed || (listed->size && *listed->size != size)) missing.push_back(path);
  }
}

}  // namespace

bool is_there(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

bool is_plain_revision(const std::string& revision) {
  return !revision.empty() && revision.size() < 256 && revision.front() != '/' && revision.find("..") == revision.npos &&
         std::none_of(revision.begin(), revision.end(), [](unsigned char c) { return c < 32; });
}

fs::path repository_folder(Hub hub, const std::string& id, const HubAccess& access, HubKind kind) {
  const fs::path root = cache_root(hub, access);
  const std::string name = replaced(id, "/", "--");
  return hub == Hub::hugging_face ? root / (kind_name(kind) + "--" + name) : root / kind_name(kind) / name;
}

std::optional<Snapshot> find_snapshot(Hub hub, const std::string& id, const HubAccess& access, HubKind kind) {
  const std::string revision = branch_of(hub, access.revision);
  if (!is_plain_revision(revision)) return std::nullopt;
  const fs::path repository = repository_folder(hub, id, access, kind);
  return hub == Hub::hugging_face ? hugging_face_snapshot(repository, revision)
                                  : modelscope_snapshot(cache_root(hub, access), repository, id, revision, kind);
}

std::vector<std::string> revisions_of(const fs::path& repository) {
  std::vector<std::string> there;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(repository / "snapshots", failed)) there.push_back(entry.path().filename().string());
  std::sort(there.begin(), there.end());
  return there;
}

std::vector<std::string> missing_files(const Snapshot& snapshot, HubKind kind, const std::string& subfolder, bool text) {
  std::vector<std::string> missing;
  const std::optional<Listing> listing =
      snapshot.hub == Hub::hugging_face ? read_kept_listing(snapshot.repository, snapshot.revision) : std::nullopt;
  // Of a repository of GGUF files one is enough.
  if (listing && (kind != HubKind::model || listing->find("config.json")))
    add_missing_by_listing(*listing, snapshot, kind, subfolder, text, missing);
  else add_missing_by_names(subfolder.empty() ? snapshot.folder : snapshot.folder / subfolder, kind, missing);
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  return missing;
}

std::string place_in(const Snapshot& snapshot, const std::string& id, HubKind kind) {
  if (kind != HubKind::model || is_there(snapshot.folder / "config.json") || is_there(snapshot.folder / "adapter_config.json"))
    return snapshot.folder.string();
  std::vector<std::string> broken, gguf;
  for (const std::string& name : names_in(snapshot.folder, broken))
    if (name.ends_with(".gguf")) gguf.push_back(name);
  if (gguf.size() == 1) return (snapshot.folder / gguf[0]).string();
  if (gguf.empty()) return snapshot.folder.string();
  throw Error(ErrorKind::bad_data,
              fmt::format("{}: {} holds {} GGUF files: {}", id, snapshot.folder.string(), gguf.size(), fmt::join(gguf, ", ")),
              fmt::format("give the path of one: {}", (snapshot.folder / gguf[0]).string()));
}

void write_ref(const fs::path& repository, const std::string& revision, const std::string& commit) {
  if (revision == commit) return;
  const fs::path ref = repository / "refs" / revision;
  if (fs::is_regular_file(ref) && read_file(ref.string(), 4096) == commit) return;
  make_folders(ref.parent_path().string());
  write_file(ref.string(), commit);
}

void place_blob(const fs::path& blob, const fs::path& file) {
  if (is_there(file)) return;
  make_folders(file.parent_path().string());
  std::error_code failed;
  fs::remove(file, failed);  // a link that leads nowhere
  if (!is_set("HF_HUB_DISABLE_SYMLINKS")) {
    const fs::path relative = blob.lexically_normal().lexically_relative(file.parent_path().lexically_normal());
    if (::symlink(relative.c_str(), file.c_str()) == 0 || (errno == EEXIST && is_there(file))) return;
  }
  if (::link(blob.c_str(), file.c_str()) == 0) return;
  const fs::path copy = file.string() + ".copy";
  if (fs::copy_file(blob, copy, fs::copy_options::overwrite_existing, failed) && !failed) fs::rename(copy, file, failed);
  if (failed)
    throw Error(ErrorKind::io, fmt::format("{}: cannot be put in place: {}", file.string(), failed.message()),
                "check free space and permissions of the cache");
}

}  // namespace loraine
