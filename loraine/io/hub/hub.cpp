// From a name to a place: path, cache, download.
#include "loraine/io/hub/hub.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/io/hub/cache.h"
#include "loraine/io/hub/data_file.h"
#include "loraine/io/hub/fetch.h"
#include "loraine/io/hub/listing.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

const char* not_here(HubKind kind) {
  return kind == HubKind::model     ? "no such model folder or file"
         : kind == HubKind::adapter ? "no such adapter folder"
                                    : "no such file or folder of data";
}

std::string download_command(const std::string& id, const std::string& revision, HubKind kind) {
  return fmt::format("hf download {}{}{}", id, kind == HubKind::dataset ? " --repo-type dataset" : "",
                     revision == "main" ? "" : " --revision " + revision);
}

[[noreturn]] void refuse(const std::string& name, const HubAccess& access, HubKind kind) {
  if (!is_hub_id(name))
    throw MissingFile(fmt::format("{}: {}", name, not_here(kind)),
                      kind == HubKind::model ? "give the path of a Hugging Face folder or of a .gguf file, or an id like org/name of a hub"
                                             : "give the path of its folder, or an id like org/name of a hub");
  throw MissingFile(fmt::format("{}: {}, and no such id in the local caches {} and {}", name, not_here(kind),
                                cache_root(Hub::hugging_face, access).string(), cache_root(Hub::modelscope, access).string()),
                    fmt::format("HF_HUB_OFFLINE is set, and nothing is downloaded: unset it, or fetch it on a machine with a network: {0}, "
                                "or {0} --local-dir DIR and give DIR",
                                download_command(name, access.revision, kind)));
}

std::string incomplete_text(const std::string& id, const Snapshot& snapshot, std::vector<std::string> missing) {
  const size_t count = missing.size();
  if (count > 10) missing.resize(10);
  return fmt::format("{}: {} in the local cache is incomplete; missing: {}{}", id, snapshot.folder.string(), fmt::join(missing, ", "),
                     count > 10 ? fmt::format(" and {} more", count - 10) : "");
}

// The repository is there, and that revision is not.
void refuse_revision(const std::string& id, const HubAccess& access, HubKind kind) {
  const fs::path repository = repository_folder(Hub::hugging_face, id, access, kind);
  if (!is_there(repository) || !is_plain_revision(access.revision)) return;
  const std::vector<std::string> there = revisions_of(repository);
  const std::string command = download_command(id, access.revision, kind);
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} in the local cache has no revision {}", id, repository.string(), access.revision),
              there.empty() ? "fetch it: " + command + ", or unset HF_HUB_OFFLINE"
                            : fmt::format("it has {}; name one as model_revision, or fetch it: {}, or unset HF_HUB_OFFLINE",
                                          fmt::join(there, ", "), command));
}

void check_subfolder(const HubAccess& access) {
  if (!access.subfolder.empty() && !is_safe_path(access.subfolder))
    throw Error(ErrorKind::usage,
                fmt::format("adapter_folder is '{}', expected a folder within the adapter's, like checkpoints/last", access.subfolder));
}

std::string within(const std::string& folder, const HubAccess& access, HubKind kind) {
  return kind == HubKind::adapter && !access.subfolder.empty() ? folder + "/" + access.subfolder : folder;
}

FoundPlace found(const std::string& id, const Snapshot& snapshot, const HubAccess& access, HubKind kind, const std::string& note = "") {
  const std::string path = within(place_in(snapshot, id, kind), access, kind);
  return {path, fmt::format("{}: {} in the local cache, revision {}{}", id, path, snapshot.revision, note)};
}

// A whole snapshot of the cache, or where its branch or tag has another commit by now, that one. A hub that does not say is passed over.
FoundPlace found_up_to_date(const std::string& id, const Snapshot& snapshot, const HubAccess& access, HubKind kind) {
  if (offline() || access.revision == snapshot.revision) return found(id, snapshot, access, kind);
  HttpClient client(Hub::hugging_face, access);
  std::string why;
  const std::optional<std::string> commit = ask_for_commit(client, id, kind, why);
  if (!commit) return found(id, snapshot, access, kind, fmt::format("; whether {} has a newer one is not known: {}", access.revision, why));
  if (*commit == snapshot.revision) return found(id, snapshot, access, kind);
  return found(id, fetch_snapshot(Hub::hugging_face, id, access, kind), access, kind);
}

std::atomic<const std::atomic<bool>*>& stop_flag() {
  static std::atomic<const std::atomic<bool>*> flag{nullptr};
  return flag;
}

TransferScreen& screen() {
  static TransferScreen screen;
  return screen;
}

}  // namespace

StopsTransfers::StopsTransfers(const std::atomic<bool>& stop) { stop_flag() = &stop; }
StopsTransfers::~StopsTransfers() { stop_flag() = nullptr; }
bool transfers_stopped() {
  const std::atomic<bool>* stop = stop_flag();
  return stop && *stop;
}

void set_transfer_screen(TransferScreen new_screen) { screen() = std::move(new_screen); }
const TransferScreen& transfer_screen() { return screen(); }

bool is_hub_id(const std::string& name) {
  const auto good = [](const std::string& part) {
    return !part.empty() && part.size() <= 96 && part.front() != '.' && part.front() != '-' && part.find("..") == part.npos &&
           part.find("--") == part.npos &&
           std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; });
  };
  if (name.ends_with(".gguf") || name.ends_with(".safetensors") || name.ends_with(".json") || name.ends_with(".jsonl"))
    return false;  // files
  const size_t slash = name.find('/');
  return slash == name.npos ? good(name) : good(name.substr(0, slash)) && good(name.substr(slash + 1));
}

std::optional<FoundPlace> find_repository(const std::string& id, const HubAccess& access, HubKind kind) {
  if (!is_hub_id(id)) return std::nullopt;
  check_subfolder(access);
  const Hub first = access.hub.value_or(preferred_hub()), second = first == Hub::modelscope ? Hub::hugging_face : Hub::modelscope;
  std::optional<Snapshot> partial;
  std::vector<std::string> missing;
  for (const Hub hub : {first, second}) {
    if (access.hub.value_or(hub) != hub) continue;
    if (const auto snapshot = find_snapshot(hub, id, access, kind)) {
      std::vector<std::string> lacking = missing_files(*snapshot, kind, kind == HubKind::adapter ? access.subfolder : "", !offline());
      if (lacking.empty() && hub == first && hub == Hub::hugging_face) return found_up_to_date(id, *snapshot, access, kind);
      if (lacking.empty()) return found(id, *snapshot, access, kind);
      if (!partial) partial = snapshot, missing = std::move(lacking);
    }
  }
  if (!offline()) {
    try {
      return found(id, fetch_snapshot(first, id, access, kind), access, kind);
    } catch (const HubUnreachable& error) {
      if (!partial) throw;
      throw HubUnreachable(error.kind, fmt::format("{}; {}", incomplete_text(id, *partial, missing), error.what()), error.hint);
    }
  }
  if (partial)
    throw Error(ErrorKind::bad_data, incomplete_text(id, *partial, missing),
                "fetch the rest: " + download_command(id, access.revision, kind) + ", or unset HF_HUB_OFFLINE");
  refuse_revision(id, access, kind);
  return std::nullopt;
}

FoundPlace find_place(const std::string& name, const HubAccess& access, HubKind kind) {
  check_subfolder(access);
  if (is_there(name)) {
    const std::string path = within(name, access, kind);
    if (!is_there(path))
      throw MissingFile(fmt::format("{}: no such folder (adapter_folder)", path), "correct adapter_folder, or leave it out");
    return {path, ""};
  }
  try {
    if (auto place = find_repository(name, access, kind)) return *place;
  } catch (const HubRefusal& error) {  // it may have been meant as a path
    if (!error.not_there) throw;
    const std::string text = error.what(), own = name + ": ";
    throw MissingFile(fmt::format("{}: {} here, and {}", name, not_here(kind), text.starts_with(own) ? text.substr(own.size()) : text),
                      error.hint);
  } catch (const HubUnreachable& error) {
    const bool started = std::string(error.what()).starts_with(name + ": ");
    if (started) throw;
    throw Error(error.kind, fmt::format("{}: {} here, and {}", name, not_here(kind), error.what()), error.hint);
  }
  refuse(name, access, kind);
}

FoundPlace find_data_file(const std::string& name, const HubAccess& access) {
  if (is_there(name)) return {name, ""};
  const size_t slash = name.rfind('/');
  const std::string id = slash == name.npos ? "" : name.substr(0, slash), file = name.substr(slash + 1);  // npos + 1: the whole
  if (id.find('/') == id.npos || !is_hub_id(id) || !is_safe_path(file))
    throw MissingFile(name + ": no such file", "give the path of a file, or org/name/FILE of a data set at Hugging Face's hub");
  const auto place = [&](const Snapshot& snapshot, const std::string& note) {
    const std::string path = (snapshot.folder / file).string();
    return FoundPlace{path, fmt::format("{}: {} in the local cache, revision {}{}", name, path, snapshot.revision, note)};
  };
  std::optional<Snapshot> snapshot = find_snapshot(Hub::hugging_face, id, access, HubKind::dataset);
  if (snapshot && !is_there(snapshot->folder / file)) snapshot.reset();
  if (offline()) {
    if (snapshot) return place(*snapshot, "");
    throw MissingFile(
        fmt::format("{}: no such file, and not in the local cache {}", name, cache_root(Hub::hugging_face, access).string()),
        fmt::format("HF_HUB_OFFLINE is set, and nothing is downloaded: unset it, or fetch it on a machine with a network: {} {}",
                    download_command(id, access.revision, HubKind::dataset), file));
  }
  try {
    if (snapshot) {
      HttpClient client(Hub::hugging_face, access);
      std::string why;
      const std::optional<std::string> commit = ask_for_commit(client, id, HubKind::dataset, why);
      if (!commit) return place(*snapshot, fmt::format("; whether {} has a newer one is not known: {}", access.revision, why));
      if (*commit == snapshot->revision) return place(*snapshot, "");
    }
    return place(fetch_data_file(id, file, access), "");
  } catch (const HubRefusal& error) {
    if (!error.not_there) throw;
    throw MissingFile(fmt::format("{}: no such file here, and {}", name, error.what()), error.hint);
  }
}

}  // namespace loraine
