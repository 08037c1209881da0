#include "loraine/io/hub/fetch.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/hub/blob.h"
#include "loraine/io/hub/listing.h"
#include "loraine/io/hub/selection.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::string bytes_text(uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  if (mib < 0.1) return fmt::format("{} bytes", bytes);
  return mib < 1024 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.1f} GiB", mib / 1024);
}

std::string replaced(std::string text, char what, const std::string& with) {
  for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += with.size()) text.replace(at, 1, with);
  return text;
}

class Fetch {
 public:
  Fetch(Hub hub, const std::string& id, const HubAccess& access, HubKind kind)
      : client_(hub, access), id_(id), kind_(kind), listing_(ask_for_listing(client_, id, kind)) {
    snapshot_ = {hub, repository_folder(hub, id, access, kind), {}, listing_.commit};
    snapshot_.folder = snapshot_.repository / "snapshots" / listing_.commit;
  }

  Snapshot whole() { return load(select_files(listing_, kind_, client_.access().subfolder, id_)); }

  Snapshot one(const std::string& path) {
    if (!listing_.find(path))
      throw MissingFile(fmt::format("{}: the repository has no file {}", id_, path), "look at " + page_url(client_, id_, kind_));
    return load({{path}, "", {}});
  }

 private:
  Snapshot load(const Selection& selection) {
    const HubAccess& access = client_.access();
    if (snapshot_.hub == Hub::hugging_face) {
      write_ref(snapshot_.repository, access.revision, listing_.commit);
      keep_listing(snapshot_.repository, listing_);
    }
    std::vector<std::string> wanted = selection.files;
    if (!selection.index.empty()) {
      load(entry(selection.index));
      for (const std::string& shard : shards_of((snapshot_.folder / selection.index).string(), selection.index)) wanted.push_back(shard);
    }
    std::vector<ListedFile*> missing;
    uint64_t bytes = 0;
    for (const std::string& path : wanted)
      if (ListedFile& file = entry(path); !has_listed_size(snapshot_.folder / path, file)) {
        missing.push_back(&file);
        if (!has_listed_size(target(file).file, file)) bytes += *file.size;
      }
    announce(missing.size(), bytes);
    for (ListedFile* file : missing) load(*file);
    if (snapshot_.hub == Hub::hugging_face) note_absent(selection.absent);
    return snapshot_;
  }

  // Its size and hash are known then.
  ListedFile& entry(const std::string& path) {
    const auto found =
        std::find_if(listing_.files.begin(), listing_.files.end(), [&](const ListedFile& file) { return file.path == path; });
    if (found == listing_.files.end())
      throw Error(ErrorKind::bad_data, fmt::format("{}: its index of weights names {}, which the repository does not have", id_, path),
                  "the upload may be under way; run again later");
    complete_entry(client_, id_, kind_, listing_, *found);
    return *found;
  }

  // Hugging Face's blobs are named by their hash; ModelScope's files lie in the snapshot itself.
  BlobPlace target(const ListedFile& file) const {
    const fs::path root = cache_root(snapshot_.hub, client_.access());
    if (snapshot_.hub == Hub::hugging_face)
      return {snapshot_.repository / "blobs" / file.hash(), root / ".locks" / snapshot_.repository.filename() / (file.hash() + ".lock")};
    const std::string name = replaced(replaced(file.path, '/', "___"), '.', "_");
    return {
        snapshot_.folder / file.path,
        root / ".lock" / fmt::format("{}_{}_{}.lock", kind_ == HubKind::dataset ? "dataset" : "model", replaced(id_, '/', "___"), name)};
  }

  void load(const ListedFile& file) {
    const fs::path path = snapshot_.folder / file.path;
    if (has_listed_size(path, file)) return;
    const BlobPlace place = target(file);
    if (!has_listed_size(place.file, file)) load_blob(client_, id_, kind_, listing_.commit, file, place);
    if (snapshot_.hub == Hub::hugging_face) place_blob(place.file, path);
  }

  void announce(size_t files, uint64_t bytes) const {
    if (files == 0) return;
    make_folders(snapshot_.repository.string());
    struct statvfs disk {};
    if (::statvfs(snapshot_.repository.c_str(), &disk) == 0) {
      const uint64_t free = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
      if (free < bytes)
        throw Error(ErrorKind::io,
                    fmt::format("{}: its files take {}, and the disk of {} has {} left", id_, bytes_text(bytes),
                                snapshot_.repository.string(), bytes_text(free)),
                    "free some space, or put the cache on another disk: HF_HOME=DIR, or cache_dir");
    }
    if (bytes > 0 && transfer_screen().message)
      transfer_screen().message(fmt::format("downloading {}, revision {}: {} file{}, {}, from {} to {}", id_, listing_.commit, files,
                                            files == 1 ? "" : "s", bytes_text(bytes), url_host(client_.endpoint()),
                                            snapshot_.repository.string()));
  }

  // As huggingface_hub notes it, so that nobody asks for them again.
  void note_absent(const std::vector<std::string>& names) const {
    for (const std::string& name : names) {
      const fs::path path = snapshot_.repository / ".no_exist" / listing_.commit / name;
      if (name.ends_with("loraine.json") || is_there(path)) continue;
      make_folders(path.parent_path().string());
      write_file(path.string(), "");
    }
  }

  HttpClient client_;
  std::string id_;
  HubKind kind_;
  Listing listing_;
  Snapshot snapshot_;
};

}  // namespace

Snapshot fetch_snapshot(Hub hub, const std::string& id, const HubAccess& access, HubKind kind) {
  if (!is_plain_revision(access.revision))
    throw Error(ErrorKind::usage, fmt::format("model_revision is '{}', expected a branch, a tag or a commit", access.revision));
  return Fetch(hub, id, access, kind).whole();
}

Snapshot fetch_data_file(const std::string& id, const std::string& path, const HubAccess& access) {
  return Fetch(Hub::hugging_face, id, access, HubKind::dataset).one(path);
}

}  // namespace loraine
