// The caches on this machine, as huggingface_hub and modelscope lay them out. Called by hub.cpp to find snapshots, and by fetch.cpp to fill
// them.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "loraine/io/hub/environment.h"

namespace loraine {

// One revision of a repository in a cache.
struct Snapshot {
  Hub hub;
  std::filesystem::path repository;  // holds refs, blobs, snapshots, trees
  std::filesystem::path folder;
  std::string revision;  // a commit; of ModelScope as it was asked for
};

// The repository's folder: models--org--name.
std::filesystem::path repository_folder(Hub hub, const std::string& id, const HubAccess& access, HubKind kind);

// None where the cache has not that revision. Of Hugging Face: refs/REVISION names a commit, or REVISION is one; of ModelScope the present
// layout, then the older ones.
std::optional<Snapshot> find_snapshot(Hub hub, const std::string& id, const HubAccess& access, HubKind kind);
// The revisions that are there instead.
std::vector<std::string> revisions_of(const std::filesystem::path& repository);

// What a snapshot lacks for its kind: links that lead nowhere and shards that an index names; where the cache keeps the listing of its
// commit, what is needed by it, in the listed size, with `text` the tokenizer's files and templates too. Empty: it is whole.
std::vector<std::string> missing_files(const Snapshot& snapshot, HubKind kind, const std::string& subfolder, bool text);

// The snapshot's folder, or its one GGUF file. bad_data of several.
std::string place_in(const Snapshot& snapshot, const std::string& id, HubKind kind);

bool is_there(const std::filesystem::path& path);  // links followed

// Writes refs/REVISION when it says something else.
void write_ref(const std::filesystem::path& repository, const std::string& revision, const std::string& commit);

// Puts a blob into a snapshot: a relative link; where links are not to be had (HF_HUB_DISABLE_SYMLINKS, some file systems) the file itself.
void place_blob(const std::filesystem::path& blob, const std::filesystem::path& file);

}  // namespace loraine
